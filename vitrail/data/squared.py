"""A source whose images are made as large as each other, whatever their aspect, before anything else sees them."""

from dataclasses import replace
from typing import NamedTuple

from vitrail.data import augment
from vitrail.data.batches import to_pixels
from vitrail.data.image import BrokenImage
from vitrail.data.sources import Example, Source
from vitrail.data.views import CentreCrop, Preprocess

SHARE = 0.875  # 224 of 256


class Squared(Source):
    """Pixels [H, W, 3] of one `size`: both sides resized, the aspect not kept."""

    def __init__(self, source: Source, size: tuple[int, int]):
        self.source, self.size = source, size
        self.classes, self.labels, self.several = source.classes, source.labels, source.several
        self.refused = source.refused

    def right(self, key: str) -> tuple[int, ...]:
        """All labels that are right for the image of that name."""
        return self.source.right(key)

    def __getitem__(self, index: int) -> Example:
        example = self.source[index]
        try:
            pixels = augment.resize(to_pixels(example.image), self.size)
        except BrokenImage as problem:
            problem.key = example.key
            raise
        return Example(pixels, example.label, example.key)


class View(NamedTuple):
    """Sources as they are to be looked at, and by which evaluation view."""

    sources: tuple[Source, ...]
    preprocess: Preprocess


def official_few_shot_view(sources: tuple[Source, ...], preprocess: Preprocess) -> View:
    """big_vision's few-shot evaluator: both sides to 256, bilinear, then the middle 224 (or as much of another size).

    A model's own view keeps the aspect, or has no border that is cut off.
    """
    size = (round(preprocess.resolution[0] / SHARE), round(preprocess.resolution[1] / SHARE))
    squared = tuple(Squared(source, size) for source in sources)
    return View(squared, replace(preprocess, resize=CentreCrop(SHARE)))
