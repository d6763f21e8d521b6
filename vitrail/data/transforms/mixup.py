"""Mixup (arXiv 1710.09412) and CutMix (arXiv 1905.04899): each image is mixed with the one before it in the batch.

All random numbers are the batch's: one ratio, one box. So a process that has its part of a batch and the one image
before it mixes as if it had the whole batch, and nothing depends on how many processes there are.

B images · K classes · H W pixels
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from vitrail.core.errors import BadInput

Box = tuple[int, int, int, int]  # top, bottom, left, right


@dataclass(frozen=True)
class Mixing:
    """How a batch is mixed: the parameters of Beta(p, p), from which its ratio is drawn; 0 is without."""

    mixup: float = 0.0  # big_vision: 0.2 to 0.8, without CutMix; DeiT: 0.8
    cutmix: float = 0.0  # DeiT: 1
    probability: float = 1.0  # that a batch is mixed at all
    switch: float = 0.5  # that it is CutMix, where both are on

    def check(self) -> None:
        """Raises BadInput for numbers that mean nothing."""
        if self.mixup < 0 or self.cutmix < 0:
            raise BadInput(f"the Beta distribution's parameters are positive, or 0 for without: {self}")
        if not 0 <= self.probability <= 1 or not 0 <= self.switch <= 1:
            raise BadInput(f"probability and switch are between 0 and 1: {self}")


def mix(
    images: Float[Tensor, "rows 3 h w"] | UInt8[Tensor, "rows 3 h w"],
    labels: Int64[Tensor, " rows"] | UInt8[Tensor, "rows {classes}"],
    classes: int,
    config: Mixing,
    rng: np.random.Generator,
) -> tuple[Float[Tensor, "rows-1 3 h w"], Float[Tensor, "rows-1 {classes}"]]:
    """B + 1 images, of which the first is the batch's one before the others, to B mixed ones and their soft targets.

    The first image of a whole batch follows its last. `rng` is the batch's, the same in all processes; the labels are
    0 to classes - 1. The images keep their range; uint8 becomes float32.
    """
    before, after = images[:-1], images[1:]
    dtype = torch.float32 if images.dtype == torch.uint8 else images.dtype
    kept = 1.0
    if not (config.mixup or config.cutmix) or rng.random() >= config.probability:
        mixed = after.to(dtype)
    elif config.cutmix and (not config.mixup or rng.random() < config.switch):
        ratio = float(rng.beta(config.cutmix, config.cutmix))
        (top, bottom, left, right), kept = cutmix_box(images.shape[2], images.shape[3], ratio, rng)
        mixed = after.to(dtype, copy=True)
        mixed[:, :, top:bottom, left:right] = before[:, :, top:bottom, left:right]
    else:
        kept = mixup_ratio(config.mixup, rng)
        # two products and a sum, each rounded: a fused kernel may round differently from place to place
        mixed = (after.to(dtype) * kept).add_(before.to(dtype) * (1 - kept))
    if labels.ndim == 2:
        return mixed, labels[1:] * kept + labels[:-1] * (1 - kept)
    targets = torch.zeros(mixed.shape[0], classes, device=images.device)
    rows = torch.arange(mixed.shape[0], device=images.device)
    targets[rows, labels[1:]] = kept
    targets[rows, labels[:-1]] += 1 - kept
    return mixed, targets


def mixup_ratio(parameter: float, rng: np.random.Generator) -> float:
    """How much each image keeps: the larger part of a draw from Beta(p, p).

    The smaller part would do the same to the batch in reverse order.
    """
    ratio = float(rng.beta(parameter, parameter))
    return max(ratio, 1 - ratio)


def cutmix_box(height: int, width: int, kept: float, rng: np.random.Generator) -> tuple[Box, float]:
    """A box of 1 - kept of the image about a random pixel, as far as it lies inside, and what is really kept."""
    rows, columns = int(height * sqrt(1 - kept)), int(width * sqrt(1 - kept))
    y, x = int(rng.integers(height)), int(rng.integers(width))
    top, bottom = max(0, y - rows // 2), min(height, y + (rows + 1) // 2)
    left, right = max(0, x - columns // 2), min(width, x + (columns + 1) // 2)
    return (top, bottom, left, right), 1 - (bottom - top) * (right - left) / (height * width)
