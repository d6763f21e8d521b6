"""Records hold exactly the keys that lie on disk, in folders of version 0.1.0 and of today."""

import json
from pathlib import Path
from typing import Any

import pytest

from vitrail.records.bundle import BundleConfig
from vitrail.records.evaluation import EvaluationResult, EvaluationSummary
from vitrail.records.features import FeaturesRead, FeatureStore
from vitrail.records.finetune import FinetuneResult, PlanFile, Sweep
from vitrail.records.inspection import Inspection
from vitrail.records.linear import LinearResult
from vitrail.records.prepared import PreparedData
from vitrail.records.record import Record, as_json, load_record, parse_record
from vitrail.records.reference_run import Proof
from vitrail.records.run import (
    CheckpointState,
    Environment,
    RunConfig,
    RunData,
    RunResult,
    TrainRow,
    Transplant,
    ValidationRow,
)
from vitrail.records.study import Measured, StudyResult

ROOT = Path(__file__).parent.parent.parent
OLD = ROOT / "tests/fixtures/v0.1.0"
FILES = {
    "config.json": RunConfig,
    "data.json": RunData,
    "environment.json": Environment,
    "state.json": CheckpointState,
    "transplant.json": Transplant,
    "plan.json": PlanFile,
    "transfer.json": Sweep,
    "linear.json": LinearResult,
    "features.json": FeatureStore,
    "read.json": FeaturesRead,
    "inspection.json": Inspection,
    "prepared.json": PreparedData,
    "study.json": StudyResult,
}


def kind_of(path: Path) -> type[Record] | None:
    """What a file holds."""
    content = json.loads(path.read_text())
    if path.name == "config.json" and "job" not in content:
        return BundleConfig
    if path.name == "result.json":
        return FinetuneResult if "runs" in content else RunResult
    if path.name == "evaluation.json":
        return EvaluationResult if "views" in content else EvaluationSummary
    if path.parent.name == "measured":
        return Measured
    return FILES.get(path.name)


def keys(value: Any) -> Any:
    """The keys of JSON, all the way down, in their order."""
    if isinstance(value, dict):
        return [(key, keys(inner)) for key, inner in value.items()]
    return [keys(inner) for inner in value] if isinstance(value, list) else None


def check(kind: type[Record], content: Any) -> None:
    """The record of the content is the content."""
    written = as_json(parse_record(kind, content))
    if kind is BundleConfig:  # timm's keys lie beside
        content = {key: content[key] for key in written}
    if "stopped" not in content:  # a checkpoint of version 0.1.0, which had no patience
        written.pop("stopped", None)
    assert written == content
    assert keys(written) == keys(content)


OLD_FILES = [path for path in sorted(OLD.rglob("*.json")) if path.name != "classes.json"]


@pytest.mark.parametrize("path", OLD_FILES, ids=lambda path: str(path.relative_to(OLD)))
def test_files_of_version_0_1_0(path: Path) -> None:
    kind = kind_of(path)
    assert kind is not None
    check(kind, json.loads(path.read_text()))


def check_metrics(path: Path) -> None:
    for line in path.read_text().splitlines():
        row = json.loads(line)
        check(TrainRow if row["kind"] == "train" else ValidationRow, row)


@pytest.mark.parametrize("path", sorted(OLD.rglob("metrics.jsonl")), ids=lambda path: str(path.relative_to(OLD)))
def test_metrics_of_version_0_1_0(path: Path) -> None:
    check_metrics(path)


def test_every_file_of_a_run_of_today(digits_run: Path) -> None:
    found = sorted(digits_run.rglob("*.json"))
    assert len(found) >= 7
    for path in found:
        kind = kind_of(path)
        assert kind is not None, path
        check(kind, json.loads(path.read_text()))
    check_metrics(digits_run / "metrics.jsonl")


@pytest.mark.parametrize("path", sorted((ROOT / "vitrail/recipes/proofs").iterdir()), ids=lambda path: path.stem)
def test_proofs(path: Path) -> None:
    assert as_json(load_record(Proof, path)) == json.loads(path.read_text())
