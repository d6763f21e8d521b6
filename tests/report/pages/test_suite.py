"""The page of a suite: means over fewer tasks, absent tasks, two models; hostile and missing text."""

from pathlib import Path
from typing import Any

import pytest

from tests.report.folders import HOSTILE, write
from vitrail.report.index import make


def task(name: str, accuracy: float | None, group: str, **more: Any) -> dict[str, Any]:
    score: dict[str, Any] = {"of": "fine-tuned", "accuracy": accuracy, "interval": None, "count": 100}
    if accuracy is not None:
        score |= {
            "interval": [accuracy - 0.05, accuracy + 0.04],
            "against": {"accuracy": accuracy - 0.1, "interval": [accuracy - 0.15, accuracy - 0.05]},
            "difference": {"value": 0.1, "interval": [0.02, 0.17], "how": "paired by images"},
        }
    return {
        "name": name,
        "group": group,
        "in_means": True,
        "state": "done" if accuracy is not None else "absent",
        "sentence": "" if accuracy is not None else "not here",
        "layout": "place/train|test/CLASS/FILE",
        "scores": [score] if accuracy is not None else [],
        "published": [{"model": "ViT-H/14", "accuracy": 0.9, "source": "Table 9"}],
        **more,
    }


def mean(group: str, tasks: int, expected: int) -> dict[str, Any]:
    return {
        "of": "fine-tuned",
        "group": group,
        "tasks": tasks,
        "expected": expected,
        "mean": {"value": 0.7123, "interval": [0.70, 0.72]},
        "against": {"value": 0.61, "interval": [0.6, 0.62]},
        "difference": {"value": 0.1, "interval": [0.05, 0.15]},
        "compared": tasks,
        "published": [{"model": "ViT-H/14", "accuracy": 0.8765, "tasks": tasks}],
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tasks = [task("Caltech", 0.8, "Natural"), task(HOSTILE, 0.6, "Natural"), task("Clevr", None, "Structured")]
    content = {
        "suite": "mine",
        "groups": ["Natural", "Structured"],
        "model": "runs/a",
        "against": "runs/b",
        "method": {"type": "FineTuned"},
        "sentence": "runs/a is 10.0 points better than runs/b.",
        "headline": "fine-tuned",
        "choice": None,
        "tasks": tasks,
        "means": [mean("Natural", 2, 2), mean("all tasks", 2, 3)],
        "seconds": 12.0,
    }
    write(tmp_path / "s/suite.json", content)
    return tmp_path / "s"


def test_it_begins_with_the_finding_and_with_what_is_missing(folder: Path) -> None:
    page = make(folder).read_text()
    assert "runs/a is 10.0 points better than runs/b. Of 3 tasks 2 are done; 1 data absent." in page
    assert "mean of 2 of 3" in page  # where it is over fewer tasks
    assert "place/train|test/CLASS/FILE" in page
    assert "80.0\xa0% (75.0–84.0\xa0%)" in page
    assert "+10.0 (+2.0 to +17.0)" in page
    assert "compared image by image" in page
    assert "87.7\xa0%" in page or "87.6\xa0%" in page  # the published mean of the same tasks


def test_names_are_other_peoples_text(folder: Path) -> None:
    page = make(folder).read_text()
    assert HOSTILE not in page


def test_an_unfinished_or_damaged_table_still_makes_a_page(tmp_path: Path) -> None:
    write(tmp_path / "new/suite.json", {"suite": "vtab"})
    assert "This suite has no results yet." in make(tmp_path / "new").read_text()
    write(tmp_path / "odd/suite.json", {"tasks": [{"name": "a"}, 3, None], "means": [{"of": 1}], "choice": 4})
    make(tmp_path / "odd")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn/suite.json").write_text('{"suite": ')
    assert "could not be read" in make(tmp_path / "torn").read_text()


def test_a_suite_is_a_row_in_a_folder_of_runs(folder: Path) -> None:
    page = make(folder.parent).read_text()
    assert 'href="s/report.html"' in page
