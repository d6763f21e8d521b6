"""Predictions (`vitrail predict --out OUT`). The rows of OUT: [predict.md](predict.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vitrail.records.record import Files, Record, optional
from vitrail.records.runtime import RuntimeInfo, RuntimeName


@dataclass(frozen=True, kw_only=True)
class PredictionRequest(Record):
    """What was asked; an unfinished file goes on for the same request alone."""

    model: str  # MODEL
    weights: str  # digest
    temperature: float | None
    paths: Sequence[str]
    images: int
    which: str  # digest of the list of images
    preprocess: Mapping[str, Any]
    classes: str  # digest
    precision: str
    top: int
    features: bool
    all_probabilities: bool
    runtime: RuntimeName | None = optional()  # that computes the model, where it is not PyTorch
    thresholds: Sequence[float] | None = optional()  # of a model of several classes an image


@dataclass(frozen=True, kw_only=True)
class PredictionsPlan(Record):
    """While it is unfinished."""

    format: int
    question: PredictionRequest
    batch: int  # images that are judged together


@dataclass(frozen=True, kw_only=True)
class PredictionsInfo(Record):
    """What is known of OUT; written last."""

    format: int
    question: PredictionRequest
    rows: int
    broken: int  # images that cannot be read
    bytes: int  # of OUT
    classes: Sequence[str]
    images_per_second: float  # of the last session
    runtime: RuntimeInfo | None = optional()  # what computed the model in the last session


FILES: Files = {
    "OUT": "(`.jsonl`, `.csv`, `.parquet`) a row for each image",
    "OUT.json": PredictionsInfo,
    "OUT.parts/plan.json": PredictionsPlan,
    "OUT.parts/000000000-000004096-2.jsonl": "while it is unfinished: rows from … to …, of which 2 are of broken "
    "images; CSV without its header",
}
