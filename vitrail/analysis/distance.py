"""Mean attention distance (figures 7 right and 11): how far a head looks, in pixels.

B batch · H heads · N tokens · M patches
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def patch_distances(grid: tuple[int, int], patch: int) -> Float[Tensor, "m m"]:
    """Euclidean distance in pixels between the places of any two patches, raster order.

    Args:
        grid: rows and columns of patches.
        patch: pixels of the image from one patch to the next (`ViTConfig.stride`; in a hybrid the backbone's as well).
    """
    y, x = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    places = torch.stack([y.flatten(), x.flatten()], dim=-1).float() * patch
    return torch.cdist(places, places, compute_mode="donot_use_mm_for_euclid_dist")  # exact, also for large grids


def attention_distance(
    weights: Float[Tensor, "b h n n"], grid: tuple[int, int], patch: int, prefix: int
) -> Float[Tensor, "b h"]:
    """The mean attention distance of each head in pixels, weighted by attention and averaged over patches.

    As the authors compute it (google-research/vision_transformer, issue 162): rows and columns of the first `prefix`
    tokens (class token, registers) are dropped and nothing is normalised again.
    """
    distances = patch_distances(grid, patch).to(weights.device)
    # Zeros for the tokens that are dropped: the weights need not be cut, which would copy them.
    padded = F.pad(distances, (prefix, 0, prefix, 0))
    rows = rearrange(weights.float(), "b h i j -> i (b h) j") @ padded[:, :, None]  # of each token that looks
    return rearrange(rows, "i (b h) 1 -> b h i", b=weights.shape[0]).sum(dim=-1) / len(distances)


def even_distance(grid: tuple[int, int], patch: int) -> float:
    """The distance in pixels of a head whose patches attend evenly to all patches: 116.492 for 14 x 14 of 16 pixels."""
    return float(patch_distances(grid, patch).double().mean())
