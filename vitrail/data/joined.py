"""Several sources one after another, as one: of the same classes."""

from collections.abc import Sequence

import numpy as np

from vitrail.core.errors import BadInput
from vitrail.data.sources import Example, Source


class Joined(Source):
    """All examples of the first source, then all of the next.

    Raises:
        BadInput: sources whose classes differ.
    """

    def __init__(self, sources: Sequence[Source]):
        self.sources, self.classes = tuple(sources), sources[0].classes
        for source in self.sources[1:]:
            if source.classes != self.classes:
                raise BadInput(
                    f"data of {len(self.classes)} and of {len(source.classes)} classes ({self.classes[:3]}… and "
                    f"{source.classes[:3]}…) cannot be joined; their classes must be the same"
                )
        self.labels = np.concatenate([source.labels for source in self.sources])
        self._starts = np.cumsum([0, *(len(source) for source in self.sources)])

    def __getitem__(self, index: int) -> Example:
        index = int(index)
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        part = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self.sources[part][index - int(self._starts[part])]
