"""A source whose classes are called, or counted, in another way."""

from collections.abc import Sequence

import numpy as np

from vitrail.data.sources.base import Example, Source


class Relabelled(Source):
    """The examples of another source, label i there being `labels[i]` of `classes` here."""

    def __init__(self, source: Source, labels: Sequence[int], classes: tuple[str, ...]):
        self.source, self.classes = source, classes
        self._new = np.asarray(labels, np.int64)
        self.labels = self._new[source.labels]
        self.several, self.skipped = source.several, source.skipped

    def valid_labels(self, key: str) -> tuple[int, ...]:
        """All labels that are right for the image of that name."""
        return tuple(dict.fromkeys(int(self._new[label]) for label in self.source.valid_labels(key)))

    def __getitem__(self, index: int) -> Example:
        example = self.source[index]
        return Example(example.image, int(self._new[example.label]), example.key)
