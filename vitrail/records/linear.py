"""A few-shot evaluation (`vitrail linear --out`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vitrail.core.estimate import Interval
from vitrail.records.images import UnreadableImage
from vitrail.records.record import Files, Record, optional
from vitrail.records.runtime import RuntimeInfo

FeaturesName = Literal["pre-trained", "random initialisation", "raw pixels"]
Tokens = Literal["class token", "mean of patches"]
JudgeName = Literal["ridge", "knn", "majority", "logistic"]


@dataclass(frozen=True, kw_only=True)
class ChosenStrength(Record):
    """The strength of a logistic regression."""

    strength: float
    by_held_out: bool  # whether held-out images chose it


@dataclass(frozen=True, kw_only=True)
class LinearRow(Record):
    """Some features, judged by a classifier that was fitted on so many images a class."""

    features: FeaturesName
    layer: int | None  # layers passed; null: what the classifier reads
    tokens: Tokens | None
    judge: JudgeName
    shots: int | Literal["all"]  # images a class
    images: int  # of training
    accuracies: Sequence[float]  # one a draw
    mean: float
    interval: Interval | None  # null for one draw
    interval_over: Literal["draws", "images"] | None  # Student's over draws; Wilson's over the test images, of "all"
    chosen: Sequence[ChosenStrength] | None = optional()  # (logistic) one a draw


@dataclass(frozen=True, kw_only=True)
class LinearResult(Record):
    """What frozen features tell."""

    model: str  # MODEL
    train: str  # DATA
    test: str  # DATA
    view: Literal["own", "official"]  # official: both sides to 256, the middle 224, as big_vision does
    ridge: float
    neighbours: int
    temperature: float  # of the votes of neighbours
    classes: Sequence[str]
    measure: Literal["mean average precision"] | None = optional()  # (several classes an image) in place of accuracies
    count: int  # test images that were judged
    broken: Sequence[UnreadableImage]  # test images that could not be read
    rows: Sequence[LinearRow]
    runtime: RuntimeInfo | None = optional()  # what computed the features; layers are read by PyTorch


FILES: Files = {"linear.json": LinearResult}
