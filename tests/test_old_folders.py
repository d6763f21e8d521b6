"""Folders that version 0.1.0 wrote (fixtures/v0.1.0) still open, and go on where they stopped."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vitrail.cli import main

OLD = Path(__file__).parent / "fixtures/v0.1.0"


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of all of them, which is the current folder."""
    shutil.copytree(OLD, tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    return tmp_path / "old"


def vitrail(capsys: pytest.CaptureFixture, *words: str, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as over:
        main([*words, "--json"])
    out, err = capsys.readouterr()
    assert over.value.code == code, err
    return json.loads(out)


@pytest.mark.parametrize("name", ["run", "halfway", "sweep", "evaluation", "linear", "inspection", "study/head"])
def test_a_page_of_an_old_folder(old: Path, name: str, capsys: pytest.CaptureFixture) -> None:
    vitrail(capsys, "report", name)
    page = (old / name / "report.html").read_text()
    assert len(page) > 10_000
    assert "cannot be read" not in page


def test_an_old_run_goes_on(old: Path, capsys: pytest.CaptureFixture) -> None:
    before = json.loads((old / "run/result.json").read_text())
    options = json.loads((old / "halfway/config.json").read_text())["config"]
    result = vitrail(
        capsys, "pretrain", "digits", "--out", "halfway", "--steps", str(options["steps"]), "--evaluate-every", "20",
        "--save-every", "20", "--log-every", "10", "--precision", "float32", "--workers", "0", "--model.width", "16",
        "--model.depth", "2", "--model.heads", "2",
    )  # fmt: skip
    assert result["steps"] == before["steps"]
    assert result["restarts"] == before["restarts"] + 1
    assert result["loss"] == pytest.approx(before["loss"], abs=1e-4)  # 0 on one machine; other kernels round otherwise


def test_finished_runs_are_not_done_again(old: Path, capsys: pytest.CaptureFixture) -> None:
    weights = json.loads((old / "sweep/result.json").read_text())["weights_sha256"]
    result = vitrail(
        capsys, "finetune", "digits", "--init", "run/bundle", "--out", "sweep", "--train", "photos@train",
        "--validation", "None", "--test", "photos@test", "--steps", "6", "--batch", "8", "--schedule.warmup", "1",
        "--precision", "float32", "--workers", "0", "--sweep", "0.01", "0.03",
    )  # fmt: skip
    assert result["weights_sha256"] == weights


@pytest.fixture
def bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on the machine that wrote the folders."""
    monkeypatch.setattr("vitrail.serve.predictor.choose_precision", lambda *_: torch.bfloat16)


@pytest.mark.usefixtures("bfloat16")
def test_an_old_bundle_says_the_same(old: Path, capsys: pytest.CaptureFixture) -> None:
    vitrail(capsys, "predict", "--model", "run/bundle", "photos", "--out", "again.jsonl", "--workers", "0")
    rows, before = (
        [json.loads(line) for line in (old / name).read_text().splitlines()]
        for name in ("again.jsonl", "predictions.jsonl")
    )
    assert len(rows) == len(before) == 27
    for row, former in zip(rows, before, strict=True):
        assert row.keys() == former.keys()
        assert row["path"] == former["path"]
        np.testing.assert_allclose(row["probabilities"], former["probabilities"], atol=0.01)


def test_old_features_are_read(old: Path, capsys: pytest.CaptureFixture) -> None:
    """The values of the store are changed, so the result says whether they were read."""
    words = ["linear", "--model", "run/bundle", "--train", "digits@train", "--test", "digits@test", "--shots", "5",
             "--judge", "knn", "--precision", "float32", "--workers", "0", "--device", "cpu"]  # fmt: skip
    stored = vitrail(capsys, *words, "--features", "store")
    assert stored["rows"][0]["mean"] == pytest.approx(vitrail(capsys, *words)["rows"][0]["mean"], abs=0.02)
    for file in (old / "store").glob("*/values.npy"):
        values = np.load(file)
        np.save(file, np.random.default_rng(0).normal(size=values.shape).astype(values.dtype))
    assert vitrail(capsys, *words, "--features", "store")["rows"][0]["mean"] != stored["rows"][0]["mean"]
    assert len(list((old / "store").iterdir())) == 2


@pytest.mark.parametrize("name", ["prepared", "prepared-tar"])
def test_old_prepared_data(old: Path, name: str, capsys: pytest.CaptureFixture) -> None:
    result = vitrail(capsys, "data", "check", name, code=1)  # six images are few for a class
    assert [part["readable"] for part in result["sets"]] == [18, 9]


def test_an_old_study_has_nothing_left_to_do(old: Path, capsys: pytest.CaptureFixture) -> None:
    before = json.loads((old / "study/head/study.json").read_text())
    result = vitrail(capsys, "study", "head", "--scale", "smoke", "--seeds", "1", "--out", "study")
    said = before["finding"].replace(
        "best rate tried", "rate that validation images prefer"
    )  # by which it is chosen now
    assert result["finding"] == said


def test_an_old_evaluation_is_compared_with_a_new_one(old: Path, capsys: pytest.CaptureFixture) -> None:
    vitrail(capsys, "evaluate", "--model", "run/bundle", "--data", "digits@test", "--precision", "float32",
            "--workers", "0", "--out", "new")  # fmt: skip
    result = vitrail(capsys, "evaluate", "--model", "new", "--against", "evaluation")
    assert result["same_answer"] == result["count"]
