"""Maps over the patch grid: what a matrix of attention says of what the classifier reads, or of one patch.

B batch · H heads · N tokens · M patches · y x patch grid
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from vitrail.models.attention import attention_weights
from vitrail.models.head import (
    AttentionPool,
    AttentionPooling,
    AveragePool,
    ClassToken,
    PoolConfig,
    TokenAndAverage,
    TokenAndDistilled,
)


def output_map(
    weights: Float[Tensor, "*b n n"],
    grid: tuple[int, int],
    prefix: int,
    pool: PoolConfig,
    reading: Float[Tensor, "*b m"] | None = None,
) -> Float[Tensor, "*b y x"]:
    """The attention of the classifier's input to each patch; row i of `weights` is what token i attends to.

    Of a class token: its row. Of an average: the mean of the rows of the patches. Of both: the mean of the two.
    Of attention pooling: the mean weighted by `reading`, its attention to the patches; alike where none is given.
    A map sums to 1 where no attention goes to class token or registers; nothing is normalised again.

    Args:
        weights: of a head, of all heads, or a rollout; any leading axes.
        grid: rows and columns of patches.
        prefix: how many tokens come before the patches: class token, then registers.
        pool: how the model pools (`model.config.pool`).
        reading: how much attention pooling takes of each of the M patches, such as `pooling_weights` over heads.
    """
    patches = weights[..., prefix:, prefix:]
    match pool:
        case ClassToken():
            row = weights[..., 0, prefix:]
        case AttentionPool() if reading is not None:
            row = (reading.unsqueeze(-2) @ patches).squeeze(-2)
        case AveragePool() | AttentionPool():
            row = patches.mean(dim=-2)
        case TokenAndAverage():
            row = (weights[..., 0, prefix:] + patches.mean(dim=-2)) / 2
        case TokenAndDistilled():
            row = weights[..., :2, prefix:].mean(dim=-2)
    return row.unflatten(-1, grid)


def patch_map(
    weights: Float[Tensor, "*b n n"], grid: tuple[int, int], prefix: int, place: tuple[int, int]
) -> Float[Tensor, "*b y x"]:
    """The attention of the patch in a row and a column, both counted from 0, to each patch.

    Raises:
        ValueError: a place outside the grid.
    """
    (row, column), (h, w) = place, grid
    if not (0 <= row < h and 0 <= column < w):
        raise ValueError(f"no patch in row {row}, column {column}: the grid has {h} rows and {w} columns, from 0")
    return weights[..., prefix + row * w + column, prefix:].unflatten(-1, grid)


def pooling_weights(pooling: AttentionPooling, tokens: Float[Tensor, "b m d"]) -> Float[Tensor, "b h m"]:
    """The weight that each head of attention pooling gives each patch; rows sum to 1.

    Args:
        tokens: the patches after the last norm, `output.tokens[:, prefix:]`.
    """
    query = pooling.q(pooling.latent).expand(tokens.shape[0], -1, -1)
    keys = pooling.kv(tokens)[..., : tokens.shape[-1]]  # the values follow
    q, k = (rearrange(x, "b n (h k) -> b h n k", h=pooling.heads) for x in (query, keys))
    return attention_weights(q, k)[:, :, 0]


def half_share(maps: Float[Tensor, "b y x"]) -> Float[Tensor, " b"]:
    """The smallest share of the patches that holds half of a map: 0.5 where all count alike, near 0 for one patch."""
    flat = maps.flatten(1).double()
    held = flat.sort(dim=1, descending=True).values.cumsum(dim=1)
    half = held[:, -1:] / 2
    return ((held < half * (1 - 1e-9)).sum(dim=1) + 1).float() / flat.shape[1]


def likeness(maps: Float[Tensor, "b y x"]) -> Float[Tensor, " b"]:
    """The mean correlation of each map with the others: 1 where the image makes no difference.

    A map without variation counts as uncorrelated. Needs at least two maps.
    """
    flat = maps.flatten(1).double()
    centred = flat - flat.mean(dim=1, keepdim=True)
    length = centred.norm(dim=1, keepdim=True)
    unit = torch.where(length > 1e-9 * flat.abs().amax(dim=1, keepdim=True), centred / length, 0.0)
    together = unit @ unit.sum(dim=0) - unit.square().sum(dim=1)  # of each with all others
    return (together / (len(flat) - 1)).float()
