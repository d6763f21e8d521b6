"""A source without its classes: images to learn from by themselves."""

from typing import Any

import numpy as np

from vitrail.data.sources.base import Example, Source, add_to


class Unlabelled(Source):
    """The images of another source; there are no classes, and every label is 0."""

    classes = ()

    def __init__(self, source: Source):
        self.source, self.skipped = source, source.skipped
        self.labels = np.zeros(len(source), dtype=np.int64)

    def __getitem__(self, index: int) -> Example:
        example = self.source[index]
        return Example(example.image, 0, example.key)

    def base(self) -> Source:
        """The source that all subsets were taken of."""
        return self.source.base()

    def add_images_to(self, digest: Any) -> None:
        """The source, with its labels: another order or other classes are other data."""
        add_to(digest, self.source.content_hash())
