"""Attention rollout (figures 6 and 14; Abnar & Zuidema 2020): how much of each patch reaches the output.

L layers · B batch · H heads · N tokens · y x patch grid
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from vitrail.models.head import AttentionPool, AveragePool, ClassToken, PoolConfig, TokenAndAverage


def rollout(attention: Iterable[Float[Tensor, "b h n n"]]) -> Float[Tensor, "b n n"]:
    """The product over layers, first to last, of (mean over heads + identity) with rows scaled to sum to 1.

    Row i says from which input tokens token i of the last layer was mixed; rows sum to 1. The identity stands for the
    residual connection. Layers may come one by one.
    """
    result: Tensor | None = None
    for weights in attention:
        mixed = weights.float().mean(dim=1)
        mixed = mixed + torch.eye(mixed.shape[-1], device=mixed.device)
        mixed = mixed / mixed.sum(dim=-1, keepdim=True)
        result = mixed if result is None else mixed @ result
    if result is None:
        raise ValueError("rollout needs the attention of at least one layer")
    return result


def output_rollout(
    attention: Iterable[Float[Tensor, "b h n n"]], grid: tuple[int, int], prefix: int, pool: PoolConfig
) -> Float[Tensor, "b y x"]:
    """The rollout of what the classifier reads, as a map over the patch grid.

    Of a class token: its row. Of an average: the mean of the rows of the patches. Of both: the mean of the two.
    Attention pooling weighs the patches by a last attention, which is not among `attention`: they count alike here.

    Args:
        prefix: how many tokens come before the patches: class token, then registers.
    """
    mixed = rollout(attention)
    patches = mixed[:, prefix:].mean(dim=1)
    match pool:
        case ClassToken():
            row = mixed[:, 0]
        case AveragePool() | AttentionPool():
            row = patches
        case TokenAndAverage():
            row = (mixed[:, 0] + patches) / 2
    return row[:, prefix:].unflatten(1, grid)
