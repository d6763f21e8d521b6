"""A data check (`vitrail data check --out`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vitrail.records.images import ClassCount, ImageReference, Pictures
from vitrail.records.record import Files, Record, optional


@dataclass(frozen=True, kw_only=True)
class ScannedData(Record):
    """What is in a set."""

    data: str  # DATA
    judged: bool  # false for what it is only compared with (--against)
    count: int  # images
    examined: int  # of these
    readable: int  # of these
    classes: Sequence[ClassCount]
    formats: Mapping[str, int]  # format -> images
    modes: Mapping[str, int]  # colour mode -> images
    short_side: Sequence[int] | None  # pixels: smallest, median, largest


@dataclass(frozen=True, kw_only=True)
class CheckItem(Record):
    """One image, or one class, with something the matter."""

    data: str  # DATA
    said: str  # what is the matter
    drop: bool  # whether it is to be left out
    index: int | None  # place in the data; null for a class
    key: str | None  # null for a class
    label: str
    other: ImageReference | None = optional()  # the copy
    pictures: Pictures


@dataclass(frozen=True, kw_only=True)
class CheckFinding(Record):
    """All items of a kind."""

    kind: str
    title: str
    advice: str
    count: int
    items: Sequence[CheckItem]  # at most 1,000, of unreadable ones 10,000


@dataclass(frozen=True, kw_only=True)
class DataCheck(Record):
    """What is wrong with data."""

    data: str  # DATA
    against: Sequence[str]  # DATA
    model: str | None  # MODEL that doubts labels
    quick: bool  # whether only a sample was read
    count: int  # images of the data
    examined: int  # of these
    sets: Sequence[ScannedData]
    findings: Sequence[CheckFinding]  # the worst first
    dropped: int  # images to leave out
    views: Mapping[str, str]  # DATA -> the file of its filtered view
    seconds: float


FILES: Files = {
    "check.json": DataCheck,
    "findings.csv": "all items",
    "drop.csv": "each image to leave out once",
    "pictures.npz": "of the first items",
    "kept.json` or `kept-SPLIT.json": "filtered views",
}
