"""The initialisers of the official code: lecun-normal, xavier-uniform a matrix, and small noise.

PyTorch's own differ: `trunc_normal_` does not correct the deviation for the truncation, `nn.Linear` starts with
kaiming-uniform, and a fused q-k-v matrix under xavier-uniform gets a bound that is too small by sqrt(2).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_TRUNCATED_STD = 0.87962566103423978  # of a standard normal cut off at two deviations


def uninitialised(kind: type[nn.Module], *sizes: int, **options: Any) -> Any:
    """A layer whose weights are yet to be set, on the current default device: on `meta` it takes no memory."""
    return torch.nn.utils.skip_init(kind, *sizes, **options, device=torch.get_default_device())


@contextmanager
def on_meta() -> Iterator[None]:
    """Inside, models are built for their shapes: on `meta`, without memory and without numbers."""
    with torch.device("meta"), _WithoutNumbers():
        yield


class _WithoutNumbers(TorchFunctionMode):
    """These functions are Python on `meta`, and the first call imports torch.compile: a second of every command."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """A tensor of the same shape."""
        named = kwargs or {}
        if func in (Tensor.normal_, nn.init.normal_) or (func == Tensor.mul and isinstance(args[1], float)):
            return args[0] if args else named["tensor"]
        if func == torch.randn:
            return torch.empty(*args)
        return torch.empty(args[0].shape) if func == torch.empty_like else func(*args, **named)


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


MIMETIC_QK, MIMETIC_VO = 0.7, 0.4  # of noise and of the identity, for small sets (section 4 of arXiv 2305.09828)


@torch.no_grad()
def mimetic_(qkv: nn.Linear, proj: nn.Linear, heads: int) -> None:
    """Starts attention where trained ViTs have it (Trockman and Kolter, arXiv 2305.09828); biases stay as they are.

    In each head Wqᵀ Wk is a low-rank part of 0.7 · (noise + identity), so tokens look at those like them, which are
    near them where positions are sines and cosines; Wproj Wv is 0.4 · (noise - identity). Noise has variance 1 / width.
    """
    if qkv.weight.is_meta:
        return
    width = proj.weight.shape[0]
    q, k, v = qkv.weight.chunk(3)
    for head_q, head_k in zip(q.chunk(heads), k.chunk(heads), strict=True):
        rank = len(head_q)
        u, s, vh = torch.linalg.svd(MIMETIC_QK * (_noise(width) + torch.eye(width)))
        root = s[:rank].sqrt()
        head_q.copy_((u[:, :rank] * root).T)
        head_k.copy_(vh[:rank] * root[:, None])
    u, s, vh = torch.linalg.svd(MIMETIC_VO * (_noise(width) - torch.eye(width)))
    proj.weight.copy_(u * s.sqrt())
    v.copy_(vh * s.sqrt()[:, None])


def _noise(width: int) -> Tensor:
    return torch.randn(width, width) / sqrt(width)
