"""A source whose classes are called, or counted, in another way."""

from collections.abc import Sequence

import numpy as np

from vitrail.data.sources.base import Example, Source


class Relabelled(Source):
    """The examples of another source, label i there being `labels[i]` of `classes` here."""

    def __init__(self, source: Source, labels: Sequence[int], classes: tuple[str, ...], multi_label: bool = False):
        """`multi_label`: each image has a set of classes here, also where it has one class there."""
        self.source, self.classes = source, classes
        self._new = np.asarray(labels, np.int64)
        multi_label = multi_label or source.multi_label
        self.labels = as_multi_hot(source.labels, self._new, len(classes)) if multi_label else self._new[source.labels]
        self.several, self.skipped = source.several, source.skipped

    def valid_labels(self, key: str) -> tuple[int, ...]:
        """All labels that are right for the image of that name."""
        return tuple(dict.fromkeys(int(self._new[label]) for label in self.source.valid_labels(key)))

    def __getitem__(self, index: int) -> Example:
        example = self.source[index]
        return Example(example.image, self.label(index), example.key)


def as_multi_hot(labels: np.ndarray, new: np.ndarray, classes: int) -> np.ndarray:
    """uint8 [N, classes] of labels [N], or sets of them [N, K], of which number i becomes `new[i]`; -1 is left out."""
    if labels.ndim == 1:
        labels = labels[:, None] == np.arange(len(new))
    moved = np.zeros((len(labels), classes), np.uint8)
    for i, place in enumerate(new):
        if place >= 0:
            moved[:, place] |= labels[:, i].astype(np.uint8)
    return moved
