"""The page draws a run over its recipe's proof, says whether it is on course, and by which options they differ."""

import json
from pathlib import Path

import pytest

from tests.report import folders
from tests.report.test_report_pages import read
from vitrail.report.index import make
from vitrail.report.sections.bottleneck import of_run


def page(run: Path, proofs: Path) -> str:
    return read(make(run, proofs)).text


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folders.run(tmp_path / "run")
    return tmp_path / "run"


def test_the_same_curve_is_on_course(run: Path, tmp_path: Path) -> None:
    text = page(run, folders.proof(tmp_path / "proofs"))
    assert "On course: at 1, 5, 20 and 100 % of training the loss is where the proof's was." in text
    assert "The 95 % intervals of the accuracy overlap" in text
    assert "a run of 2026-11-23 on A slow processor, float32: 500 steps in 1 min 35 s, accuracy 90.0 %" in text
    assert "other options" not in text
    assert text.count("on course") >= 4
    source = (run / "report.html").read_text()
    assert ">this run</text>" in source
    assert ">proof</text>" in source


def test_the_rule_stands_on_the_page(run: Path, tmp_path: Path) -> None:
    assert "3 times the spread that the proof's own mean has there, plus 15 %" in page(run, folders.proof(tmp_path))


def test_another_curve_is_not_on_course(run: Path, tmp_path: Path) -> None:
    text = page(run, folders.proof(tmp_path / "proofs", scale=0.5))
    assert "Not on course: at 1 % of training the loss is 2." in text
    assert "above the proof's 1." in text


def test_another_accuracy_is_not_on_course(run: Path, tmp_path: Path) -> None:
    proofs = folders.proof(tmp_path / "proofs")
    content = json.loads((proofs / "pretrain-digits.json").read_text())
    folders.write(proofs / "pretrain-digits.json", {**content, "accuracy": 0.99, "interval": [0.98, 1.0]})
    text = page(run, proofs)
    assert "Not on course: the loss is where the proof's was, the accuracy is not." in text
    assert "do not overlap" in text


def test_an_unfinished_run_is_judged_as_far_as_it_has_come(tmp_path: Path) -> None:
    folders.run(tmp_path / "run", finished=False)
    text = page(tmp_path / "run", folders.proof(tmp_path / "proofs"))
    assert "On course: at 1, 5 and 20 % of training" in text
    assert "not reached" in text


def test_a_run_that_has_only_just_begun(tmp_path: Path) -> None:
    config = {"train": "digits@train", "steps": 500}
    folders.write(tmp_path / "run/config.json", {"format": 1, "job": "pretrain", "recipe": "digits", "config": config})
    text = page(tmp_path / "run", folders.proof(tmp_path / "proofs"))
    assert "This run has not come to the first point of comparison yet." in text


def test_other_options_are_named_and_nothing_is_judged(run: Path, tmp_path: Path) -> None:
    config = {"train": "digits@train", "steps": 1000, "schedule": {"warmup": 10}, "seed": 3, "log_every": 7}
    text = page(run, folders.proof(tmp_path / "proofs", config=config, steps=1000))
    assert "This run has other options than the proof: steps: 1000 → 500; schedule.warmup: 10 → 50." in text
    assert "drawn over the proof, and not judged by it" in text
    assert "The proof's 1,000 steps are stretched to the length of this run." in text
    assert "seed" not in text.split("other options than the proof")[1].split(".")[0]
    assert "On course:" not in text
    assert "on course" not in text.split("training done")[1].split("Validation accuracy")[0]


def test_a_recipe_without_proof_says_so(run: Path, tmp_path: Path) -> None:
    (tmp_path / "proofs").mkdir()
    assert "This recipe was not run here: nothing to compare with." in page(run, tmp_path / "proofs")
    folders.run(tmp_path / "tuned", job="finetune")
    assert "was not run here" in page(tmp_path / "tuned", folders.proof(tmp_path / "proofs"))  # digits, but pretrained


def test_a_run_without_recipe_or_without_proofs_has_no_such_part(run: Path, tmp_path: Path) -> None:
    assert "proof" not in read(make(run)).text
    config = json.loads((run / "config.json").read_text())
    folders.write(run / "config.json", {**config, "recipe": None})
    assert "recipe's proof" not in page(run, folders.proof(tmp_path / "proofs"))


@pytest.mark.parametrize("recipe", ["x/../../secret/pretrain-digits", "/etc/passwd", "a b", "Digits"])
def test_a_recipe_is_a_plain_name(run: Path, tmp_path: Path, recipe: str) -> None:
    folders.proof(tmp_path / "secret")
    (tmp_path / "proofs/pretrain-x").mkdir(parents=True)
    assert recipe[0] != "x" or (tmp_path / f"proofs/pretrain-{recipe}.json").is_file()  # it would be found
    config = json.loads((run / "config.json").read_text())
    folders.write(run / "config.json", {**config, "recipe": recipe})
    assert "was not run here" in page(run, tmp_path / "proofs")


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"curve": {"train": [[1, "x"], [2]], "validation": 3}}'])
def test_a_damaged_proof_leaves_a_page(run: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "proofs").mkdir()
    (tmp_path / "proofs/pretrain-digits.json").write_text(content)
    assert "Where the time went" in page(run, tmp_path / "proofs")


def test_a_loss_that_became_nan_is_off_course(tmp_path: Path) -> None:
    folders.run(tmp_path / "run", finished=False)
    path = tmp_path / "run/metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    broken = [{**row, "loss": float("nan")} if row["step"] > 90 else row for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in broken))
    assert "at 20 % of training the loss was no number" in page(tmp_path / "run", folders.proof(tmp_path / "proofs"))


def test_proofs_reach_the_runs_in_a_folder(tmp_path: Path) -> None:
    folders.run(tmp_path / "runs/one")
    make(tmp_path / "runs", folders.proof(tmp_path / "proofs"))
    assert "On course" in read(tmp_path / "runs/one/report.html").text


def test_the_page_says_where_the_time_went(run: Path) -> None:
    text = read(make(run)).text
    judged = of_run(run)
    assert judged is not None
    assert judged.bound == "computing"
    assert judged.sentence.replace("\u00a0", " ") in text
    drawing = next(part for part in read(make(run)).drawings if "Shares" in str(part["aria-label"]))
    assert drawing["aria-label"] == "Shares of the training time over the steps: computing, waiting for data."
    assert "Not drawn: copying and communicating, below 1 % of the time everywhere or not measured." in text
    assert "10 % of the time or more" in text


def test_a_log_without_speeds_has_no_such_part(tmp_path: Path) -> None:
    folders.write(tmp_path / "config.json", {"format": 1, "job": "pretrain", "recipe": None, "config": {}})
    (tmp_path / "metrics.jsonl").write_text('{"kind": "train", "step": 5, "loss": 1.0}\n')
    assert "Where the time went" not in read(make(tmp_path)).text
    assert of_run(tmp_path) is None
