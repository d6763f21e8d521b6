"""Small pictures of some examples, for the pages: `pictures.npz`, one array each."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vitrail.core.files import atomic_path
from vitrail.data.decode import image
from vitrail.data.decode.image import BrokenImage, Pixels
from vitrail.data.sources.base import Source

SIDE = 128  # pixels of the longer side, at most


class Gallery:
    """Collects pictures; each is drawn once and known by a number."""

    def __init__(self, decode: Callable[[bytes], Pixels] = image.decode) -> None:
        """`decode`: of encoded bytes; raises BrokenImage."""
        self._decode = decode
        self.pictures: list[np.ndarray] = []
        self._numbers: dict[tuple[str, int], int | None] = {}

    def add(self, name: str, source: Source, index: int) -> int | None:
        """The number of the picture of `source[index]`, None where it cannot be drawn; `name` is the source's."""
        if (name, index) not in self._numbers:
            self._numbers[name, index] = self._draw(source, index)
        return self._numbers[name, index]

    def add_all(self, *images: tuple[str, Source, int]) -> list[int] | None:
        """The numbers of several pictures, None where one of them cannot be drawn."""
        numbers = [number for image in images if (number := self.add(*image)) is not None]
        return numbers if len(numbers) == len(images) else None

    def _draw(self, source: Source, index: int) -> int | None:
        try:
            stored = source[index].image
            drawn = Image.fromarray(self._decode(stored) if isinstance(stored, bytes) else stored)
        except (BrokenImage, OSError):
            return None
        drawn.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        self.pictures.append(np.asarray(drawn))
        return len(self.pictures) - 1

    def write(self, path: Path) -> None:
        """Writes uint8 [H, W, 3] each, named by its number."""
        with atomic_path(path) as temporary:
            held: dict[str, Any] = {str(i): picture for i, picture in enumerate(self.pictures)}
            np.savez_compressed(temporary, **held)
