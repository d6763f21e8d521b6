"""Mean attention distance (figures 7 right and 11): how far a head looks, in pixels.

B batch · H heads · N tokens · h w patch grid
"""

import torch
from jaxtyping import Float
from torch import Tensor


def patch_distances(grid: tuple[int, int], patch: int) -> Float[Tensor, "n n"]:
    """Euclidean distance in pixels between the places of any two patches, raster order."""
    y, x = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    places = torch.stack([y.flatten(), x.flatten()], dim=-1).float() * patch
    return torch.cdist(places, places)


def attention_distance(
    weights: Float[Tensor, "b h n n"], grid: tuple[int, int], patch: int, prefix: int
) -> Float[Tensor, "b h"]:
    """For each head the distance to what a patch attends to, averaged by weight and over patches.

    As the authors compute it: the class token's row and column are dropped and nothing is normalised again.
    """
    distances = patch_distances(grid, patch).to(weights.device)
    between = weights[..., prefix:, prefix:].float()
    return (between * distances).sum(dim=-1).mean(dim=-1)
