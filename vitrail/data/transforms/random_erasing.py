"""Random erasing (arXiv 1708.04896): a random rectangle of an image gives way to noise or to grey."""

from dataclasses import dataclass
from math import exp, log, sqrt
from typing import Literal

import numpy as np

from vitrail.core.errors import BadInput
from vitrail.data.decode.image import Pixels

GREY = 128
DEVIATION = 58  # of the noise, in pixel values: ImageNet's, which is what timm's unit normal means in pixels


@dataclass(frozen=True)
class RandomErasing:
    """With a probability, a rectangle of `area` of the image is erased; its height / width is in `aspect`."""

    probability: float = 0.25
    area: tuple[float, float] = (0.02, 1 / 3)
    aspect: tuple[float, float] = (0.3, 3.3)
    fill: Literal["noise", "constant"] = "noise"  # timm's "pixel" and "const"

    def check(self) -> None:
        """Raises BadInput for a probability, an area or an aspect that no rectangle can have."""
        if not 0 <= self.probability <= 1:
            raise BadInput(f"the probability of erasing is {self.probability}, expected 0 to 1")
        if not 0 < self.area[0] <= self.area[1] <= 1 or not 0 < self.aspect[0] <= self.aspect[1]:
            raise BadInput(f"area and aspect are from a smaller to a larger number, areas at most 1: {self}")


def erase(pixels: Pixels, config: RandomErasing, rng: np.random.Generator) -> Pixels:
    """The image with a rectangle erased, or, with the other probability, the image: uint8 [H, W, 3]."""
    if rng.random() >= config.probability:
        return pixels
    height, width = pixels.shape[:2]
    top, left, rows, columns = rectangle(height, width, config, rng)
    erased = pixels.copy()
    match config.fill:
        case "noise":
            normal = rng.standard_normal((rows, columns, 3), dtype=np.float32)
            block = np.clip(np.rint(GREY + DEVIATION * normal), 0, 255).astype(np.uint8)
        case "constant":
            block = np.full((rows, columns, 3), GREY, dtype=np.uint8)
    erased[top : top + rows, left : left + columns] = block
    return erased


def rectangle(height: int, width: int, config: RandomErasing, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Top, left, height and width: uniform in area, in the logarithm of the aspect, and in place.

    Drawn up to ten times until both sides are shorter than the image's; empty when none was.
    """
    for _ in range(10):
        area = rng.uniform(*config.area) * height * width
        aspect = exp(rng.uniform(log(config.aspect[0]), log(config.aspect[1])))
        rows, columns = round(sqrt(area * aspect)), round(sqrt(area / aspect))
        if rows < height and columns < width:
            return int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1)), rows, columns
    return 0, 0, 0, 0
