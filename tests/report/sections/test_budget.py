"""The page of a run by a budget says what was planned and what came of it."""

import re
from pathlib import Path

from vitrail.core.files import write_json
from vitrail.report.folder import Folder
from vitrail.report.page import html
from vitrail.report.sections.budget import section

PLAN = {
    "depth": 4,
    "width": 128,
    "steps": 1500,
    "batch": 128,
    "expected": 0.61,
    "interval": [0.57, 0.65],
    "budget_seconds": 600.0,
    "why": ["of 3e+13 FLOPs 4.2 layers reach most, by the law", "mirrored they are other things: none is"],
}


def text_of(folder: Path, result: dict[str, object] | None) -> str:
    found = section(Folder(folder), result)
    assert found is not None
    return re.sub(r"<[^>]+>|\s+", " ", " ".join(str(html(block)) for block in found.blocks if block))


def test_what_was_planned_stands_beside_what_was_reached(tmp_path: Path) -> None:
    write_json(tmp_path / "plan.json", PLAN)
    before = text_of(tmp_path, None)
    for said in ("4 layers of width 128", "61.0", "57.0", "10 min", "mirrored", "by the law."):
        assert said in before.replace("\u00a0", " ").replace("Mirrored", "mirrored")
    assert "reached" not in before.replace("reach most", "")
    assert "reached" in text_of(tmp_path, {"accuracy": 0.6, "interval": [0.59, 0.61]})


def test_a_run_without_a_plan_has_no_such_section_and_an_odd_one_shows_what_is_there(tmp_path: Path) -> None:
    assert section(Folder(tmp_path), None) is None
    write_json(tmp_path / "plan.json", {"depth": None, "expected": "much", "interval": [1], "why": 3})
    said = text_of(tmp_path, {"accuracy": 0.5, "interval": None})
    assert "50.0" in said
    assert "None" not in said
