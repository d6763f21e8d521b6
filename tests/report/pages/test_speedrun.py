"""The page of a speedrun: the verdict first, every seed, what is not the track's recipe, whatever is missing."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.test_speedrun import BAR, attempt, seeds_of
from vitrail.jobs.speedrun.verdict import verdict
from vitrail.records.record import as_json
from vitrail.report.index import make


def content(**changed: Any) -> dict[str, Any]:
    made = verdict(
        BAR,
        {"type": "Pretrain", "steps": 7, "seed": 0},
        [*seeds_of(0.809, 0.812, 0.806, 0.811), attempt(4, accuracy=0.805, seconds=120.0)],
        changes=("steps: 400 → 7",),
        asked=(3, 5),
        starts={"0": 1, "1": 2},
        command=("vitrail", "speedrun", "digits", "--out", "a b"),
    )
    return {**as_json(made), **changed}


def page_of(folder: Path, held: dict[str, Any]) -> str:
    (folder / "speedrun.json").write_text(json.dumps(held))
    return make(folder).read_text(encoding="utf-8")


def test_the_page_says_the_verdict_and_each_seed(tmp_path: Path) -> None:
    page = page_of(tmp_path, content())
    assert "Not reached: 5 seeds by another recipe" in page
    assert "1 beyond the limit of 1 min 40 s" in page
    assert "80.5\u00a0%" in page
    assert "2\u00a0min<" in page
    assert "steps: 400 → 7" in page
    assert "More seeds were asked for after the first had been seen: 3, then 5." in page
    assert "seed 1, 2 times" in page
    assert "compiler cold, vitrail&#39;s folder warm" in page
    assert "c" * 40 in page
    assert "&#39;a b&#39;" in page
    assert page.count("<figure") == 1


def test_what_is_not_known_is_left_out(tmp_path: Path) -> None:
    unknown = {**as_json(attempt()), "commit": None, "load": None}
    page = page_of(tmp_path, content(attempts=[unknown], asked=[5], starts={}))
    assert "not known: no git checkout" in page
    assert "Load before a seed" not in page
    assert "More seeds were asked for" not in page


@pytest.mark.parametrize("lost", ["track", "config", "attempts", "asked", "starts", "command", "finding", "undecided"])
def test_a_page_is_made_without(lost: str, tmp_path: Path) -> None:
    whole = content()
    del whole[lost]
    assert "<h1" in page_of(tmp_path, whole)
