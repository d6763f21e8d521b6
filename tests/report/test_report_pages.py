"""Pages of made-up folders: whole, self-contained, escaped, and with the numbers that the files hold."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tests.report import folders
from vitrail.core.errors import BadInput
from vitrail.report.index import make

VOID = {"meta", "link", "img", "br", "hr"}


class Page(HTMLParser):
    """Collects what a page refers to, and checks that every tag that opens also closes."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.drawings: list[dict[str, str | None]] = []
        self.references: list[str] = []
        self.tags: set[str] = set()
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.add(tag)
        if tag == "img":
            self.images.append(given)
        if tag == "svg":
            self.drawings.append(given)
        self.references += [str(given[key]) for key in ("src", "href") if key in given]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style",):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))  # a non-breaking space reads as a space


def read(report: Path) -> Page:
    return Page(report.read_text(encoding="utf-8"))


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    folders.demo(tmp_path / "demo")
    return tmp_path / "demo"


def all_kinds(root: Path) -> list[Path]:
    folders.demo(root / "demo")
    folders.run(root / "runs/many", classes=[f"class {i}" for i in range(60)])
    folders.run(root / "runs/unfinished", finished=False)
    folders.linear(root / "few")
    folders.inspection(root / "inside")
    folders.evaluation(root / "tested", ["cat", "dog"])
    return [make(root / name) for name in ("demo", "runs", "few", "inside", "tested")]


def test_every_page_is_whole_and_needs_nothing_else(tmp_path: Path) -> None:
    all_kinds(tmp_path)
    reports = sorted(tmp_path.rglob("report.html"))
    assert len(reports) == 1 + 5 + 3 + 3  # demo and its parts, the folder of runs and its two, three evaluations
    for report in reports:
        page = read(report)
        assert "script" not in page.tags
        for reference in page.references:
            assert reference.startswith(("data:", "#")) or (report.parent / reference).is_file(), reference
        for image in page.images:
            assert (image.get("alt") or "").strip()
            assert str(image["src"]).startswith("data:image/png;base64,")
        for drawing in page.drawings:
            assert drawing["role"] == "img"
            assert (drawing.get("aria-label") or "").strip()
        source = report.read_text()
        assert "prefers-color-scheme: dark" in source
        assert 'name="viewport"' in source
        assert "nan" not in re.findall(r'(?:[xyd]|cx|cy|width)="([^"]*)"', source.lower())
        assert "nan" not in page.text.lower().split()
        assert "url(" not in source
        assert "@import" not in source


def test_run_page_prints_the_numbers_of_its_files(tmp_path: Path) -> None:
    folders.run(tmp_path, classes=("ant", "bee", "cow", "dog", "eel", "fox"))
    text = read(make(tmp_path)).text
    result = json.loads((tmp_path / "result.json").read_text())
    low, high = result["interval"]
    assert f"Accuracy {100 * result['accuracy']:.1f} % on {result['count']} test images" in text
    assert f"(95 % interval {100 * low:.1f}–{100 * high:.1f} %)" in text
    for said in (
        "500 steps",
        "1 min 35 s",
        "64,000",
        "1.23 M",
        "486 MFLOP",
        "31.1 TFLOP",
        "41.0 %",
        "2.1 %",
        "250 GFLOP/s",
    ):
        assert said in text
    tested = json.loads((tmp_path / "evaluation/evaluation.json").read_text())
    for row in tested["per_class"]:
        assert f"{row['name']}: {100 * row['accuracy']:.1f} % of {row['count']}" in text
    assert "Calibration error (ECE) 5.1 %" in text
    assert "vitrail pretrain digits --out 'runs/my run; rm'" in text  # quoted for a shell
    assert '"warmup": 50' in text


def test_fine_tuning_page_lists_what_was_transplanted(tmp_path: Path) -> None:
    folders.run(tmp_path, job="finetune")
    text = read(make(tmp_path)).text
    assert "6 taken unchanged, 1 resampled to the new resolution, 1 left out. New in this model: 1." in text
    assert "pos_embed resampled 1 × 50 × 192 1 × 65 × 192" in text


def test_unfinished_run_says_so(tmp_path: Path) -> None:
    folders.run(tmp_path, finished=False)
    text = read(make(tmp_path)).text
    assert "Unfinished: step 300 of 500." in text
    assert "The last validation, at step 300, gave" in text


def test_run_that_has_only_just_begun_has_a_page(tmp_path: Path) -> None:
    folders.write(tmp_path / "config.json", {"format": 1, "job": "pretrain", "recipe": None, "config": {}})
    assert "Unfinished: step 0." in read(make(tmp_path)).text


def test_torn_last_line_of_the_metrics_is_ignored(tmp_path: Path) -> None:
    folders.run(tmp_path, finished=False)
    whole = read(make(tmp_path)).text
    folders.metrics(tmp_path, steps=300, best=0.9, tail='{"kind": "train", "step": 305, "lo')
    assert read(make(tmp_path)).text == whole


def test_damaged_files_are_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    folders.run(tmp_path)
    evaluated = tmp_path / "evaluation"
    (evaluated / "mistakes.npz").write_bytes((evaluated / "mistakes.npz").read_bytes()[:200])
    (tmp_path / "environment.json").write_text('{"vitrail": "0.')
    page = read(make(tmp_path))
    assert "environment.json in" in page.text
    assert "mistakes.npz in evaluation could not be read" in page.text
    assert "Accuracy" in page.text
    assert page.images == []


def test_a_loss_that_became_nan_leaves_a_page(tmp_path: Path) -> None:
    row = '{"kind": "train", "step": 305, "loss": NaN, "accuracy": NaN, "learning_rate": 0.001}\n'
    folders.run(tmp_path, finished=False)
    folders.metrics(tmp_path, steps=300, best=0.9, tail=row)
    assert "step 305 of 500" in read(make(tmp_path)).text


def test_names_of_users_are_escaped(tmp_path: Path) -> None:
    hostile = folders.HOSTILE
    folders.run(tmp_path / "a", classes=[hostile, "dog"])
    folders.run(tmp_path / "b", classes=[hostile, *(f"class {i}" for i in range(60))])
    folders.evaluation(tmp_path / '"><b onclick=x>', [hostile, "dog", "'quoted' \"twice\""])
    make(tmp_path)
    for report in tmp_path.rglob("report.html"):
        page = read(report)
        assert "script" not in page.tags
        assert "b" not in page.tags or report.parent == tmp_path
        assert hostile not in report.read_text()
    assert hostile in read(tmp_path / "a/report.html").text


def test_many_classes_become_tables_of_the_ends(tmp_path: Path) -> None:
    folders.evaluation(tmp_path, [f"class {i}" for i in range(60)], accuracy=0.7)
    text = read(make(tmp_path)).text
    assert "Most frequent confusions" in text
    assert "The 20 hardest of 60 classes" in text
    assert "The 20 easiest" in text
    assert "What is taken for what" not in text


def test_folder_of_runs_lists_each_with_its_accuracy(tmp_path: Path) -> None:
    folders.run(tmp_path / "good one", accuracy=0.95)
    folders.run(tmp_path / "worse", accuracy=0.6)
    folders.run(tmp_path / "going", finished=False)
    (tmp_path / "notes").mkdir()
    page = read(make(tmp_path))
    for name in ("good one", "worse"):
        accuracy = json.loads((tmp_path / name / "result.json").read_text())["accuracy"]
        assert re.search(rf"{name} pre-training, digits {100 * accuracy:.1f} %", page.text)
    assert "unfinished: step 300 of 500" in page.text
    assert "3 folders, 1 unfinished. The highest accuracy is" in page.text
    assert "good%20one/report.html" in page.references
    assert "notes" not in page.text


def test_nothing_to_report_on_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"expected one of demo\.json, .*config\.json, .*inspection\.json"):
        make(tmp_path)
    with pytest.raises(BadInput, match="not a folder"):
        make(tmp_path / "absent")


def test_arrays_with_pickles_are_not_opened(tmp_path: Path) -> None:
    folders.inspection(tmp_path)
    np.savez(tmp_path / "arrays.npz", filters=np.array([{"a": 1}], dtype=object))
    assert "arrays.npz" in read(make(tmp_path)).text


def test_reporting_imports_nothing_heavy() -> None:
    heavy = ("torch", "scipy", "matplotlib")
    program = f"import sys, vitrail.report; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_demo_tells_its_story(demo: Path) -> None:
    page = read(make(demo))
    final = {name: json.loads((demo / name / "result.json").read_text()) for name in ("finetune", "scratch")}
    ours, theirs = final["finetune"]["accuracy"], final["scratch"]["accuracy"]
    assert f"right on {100 * ours:.1f} % of the test images, the one from scratch on {100 * theirs:.1f} %" in page.text
    assert f"{100 * (ours - theirs):.1f} points more for pre-training. The 95 % intervals do not overlap" in page.text
    assert "pre-trained features reach 62.0 %; random ViT 40.0 %, 22.0 points less" in page.text
    assert "The model first learns 0, 1, 2, 3, 4 and 5." in page.text
    assert "8 × 8 = 64 patches of 4 × 4 pixels" in page.text
    for part in ("pretrain", "finetune", "scratch", "linear", "inspection"):
        assert f"{part}/report.html" in page.references
        assert (demo / part / "report.html").is_file()


def test_demo_says_when_pretraining_did_not_help(tmp_path: Path) -> None:
    folders.demo(tmp_path, helps=False)
    text = read(make(tmp_path)).text
    assert "pre-training did not help here, it cost" in text
    assert "Pre-trained features are never better than raw pixels: pre-training did not help here." in text


def test_demo_that_is_not_finished_has_a_page(tmp_path: Path) -> None:
    folders.write(
        tmp_path / "demo.json", {"title": "Digits", "seen": [], "unseen": [], "runs": {"pretrain": "pretrain"}}
    )
    folders.run(tmp_path / "pretrain", finished=False)
    assert "Pre-training is not finished yet." in read(make(tmp_path)).text


def test_demo_reads_nothing_outside_its_folder(tmp_path: Path) -> None:
    folders.linear(tmp_path / "secret")
    folders.write(tmp_path / "demo/demo.json", {"title": "Digits", "linear": "../secret", "runs": {"pretrain": "/etc"}})
    assert "features reach" not in read(make(tmp_path / "demo")).text
    assert not (tmp_path / "secret/report.html").exists()
