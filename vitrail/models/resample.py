"""Positions and patch embeddings at another size: the official bilinear, bicubic, and FlexiViT's for patches.

L layers · N = h·w · D width · O = 2N-1 offsets · K head width · C channels · P patch side
"""

from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Grid = tuple[int, int]
Interpolation = Literal["bilinear", "bicubic", "bicubic plain", "bicubic aligned"]


def resize_image(
    images: Float[Tensor, "b d h w"], size: Grid, interpolation: Interpolation
) -> Float[Tensor, "b d y x"]:
    """Bilinear aligns corners: what the official code computes with `scipy.ndimage.zoom(order=1)`.

    Bicubic aligns edges and is antialiased: what timm does, and Meta for DINOv2 with registers. Plain, it is not
    antialiased and has a sharper kernel also where the grid grows: what transformers does, and Meta elsewhere.
    Bicubic aligned is plain with aligned corners: what torchvision does.
    """
    if interpolation == "bilinear":
        return F.interpolate(images, size=size, mode="bilinear", align_corners=True)
    if interpolation == "bicubic aligned":
        return F.interpolate(images, size=size, mode="bicubic", align_corners=True)
    return F.interpolate(images, size=size, mode="bicubic", antialias=interpolation == "bicubic")


def resample_table(
    table: Float[Tensor, "l n d"], old: Grid, new: Grid, prefix: int, interpolation: Interpolation = "bilinear"
) -> Float[Tensor, "l m d"]:
    """A table of the grid `old` at the places of the grid `new`; its first `prefix` rows stay as they are.

    Raises:
        ValueError: a table that does not fill the grid.
    """
    if table.shape[1] - prefix != old[0] * old[1]:
        raise ValueError(f"{table.shape[1] - prefix} positions do not fill a grid of {old[0]} x {old[1]}")
    if old == new:
        return table
    image = rearrange(table[:, prefix:].float(), "l (h w) d -> l d h w", h=old[0])
    resized = rearrange(resize_image(image, new, interpolation), "l d h w -> l (h w) d").to(table.dtype)
    return torch.cat([table[:, :prefix], resized], dim=1)


def resample_line(
    table: Float[Tensor, "l n d"], new: int, interpolation: Interpolation = "bilinear"
) -> Float[Tensor, "l m d"]:
    """A table of columns, or of rows, for another number of them."""
    return resample_table(table, (1, table.shape[1]), (1, new), 0, interpolation)


def resample_relative(
    table: Float[Tensor, "l o k"], old: Grid, new: Grid, interpolation: Interpolation = "bilinear"
) -> Float[Tensor, "l p k"]:
    """Vectors of raster offsets of the grid `old` for those of the grid `new`.

    An offset of the raster stands for one or two displacements (rows, columns): the table is unfolded to a plane of
    displacements, the plane is resized about its centre, and folded again, each displacement weighted by the number of
    pairs of patches that have it. The largest offsets, which only the tokens before the patches have, are kept.
    """
    if old == new:
        return table
    before = (table.shape[1] + 1) // 2 - old[0] * old[1]  # tokens before the patches
    offsets, _ = _displacements(old)
    plane = table[:, offsets + table.shape[1] // 2].float()
    image = rearrange(plane, "l (y x) k -> l k y x", y=2 * old[0] - 1)
    for axis in (0, 1):
        if new[axis] == 1:  # a single displacement, 0, which is the centre; aligned corners would take the first
            image = image.narrow(axis + 2, old[axis] - 1, 1)
    size = (2 * new[0] - 1, 2 * new[1] - 1)
    resized = rearrange(resize_image(image, size, interpolation), "l k y x -> l (y x) k")
    offsets, pairs = _displacements(new)
    centre = new[0] * new[1] - 1
    folded = resized.new_zeros(table.shape[0], 2 * centre + 1, table.shape[2])
    folded.index_add_(1, offsets + centre, resized * pairs[:, None])
    folded /= resized.new_zeros(2 * centre + 1).index_add_(0, offsets + centre, pairs)[:, None]
    ends = (table[:, :before], folded.to(table.dtype), table[:, table.shape[1] - before :])
    return torch.cat(ends, dim=1)


def _displacements(grid: Grid) -> tuple[Tensor, Tensor]:
    """Lists each displacement (rows, columns) on a grid: its offset in the raster, and how many pairs have it."""
    h, w = grid
    rows, columns = torch.meshgrid(torch.arange(1 - h, h), torch.arange(1 - w, w), indexing="ij")
    pairs = (h - rows.abs()) * (w - columns.abs())
    return (rows * w + columns).flatten(), pairs.flatten().float()


def resample_patches(weight: Float[Tensor, "d c p p"], patch: int) -> Float[Tensor, "d c q q"]:
    """The patch embedding for another patch size by FlexiViT's pseudo-inverse resize (2212.08013, section 3.3).

    The new weight gives a resized patch the token that the old weight gave the patch, exactly where patches grow. The
    resize is antialiased where they shrink, as `jax.image.resize` is in the official code.
    """
    old = weight.shape[-1]
    if old == patch:
        return weight
    basis = torch.eye(old * old, dtype=torch.float64).unflatten(1, (1, old, old))
    resized = F.interpolate(basis, size=(patch, patch), mode="bilinear", antialias=True).flatten(1)
    inverse = torch.linalg.pinv(resized)  # [old² x new²] pseudo-inverted: [new² x old²]
    return (weight.double().flatten(2) @ inverse.T).unflatten(2, (patch, patch)).to(weight.dtype)
