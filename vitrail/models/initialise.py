"""The initialisers of the official code: lecun-normal, xavier-uniform a matrix, and small noise.

PyTorch's own differ: `trunc_normal_` does not correct the deviation for the truncation, `nn.Linear` starts with
kaiming-uniform, and a fused q-k-v matrix under xavier-uniform gets a bound that is too small by sqrt(2).
"""

from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn

_TRUNCATED_STD = 0.87962566103423978  # of a standard normal cut off at two deviations


def uninitialised(kind: type[nn.Module], *sizes: int, **options: Any) -> Any:
    """A layer whose weights are yet to be set, on the current default device: on `meta` it takes no memory."""
    return torch.nn.utils.skip_init(kind, *sizes, **options, device=torch.get_default_device())


def lecun_normal_(weight: Tensor) -> None:
    """Normal of variance 1 / fan-in, truncated at two deviations; weight is [out, in, ...]."""
    std = sqrt(1 / weight[0].numel()) / _TRUNCATED_STD
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


def xavier_uniform_(weight: Tensor, parts: int = 1) -> None:
    """Uniform of bound sqrt(6 / (in + out)), separately for each of `parts` equal slices of the rows."""
    for part in weight.chunk(parts):
        nn.init.xavier_uniform_(part)


def linear(width: int, out: int, bias: bool = True) -> nn.Linear:
    """A linear layer with a xavier-uniform matrix and a bias of zero, or none."""
    layer = uninitialised(nn.Linear, width, out, bias=bias)
    xavier_uniform_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
