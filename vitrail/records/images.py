"""Images as several files name them.

`pictures.npz`, beside a file that has `pictures`: uint8 [H, W, 3] each, at most 128 pixels a side, named by its number.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from vitrail.records.record import Record


@dataclass(frozen=True)
class UnreadableImage(Record):
    """An image that cannot be read."""

    key: str  # path or name of the image in its data
    reason: str


@dataclass(frozen=True)
class ImageReference(Record):
    """Which image of which data."""

    data: str  # DATA
    index: int  # place of the image in the data
    key: str  # path or name of the image in its data
    label: str  # name of its class


@dataclass(frozen=True)
class Mistake(Record):
    """An image that a classifier took for something else."""

    key: str
    label: str  # name of its class
    predicted: str  # name of the class that it was taken for
    confidence: float  # probability of the predicted class


@dataclass(frozen=True)
class ClassCount(Record):
    """How many images a class has."""

    name: str
    count: int


Pictures = Sequence[int]  # numbers in pictures.npz
