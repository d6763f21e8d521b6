"""A batch, what crosses from data to models; and the images that others stand in for, counted once."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from vitrail.core.errors import BadInput
from vitrail.records.images import UnreadableImage


@dataclass(frozen=True, order=True, slots=True)
class BrokenExample:
    """An image that cannot be read: its index in the source, the name people know it by, and why."""

    index: int
    key: str
    reason: str


class Batch(NamedTuple):
    """What crosses from data to models. `broken` lists the images that others stand in for, or that are left out.

    In memory the channels of a pixel lie side by side, as decoders write them; `normalise` puts them in order.
    """

    images: UInt8[Tensor, "b 3 h w"]
    labels: Int64[Tensor, " b"] | UInt8[Tensor, "b k"]  # classes, or a one for each class that an image has
    indices: Int64[Tensor, " b"]  # which examples of the source these are; on the CPU
    epochs: Int64[Tensor, " b"]  # how often each was seen before: what is random is keyed by both; on the CPU
    keys: list[str]
    broken: list[BrokenExample]

    @classmethod
    def of(cls, images: Tensor, labels: Tensor) -> "Batch":
        """A batch that was made without a source: its examples are 0, 1, … and have no names."""
        count = len(labels)
        return cls(images, labels, torch.arange(count), torch.zeros(count, dtype=torch.int64), [""] * count, [])


@dataclass
class Broken:
    """The broken images of a run so far: each counted once, named, and too many of them end the run."""

    size: int
    limit: float = 0.01  # share of the data set above which a run stops
    found: dict[str, str] = field(default_factory=dict)  # {key: reason}
    examples: dict[int, BrokenExample] = field(default_factory=dict)  # by index in the source that was read

    def add(self, broken: Iterable[BrokenExample]) -> None:
        """Raises BadInput with the list when more than `limit` of the data are broken (one always is allowed)."""
        for example in broken:
            self.examples[example.index] = example
            self.found[example.key] = example.reason
        if len(self.found) > max(1, self.limit * self.size):
            names = "\n".join(f"  {key}: {reason}" for key, reason in list(self.found.items())[:20])
            more = f"\n  … and {len(self.found) - 20} more" if len(self.found) > 20 else ""
            raise BadInput(
                f"{len(self.found)} of {self.size:,} images are broken, more than the {self.limit:.0%} allowed:"
                f"\n{names}{more}"
            )

    def rows(self) -> list[UnreadableImage]:
        """As files name them."""
        return [UnreadableImage(key=key, reason=reason) for key, reason in self.found.items()]
