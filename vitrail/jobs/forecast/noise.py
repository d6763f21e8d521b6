"""Images for a forecast where the run's own are not on this machine."""

from io import BytesIO

import numpy as np
from PIL import Image

from vitrail.data.sources.base import Example, Source


class Noise(Source):
    """Soft noise as JPEG, in place of images that are not on this machine: 64 of them, again and again."""

    def __init__(self, count: int, size: tuple[int, int], classes: int):
        rng = np.random.default_rng(0)
        self.classes = tuple(str(i) for i in range(classes))
        self.labels = np.arange(count, dtype=np.int64) % classes
        self._images = []
        for _ in range(64):
            small = rng.integers(0, 256, (-(-size[0] // 8), -(-size[1] // 8), 3), dtype=np.uint8)
            buffer = BytesIO()
            Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
            self._images.append(buffer.getvalue())

    def __getitem__(self, index: int) -> Example:
        return Example(self._images[index % len(self._images)], int(self.labels[index]), str(index))
