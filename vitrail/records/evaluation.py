"""An evaluation (`vitrail evaluate --out`, or `evaluation/` in a run)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vitrail.core.estimate import Interval
from vitrail.records.comparison import Comparison
from vitrail.records.images import ImageReference, Mistake, Pictures, UnreadableImage
from vitrail.records.record import Files, Record, optional
from vitrail.records.runtime import RuntimeInfo


@dataclass(frozen=True, kw_only=True)
class CalibrationBin(Record):
    """The images whose confidence lies between two numbers."""

    low: float
    high: float
    count: int
    confidence: float | None  # mean; null for no image
    accuracy: float | None


@dataclass(frozen=True, kw_only=True)
class Calibration(Record):
    """How well the confidence says how often the model is right."""

    ece: float  # expected calibration error
    ece_interval: Interval
    bins: Sequence[CalibrationBin]


@dataclass(frozen=True, kw_only=True)
class Temperature(Record):
    """With a temperature, by which the logits are divided."""

    value: float
    loss: float  # mean cross-entropy with it, nats
    loss_interval: Interval
    calibration: Calibration
    fitted_on: Mapping[str, Any] | None = None  # data and count of the images that it was fitted on


@dataclass(frozen=True, kw_only=True)
class CoveragePoint(Record):
    """Where the surest answers alone are given."""

    share: float  # of the images that are answered
    accuracy: float  # of these
    interval: Interval


@dataclass(frozen=True, kw_only=True)
class Answered(Record):
    """What comes of answering from a confidence on that promises an accuracy."""

    target: float  # accuracy that is promised
    confidence: float | None  # from which on; null where none promises it
    share: float  # of the images that are answered
    accuracy: float | None  # of these; null where there are none
    interval: Interval | None


@dataclass(frozen=True, kw_only=True)
class Selective(Record):
    """Accuracy against the share of the images that is answered (selective classification)."""

    curve: Sequence[CoveragePoint]
    area: float  # mean accuracy over all shares
    ideal: float  # the same of a model that knows which of its answers are wrong
    answered: Sequence[Answered]
    chosen_elsewhere: bool  # whether the confidences were chosen on other images


@dataclass(frozen=True, kw_only=True)
class ClassAccuracy(Record):
    """One class."""

    name: str
    count: int  # images
    correct: int
    accuracy: float | None  # null for no image
    interval: Interval


@dataclass(frozen=True, kw_only=True)
class EvaluationSummary(Record):
    """What a classifier makes of labelled images; a run's final evaluation has these keys."""

    data: str  # DATA
    model: str  # MODEL
    count: int  # images that were judged
    correct: int
    accuracy: float
    interval: Interval
    top5: float | None  # null below 6 classes
    top5_interval: Interval | None
    loss: float  # mean cross-entropy, nats
    loss_interval: Interval
    balanced_accuracy: float  # mean over the classes
    balanced_accuracy_interval: Interval
    several: bool  # whether images have several right labels
    classes: Sequence[str]
    confusion: Sequence[Sequence[int]] | None  # row true class, column predicted; null above 1,000 classes
    per_class: Sequence[ClassAccuracy]
    calibration: Calibration
    temperature: Temperature | None  # null where none was fitted or is stored
    abstention: Selective
    mistakes: Sequence[Mistake]  # the most confident first, at most 24
    broken: Sequence[UnreadableImage]
    seconds: float
    images_per_second: float


@dataclass(frozen=True, kw_only=True)
class Views(Record):
    """Of what the probabilities are the mean."""

    crops: int
    resolutions: Sequence[tuple[int, int]]  # height and width


@dataclass(frozen=True, kw_only=True)
class OverlapPair(Record):
    """A test image and its copy in the training data."""

    test: ImageReference
    train: ImageReference
    kind: Literal["exact", "near", "features"]
    similarity: float
    pictures: Pictures | None


@dataclass(frozen=True, kw_only=True)
class Overlap(Record):
    """Test images that are, or nearly are, in the training data."""

    train: Sequence[str]  # DATA
    compared: int  # training images
    copies: int  # test images that have a copy there
    share: float
    accuracy_of_copies: float | None
    count: int  # the others
    accuracy: float | None  # of the others
    interval: Interval | None
    pairs: Sequence[OverlapPair]  # at most 12


@dataclass(frozen=True, kw_only=True)
class EvaluationResult(EvaluationSummary):
    """What `vitrail evaluate` writes: the same and more."""

    views: Views | None = None
    assumed: Sequence[str] = ()  # sentences: what the files of the model do not say
    copies: Overlap | None = None  # null where it was not looked for them
    comparison: Comparison | None = None  # null without --against
    runtime: RuntimeInfo | None = optional()  # what computed the model


FILES: Files = {
    "evaluation.json": EvaluationResult,
    "mistakes.npz": "`images` uint8 [M, H, W, 3], in the order of `mistakes`",
    "pictures.npz": "of the copies",
    "predictions.parquet": "a row an image, in the order of their keys: `key`, `label`, `predicted` (names), "
    "`confidence`, `loss` (nats), `top5` (from 6 classes on), `calibrated` and `calibrated_loss` (with a temperature); "
    'the schema\'s metadata has `vitrail`: `{"format": 1, "model", "data", "several", "classes"}`',
}
