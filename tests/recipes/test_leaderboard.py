"""The leaderboard is made of its entries, and takes only what decides and what everybody can run again."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.test_speedrun import attempt, seeds_of
from vitrail.core.errors import BadInput
from vitrail.core.files import read_json
from vitrail.jobs.speedrun.verdict import verdict
from vitrail.recipes.leaderboard import DOCS, add, main, page, tables
from vitrail.recipes.speedruns import TRACKS
from vitrail.records.record import load_record, write_record
from vitrail.records.speedrun import SpeedrunResult


def run(folder: Path, *accuracies: float, changes: tuple[str, ...] = (), **changed: Any) -> Path:
    """A finished speedrun."""
    made = verdict(TRACKS[0], {"type": "Pretrain"}, seeds_of(*accuracies, **changed), changes=changes)
    write_record(folder / "speedrun.json", made)
    return folder


GOOD = (0.809, 0.812, 0.806, 0.811, 0.805)


def test_the_page_is_that_of_its_entries() -> None:
    now = (DOCS / "speedrun.md").read_text(encoding="utf-8")
    assert now == page(), "run: python -m vitrail.recipes.leaderboard"
    for file in (DOCS / "speedruns").glob("*.json"):
        assert load_record(SpeedrunResult, file).track in TRACKS


def test_an_entry_is_taken_whole_and_has_its_row(tmp_path: Path) -> None:
    assert "There are no entries yet." in tables(tmp_path / "docs")
    made = run(tmp_path / "a", *GOOD)
    entry = add(made, tmp_path / "docs")
    assert entry.name == "cifar10-80-2026-11-29-ccccccc.json"
    assert read_json(entry) == read_json(made / "speedrun.json")
    assert add(made, tmp_path / "docs") == entry, "once more changes nothing"
    slower = run(tmp_path / "b", *GOOD, commit="d" * 40, seconds=2000.0, compiled="layers", changes=("steps: 1 → 2",))
    add(slower, tmp_path / "docs")
    text = tables(tmp_path / "docs")
    rows = [line for line in text.splitlines() if "speedruns/" in line]
    assert len(rows) == 2
    assert rows[0].startswith("| `cifar10-80` | yes | 80.86 % (")
    assert "| a processor, 2 cores, float32, torch 2.13.0 | ccccccc | 2026-11-29 |" in rows[0]
    assert rows[1].startswith("| `cifar10-80` | no |")
    assert "`cifar10-speedrun`, but steps: 1 → 2" in rows[1]
    assert "torch 2.13.0, compiled: layers | ddddddd |" in rows[1]
    (tmp_path / "docs/speedrun.md").write_text("a\n<!-- leaderboard -->\nold\n<!-- end of leaderboard -->\nb\n")
    assert page(tmp_path / "docs") == f"a\n<!-- leaderboard -->\n\n{text}<!-- end of leaderboard -->\nb\n"


def test_what_does_not_decide_or_cannot_be_run_again_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"does not decide: 4 of 5 seeds"):
        add(run(tmp_path / "a", *GOOD[:4]), tmp_path)
    with pytest.raises(BadInput, match="other than in its commit"):
        add(run(tmp_path / "b", *GOOD, changed=True), tmp_path)
    with pytest.raises(BadInput, match="no commit is known"):
        add(run(tmp_path / "c", *GOOD, commit=None), tmp_path)
    with pytest.raises(BadInput, match=r"holds no speedrun\.json"):
        add(tmp_path / "d", tmp_path)
    other = replace(TRACKS[0], bar=0.1)
    write_record(tmp_path / "e/speedrun.json", verdict(other, {}, [attempt(seed) for seed in range(5)]))
    with pytest.raises(BadInput, match="which this version has not"):
        add(tmp_path / "e", tmp_path)
    add(run(tmp_path / "f", *GOOD), tmp_path)
    with pytest.raises(BadInput, match="exists already"):
        add(run(tmp_path / "g", *GOOD[:4], 0.9), tmp_path)


def test_bad_usage_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["a", "b"])
    assert ended.value.code == 2
    assert "usage: python -m vitrail.recipes.leaderboard" in capsys.readouterr().err
