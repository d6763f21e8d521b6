"""The page of a study: the finding first, failures shown, the paper's lines told apart, whatever is missing."""

import json
from pathlib import Path
from typing import Any

import pytest

from vitrail.core.config import to_json
from vitrail.core.figures import Dot, Dots, Line, Lines, Panel, Point
from vitrail.report.index import make


def study(**changed: Any) -> dict[str, Any]:
    run = {"folder": "a", "seed": 0, "state": "finished", "failure": None}
    failed = {**run, "seed": 1, "state": "failed", "failure": "no such data: 'phtos'"}
    line = {"type": "Line", "name": "ours", "points": [{"x": 1, "y": 0.3, "low": 0.2, "high": 0.4}, {"x": 4, "y": 0.5}]}
    paper = {**line, "name": "theirs", "paper": True}
    dots = [
        {"name": "stem", "value": 0.3, "low": 0.2, "high": 0.4, "group": "1-D"},
        {"name": "", "value": 0.2, "group": "none"},
    ]
    return {
        "study": "position",
        "question": "Does a ViT need positions?",
        "source": "Table 8",
        "scale": "smoke",
        "finding": "Without positions 5-shot accuracy is <4.1> points lower.",
        "paper": "2.8 points.",
        "remarks": ["Digits."],
        "measures": [
            {"name": "5-shot", "noise": "over 2 seeds", "share": True},
            {"name": "images/s", "noise": "", "share": False},
        ],
        "base": {"name": "1-D", "config": {"type": "Pretrain", "steps": 4}},
        "rows": [
            {
                "name": "1-D",
                "change": "",
                "values": {"5-shot": {"mean": 0.31, "interval": [0.29, 0.33]}, "images/s": {"mean": 1234.5}},
                "parameters": 73200,
                "total_flops": 1.2e11,
                "runs": [run, failed],
            },
            {"name": "none", "change": "model.position = NoPosition()", "values": {}, "runs": [failed]},
        ],
        "figures": [
            {
                "type": "Lines",
                "title": "over compute",
                "x_label": "compute",
                "y_label": "accuracy",
                "log_x": True,
                "lines": [line, paper],
            },
            {"type": "Dots", "title": "cells", "label": "accuracy", "panels": [{"title": "these runs", "dots": dots}]},
            {"type": "Unheard of"},
        ],
        "cost": {"runs": 1, "seconds": 90, "measuring_seconds": 3, "total_flops": 1.2e11, "machines": {"a CPU": 1}},
        "command": ["vitrail", "study", "position", "--train", "my photos"],
        **changed,
    }


def page_of(folder: Path, content: dict[str, Any]) -> str:
    (folder / "study.json").write_text(json.dumps(content))
    return make(folder).read_text(encoding="utf-8")


def test_the_page_says_the_finding_and_shows_what_failed(tmp_path: Path) -> None:
    page = page_of(tmp_path, study())
    assert "is &lt;4.1&gt; points lower" in page
    assert "none, seed 1, failed: no such data" in page
    assert "31.0\u00a0% (29.0–33.0\u00a0%)" in page
    assert ">1,234<" in page or ">1,235<" in page
    assert "1 of 2" in page  # seeds
    assert "model.position = NoPosition()" in page
    assert "--train &#39;my photos&#39;" in page
    assert page.count("<figure") == 2
    assert "1 figure of study.json is of a kind that this version cannot draw, and left out." in page


def test_a_broken_figure_costs_no_other(tmp_path: Path) -> None:
    whole = study()["figures"][0]
    broken = [{**whole, "lines": 3}, {**whole, "lines": [{"name": "x", "points": [{"x": "one", "y": 2}]}]}, None]
    page = page_of(tmp_path, study(figures=[*broken, whole]))
    assert page.count("<figure") == 1
    assert "3 figures of study.json are of a kind" in page


def test_figures_are_drawn_as_a_study_writes_them(tmp_path: Path) -> None:
    lines = Lines("title", "x", "y", [Line("ours", [Point(1, 0.5, 0.4, 0.6), Point(2, 0.75)])], x_ticks=[1, 2])
    dots = Dots("cells", "accuracy", [Panel("these runs", [Dot("a", 0.25, group="b")])])
    empty = Lines("nothing measured", "x", "y", [Line("ours", [])])
    page = page_of(tmp_path, study(figures=[to_json(figure) for figure in (lines, dots, empty)]))
    assert "title: ours from 50.0\u00a0% to 75.0\u00a0%." in page
    assert "these runs: b, a 25.0\u00a0%." in page
    assert "nothing measured" not in page
    assert "cannot draw" not in page


def test_only_the_papers_line_is_dashed(tmp_path: Path) -> None:
    page = page_of(tmp_path, study())
    assert page.count('class="line dashed"') == 2  # wide and narrow
    assert "Dashed: the paper" in page


@pytest.mark.parametrize(
    "lost", ["rows", "figures", "cost", "base", "measures", "command", "finding", "paper", "remarks"]
)
def test_a_page_is_made_of_whatever_there_is(tmp_path: Path, lost: str) -> None:
    content = study()
    del content[lost]
    assert "<h1>Does a ViT need positions?" in page_of(tmp_path, content)
