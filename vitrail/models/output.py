"""The output of every model."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor


class ModelOutput(NamedTuple):
    """The intermediates that people ask for, by name.

    logits: [B, K], or [B, D] = representation for a model without a classifier
    representation: [B, D], what the classifier reads: after the hidden layer if there is one (official `pre_logits`)
    tokens: [B, N, D], all tokens after the last norm, class token first where there is one
    attention: for each layer that was asked for, in order of depth, the weights [B, H, N, N]; None when none was
    """

    logits: Float[Tensor, "b k"]
    representation: Float[Tensor, "b d"]
    tokens: Float[Tensor, "b n d"]
    attention: tuple[Float[Tensor, "b heads n n"], ...] | None = None
