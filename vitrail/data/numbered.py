"""A source whose labels are places: so a batch, which leaves out what is broken, says which examples it holds."""

import numpy as np

from vitrail.data.sources import Example, Source


class Numbered(Source):
    """The examples of another source, each with its index there in place of its label."""

    def __init__(self, source: Source):
        self.source = source
        self.labels = np.arange(len(source), dtype=np.int64)
        self.classes = ()
        self.refused = source.refused

    def __getitem__(self, index: int) -> Example:
        example = self.source[index]
        return Example(example.image, index, example.key)
