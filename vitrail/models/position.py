"""Position embeddings (section 3.2): none, learned 1-D, sines and cosines; and their resampling to another grid.

h w patch grid · N = h·w · D width
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from vitrail.core.errors import BadInput


@dataclass(frozen=True)
class NoPosition:
    """The tokens are a bag of patches."""


@dataclass(frozen=True)
class Learned1d:
    """One learned vector for each patch in raster order; the class token has its own. The paper's default."""


@dataclass(frozen=True)
class SinCos2d:
    """Sines and cosines of column and row; the class token's entry is zero. Fixed, or where learning starts from.

    Learned from there, a short run knows at once what is beside what (big_vision's later recipes keep it fixed).
    """

    learned: bool = False


PositionConfig = NoPosition | Learned1d | SinCos2d


def sincos2d(grid: tuple[int, int], width: int, temperature: float = 10_000.0) -> Float[Tensor, "n d"]:
    """big_vision's table: [sin xω, cos xω, sin yω, cos yω] with ω_k = temperature^(-k / (D/4 - 1)), raster order.

    Raises:
        BadInput: a width that is not a multiple of 4, or below 8.
    """
    if width % 4 or width < 8:
        raise BadInput(f"sin-cos positions need a width that is a multiple of 4 and at least 8, not {width}")
    omega = temperature ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4 - 1))
    y, x = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    x_NK, y_NK = (place.flatten()[:, None].double() * omega for place in (x, y))
    return torch.cat([x_NK.sin(), x_NK.cos(), y_NK.sin(), y_NK.cos()], dim=1).float()


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
