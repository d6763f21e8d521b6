"""What the jobs of today write is what the records say, key by key."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.records.test_folders import check, check_metrics, kind_of
from vitrail.core.device import Machine
from vitrail.data.transforms.pipeline import Augment, WholeImage
from vitrail.jobs.data_check import Check
from vitrail.jobs.data_check import check as check_data
from vitrail.jobs.duplicates import Duplicates, duplicates
from vitrail.jobs.evaluate import Evaluate, evaluate
from vitrail.jobs.finetune.compare import compare
from vitrail.jobs.finetune.finetune import Finetune, finetune
from vitrail.jobs.inspect import Inspect, inspect
from vitrail.jobs.linear_probe import Linear, linear
from vitrail.jobs.predict import Predict, predict_table
from vitrail.jobs.prepare import prepare, prepare_config
from vitrail.jobs.suite.run import SuiteRun, run_suite
from vitrail.jobs.suite.suite import FewShot, Suite, Task
from vitrail.records.comparison import Comparison
from vitrail.records.data_check import DataCheck
from vitrail.records.duplicates import DuplicatesResult
from vitrail.records.filtered import FilteredView
from vitrail.records.finetune import TuningComparison
from vitrail.records.predictions import PredictionsInfo
from vitrail.records.suite import SuiteResult
from vitrail.train.schedule import Cosine

HERE = Machine(device="cpu", workers=0)
PHOTOS = Path(__file__).parent.parent / "fixtures/v0.1.0/photos"
MORE = {
    "comparison.json": Comparison,
    "check.json": DataCheck,
    "duplicates.json": DuplicatesResult,
    "kept.json": FilteredView,
    "kept-train.json": FilteredView,
    "tunings.json": TuningComparison,
    "out.jsonl.json": PredictionsInfo,
    "suite.json": SuiteResult,
}


def check_folder(folder: Path, *expected: str) -> None:
    """Every JSON file of a folder is a record, and those expected are there."""
    files = [path for path in folder.rglob("*.json") if path.name not in ("task.json", "classes.json")]
    assert {*expected} <= {path.name for path in files}
    for path in files:
        kind = MORE.get(path.name) or kind_of(path)
        assert kind is not None, path
        check(kind, json.loads(path.read_text()))
    for path in folder.rglob("metrics.jsonl"):
        check_metrics(path)


@pytest.fixture
def photos(tmp_path: Path) -> str:
    """Three classes of small images, of which one is also a test image under another name."""
    import shutil

    shutil.copytree(PHOTOS, tmp_path / "photos")
    shutil.copy(tmp_path / "photos/test/red/0.png", tmp_path / "photos/train/red/copy.png")
    (tmp_path / "photos/train/red/broken.png").write_bytes(b"nothing")
    return str(tmp_path / "photos")


def tuned(digits_run: Path, photos: str, **changes: Any) -> Finetune:
    basis = Finetune(
        f"{PHOTOS}@train",
        test=f"{PHOTOS}@test",
        init=str(digits_run),
        steps=4,
        batch=6,
        schedule=Cosine(1),
        augment=Augment(crop=WholeImage()),
        precision="float32",
        log_every=2,
    )
    return replace(basis, **changes)


def test_an_evaluation(digits_run: Path, tmp_path: Path) -> None:
    model, data = str(digits_run), "digits@test"
    config = Evaluate(model, data, against=model, calibrate_on="digits@train", crops=5, precision="float32")
    result = evaluate(config, tmp_path / "one", HERE)
    assert result.temperature is not None
    evaluate(replace(config, against=None, calibrate_on=None, train="digits@test"), tmp_path / "two", HERE)
    evaluate(Evaluate(str(tmp_path / "one"), against=str(tmp_path / "two")), tmp_path / "both")
    check_folder(tmp_path, "evaluation.json", "comparison.json")


def test_features_and_their_judges(digits_run: Path, tmp_path: Path) -> None:
    linear(
        Linear(
            str(digits_run),
            "digits@train",
            "digits@test",
            shots=(1, "all"),
            seeds=2,
            judge=("ridge", "logistic"),
            layers=True,
            baselines=True,
            features=str(tmp_path / "store"),
        ),
        tmp_path / "out",
        HERE,
    )
    check_folder(tmp_path, "linear.json", "features.json", "read.json")


def test_an_inspection(digits_run: Path, tmp_path: Path, photos: str) -> None:
    inspect(Inspect(str(digits_run), "digits@test", 8, 4, neighbours="digits@test"), tmp_path / "out", HERE)
    check_folder(tmp_path / "out", "inspection.json")


def test_data_that_are_checked_freed_of_copies_and_prepared(tmp_path: Path, photos: str) -> None:
    found = check_data(Check(photos), tmp_path / "check", workers=0)
    assert {finding.kind for finding in found.findings} >= {"unreadable", "leak"}
    duplicates(Duplicates(f"{photos}@train", (f"{photos}@test",)), tmp_path / "copies", workers=0)
    prepare(prepare_config(f"{photos}@train"), tmp_path / "prepared", workers=0)
    for name, expected in (("check", "check.json"), ("copies", "kept.json"), ("prepared", "prepared.json")):
        check_folder(tmp_path / name, expected)


def test_predictions(digits_run: Path, tmp_path: Path, photos: str) -> None:
    predict_table(Predict(str(digits_run), (photos,)), tmp_path / "out.jsonl", HERE)
    check_folder(tmp_path, "out.jsonl.json")


def test_a_sweep_and_a_comparison(digits_run: Path, tmp_path: Path, photos: str) -> None:
    finetune(tuned(digits_run, photos, sweep=(0.003, 0.03), repeats=1), tmp_path / "sweep", HERE)
    compare(tuned(digits_run, photos), ("head", "lora-2"), tmp_path / "compared", HERE)
    check_folder(tmp_path / "sweep", "plan.json", "transfer.json", "result.json", "transplant.json", "data.json")
    check_folder(tmp_path / "compared", "tunings.json", "result.json")


def test_a_suite(digits_run: Path, tmp_path: Path, photos: str) -> None:
    task = Task("photos", tuned(digits_run, photos, init=""), "small")
    config = SuiteRun(Suite("mine", "", (task,)), str(digits_run), FewShot(shots=(1,)), against=str(digits_run))
    run_suite(config, tmp_path / "out", HERE)
    check_folder(tmp_path / "out", "suite.json", "linear.json")
