"""An evaluation on images of several classes each (`vitrail evaluate --out`, or `evaluation/` in a run)."""

from collections.abc import Sequence
from dataclasses import dataclass

from vitrail.core.estimate import Interval
from vitrail.records.evaluation import Views
from vitrail.records.images import UnreadableImage
from vitrail.records.record import Files, Record, optional
from vitrail.records.runtime import RuntimeInfo


@dataclass(frozen=True, kw_only=True)
class Thresholds(Record):
    """The probability from which on each class is answered, with the highest F1 on some images."""

    data: str  # DATA that they were chosen on
    count: int  # images of it
    values: Sequence[float]  # one a class
    intervals: Sequence[Interval | None]  # over resamples of these images; null where the class has not its own
    own: Sequence[bool]  # false: too few images with the class, or without it; that of all classes together


@dataclass(frozen=True, kw_only=True)
class ClassScore(Record):
    """One class."""

    name: str
    count: int  # images that have it
    average_precision: float | None  # null for no image
    interval: Interval | None
    threshold: float
    threshold_interval: Interval | None
    answered: int  # images that are said to have it
    correct: int  # of these
    precision: float | None
    precision_interval: Interval | None
    recall: float | None
    recall_interval: Interval | None
    f1: float | None


@dataclass(frozen=True, kw_only=True)
class MultiLabelMistake(Record):
    """An image with the answer that is furthest off: a class that it has not, or one that was not seen."""

    key: str
    labels: Sequence[str]  # the classes that it has
    name: str  # of the class
    probability: float


@dataclass(frozen=True, kw_only=True)
class MultiLabelSummary(Record):
    """What a classifier makes of images of several classes each."""

    data: str  # DATA
    model: str  # MODEL
    count: int  # images that were judged
    classes: Sequence[str]
    classes_an_image: float  # mean
    mean_average_precision: float  # over the classes that have an image
    mean_average_precision_interval: Interval  # bootstrap over images
    f1: float  # of all questions together (micro)
    f1_interval: Interval
    mean_f1: float | None  # over the classes that have an image (macro)
    exact: float  # share of the images with all answers right
    exact_interval: Interval
    accuracy: float  # share of the images whose likeliest class is one that they have
    interval: Interval
    loss: float  # binary cross-entropy, summed over classes, nats
    thresholds: Thresholds | None  # null: 0.5 for every class
    per_class: Sequence[ClassScore]
    mistakes: Sequence[MultiLabelMistake]  # the furthest off first, at most 24
    broken: Sequence[UnreadableImage]
    seconds: float
    images_per_second: float
    views: Views | None = None
    runtime: RuntimeInfo | None = optional()  # what computed the model
    assumed: Sequence[str] = ()  # sentences: what the files of the model do not say


FILES: Files = {
    "multilabel.json": MultiLabelSummary,
    "probabilities.parquet": "a row an image: `key`, `labels` (names), `probabilities` (all classes)",
    "mistakes.npz": "`images` uint8 [M, H, W, 3], in the order of `mistakes`",
}
