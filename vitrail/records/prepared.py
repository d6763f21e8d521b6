"""Prepared data (`vitrail data prepare DATA OUT`), in `OUT/SPLIT`, or in `OUT` where the data have no splits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vitrail.records.record import Files, Record


@dataclass(frozen=True, kw_only=True)
class PreparedShard(Record):
    """A shard."""

    file: str
    count: int  # images
    bytes: int
    sha256: str
    copied: int  # images that kept their bytes
    rows: tuple[int, int]  # first row in the source, and the one after the last


@dataclass(frozen=True, kw_only=True)
class DroppedImage(Record):
    """An image that cannot be read."""

    key: str
    reason: str
    row: int  # in the source


@dataclass(frozen=True, kw_only=True)
class SourceDigest(Record):
    """What tells one source from another."""

    images: int
    sha256: str  # of classes and labels


@dataclass(frozen=True, kw_only=True)
class PreparedData(Record):
    """What was made; written last."""

    format: int
    data: str  # DATA
    split: str | None
    classes: Sequence[str]
    counts: Sequence[int]  # images of each class
    count: int
    copied: int  # images that kept their bytes
    side: int  # pixels of the shorter side, at most
    encoding: Mapping[str, Any]  # {"type": "Jpeg", "quality": 90}
    container: str  # "arrow" or "tar"
    shards: Sequence[PreparedShard]
    dropped: Sequence[DroppedImage]
    config: Mapping[str, Any]
    source: SourceDigest
    seconds: float  # over all sessions
    vitrail: str  # version


FILES: Files = {
    "shard-00000-of-00012.arrow": "Arrow IPC file, uncompressed, batches of 256 rows: `image` large_binary (an encoded "
    'image), `label` int32, `key` string; the schema\'s metadata has `vitrail`: `{"format": 1, "classes": [names]}`',
    "shard-000000.tar": "(instead) `KEY.jpg` or `.png` or `.webp`, and `KEY.cls` (the label as text); KEY is the row "
    "in the source and what the file was called",
    "classes.json": "(tar) the names of the classes",
    "prepared.json": PreparedData,
    "README.md": "the same for people",
    ".preparing/": "while it is unfinished: the plan, and a file for each shard that is whole",
}
