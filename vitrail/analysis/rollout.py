"""Attention rollout (figures 6 and 14; Abnar & Zuidema 2020): how much of each patch reaches the output.

L layers · B batch · H heads · N tokens · y x patch grid
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor


def rollout(attention: Iterable[Float[Tensor, "b h n n"]]) -> Float[Tensor, "b n n"]:
    """The product over layers, first to last, of (mean over heads + identity) with rows scaled to sum to 1.

    Row i says from which input tokens token i of the last layer was mixed; rows sum to 1. The identity stands for the
    residual connection. Layers may come one by one: only the product is held.
    """
    result: Tensor | None = None
    for weights in attention:
        result = rolled(result, weights)
    if result is None:
        raise ValueError("rollout needs the attention of at least one layer")
    return result


def rolled(before: Float[Tensor, "b n n"] | None, weights: Float[Tensor, "b h n n"]) -> Float[Tensor, "b n n"]:
    """The rollout through one more layer; `before` is that of the layers below, None under the first. In float32."""
    mixed = weights.float().mean(dim=1)
    mixed = mixed + torch.eye(
        mixed.shape[-1], device=mixed.device
    )  # in a new place: graphs that are exported need that
    mixed = mixed / mixed.sum(dim=-1, keepdim=True)
    return mixed if before is None else mixed @ before
