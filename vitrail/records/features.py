"""Features (the cache folder's `features/`, or `vitrail linear --features`).

A folder for each set by each model, named by a digest of `features.json`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vitrail.records.record import Files, Record, optional
from vitrail.records.runtime import RuntimeName


@dataclass(frozen=True, kw_only=True)
class FeatureStore(Record):
    """Of what the features are."""

    format: int
    model: str  # digest of weights and architecture
    preprocess: Mapping[str, Any]
    images: str  # digest of names, sizes, times of change, labels, order
    reading: str  # "Representation" or "EveryLayer"
    precision: str  # of the forward pass
    number: str  # "float32" or "float16": how they are stored
    count: int  # images
    shape: Sequence[int]  # of the features of an image
    shard: int  # images in a shard
    runtime: RuntimeName | None = optional()  # that computed the model, where it is not PyTorch


@dataclass(frozen=True, kw_only=True)
class UnreadPlace(Record):
    """An image that has no features."""

    place: int  # in the source
    key: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class FeaturesRead(Record):
    """Which images the features are of; written last."""

    places: Sequence[tuple[int, int]]  # start and stop of ranges, in the order of the source
    broken: Sequence[UnreadPlace]
    sha256: str | None = optional()  # of values.npy
    digest: str | None = optional()  # of all else in this file


FILES: Files = {
    "features.json": FeatureStore,
    "values.npy": "[N, ...]: of the readable images in the order of the source",
    "read.json": FeaturesRead,
    "00000.npy`, `00000.json": "while it is unfinished: the same of a shard that is whole; and lock files",
}
