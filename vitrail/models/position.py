"""Position embeddings (section 3.2): none, or learned 1-D; and their resampling to another grid.

h w patch grid · N = h·w · D width
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class NoPosition:
    """The tokens are a bag of patches."""


@dataclass(frozen=True)
class Learned1d:
    """One learned vector for each patch in raster order; the class token has its own. The paper's default."""


PositionConfig = NoPosition | Learned1d


def resample_grid(positions: Float[Tensor, "n d"], old: tuple[int, int], new: tuple[int, int]) -> Float[Tensor, "m d"]:
    """Positions of the grid `old` at the places of the grid `new`: bilinear with aligned corners.

    This is what the official code computes with `scipy.ndimage.zoom(order=1)`; grids need not
    be square.
    """
    if positions.shape[0] != old[0] * old[1]:
        raise ValueError(f"{positions.shape[0]} positions do not fill a grid of {old[0]} x {old[1]}")
    if old == new:
        return positions
    image = rearrange(positions.float(), "(h w) d -> 1 d h w", h=old[0])
    resized = F.interpolate(image, size=new, mode="bilinear", align_corners=True)
    return rearrange(resized, "1 d h w -> (h w) d").to(positions.dtype)


def resample(
    table: Float[Tensor, "1 n d"], old: tuple[int, int], new: tuple[int, int], prefix: int
) -> Float[Tensor, "1 m d"]:
    """`resample_grid` for a table whose first `prefix` rows belong to the class token and stay as they are."""
    return torch.cat([table[:, :prefix], resample_grid(table[0, prefix:], old, new)[None]], dim=1)
