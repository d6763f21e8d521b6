"""Copies (`vitrail data duplicates --out`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vitrail.records.images import ImageReference, Pictures
from vitrail.records.record import Files, Record, optional
from vitrail.records.runtime import RuntimeInfo


@dataclass(frozen=True, kw_only=True)
class UnreadableInSet(Record):
    """An image that cannot be compared."""

    data: str  # DATA
    key: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class CopiedSet(Record):
    """How much of a set has copies."""

    data: str  # DATA
    count: int  # images
    copies: int  # images that have one
    share: float
    conflicts: int | None  # copies under another label; null where the classes differ


@dataclass(frozen=True, kw_only=True)
class CopyPair(Record):
    """An image and its copy."""

    first: ImageReference
    second: ImageReference
    kind: Literal["exact", "near", "features"]
    similarity: float
    mirrored: bool
    pictures: Pictures | None


@dataclass(frozen=True, kw_only=True)
class DuplicatesResult(Record):
    """The copies within data, or of test images in training data."""

    train: str  # DATA
    against: Sequence[str]  # DATA; none: copies within train
    model: str | None  # MODEL whose features were compared, too
    count: int  # images of train
    unreadable: Sequence[UnreadableInSet]
    sets: Sequence[CopiedSet]
    found: int  # pairs
    pairs: Sequence[CopyPair]  # at most 10,000
    dropped: int  # images of train to leave out
    kept: int  # images of train that stay
    view: str | None  # file of the filtered view
    seconds: float
    comparing_seconds: float  # of these without reading the images
    runtime: RuntimeInfo | None = optional()  # what computed the features


FILES: Files = {
    "duplicates.json": DuplicatesResult,
    "duplicates.csv": "all pairs",
    "pictures.npz": "of some pairs",
    "kept.json": "the filtered view of `train`",
}
