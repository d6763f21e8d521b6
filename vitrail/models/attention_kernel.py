"""Which kernel computes equation 7 in bfloat16 on a CPU, by a measurement of some milliseconds, kept for each machine.

PyTorch's fused kernel computes the forward pass in small blocks. Its backward pass takes two to five times as long as
plain matrix products on processors with units for bfloat16, and on some its forward pass is the slower one, too
(LOG.md). The products here never hold more than `HELD` bytes of weights: parts of the batch and the heads, one after
another, and the backward pass computes the weights again. So no length is too long for them.

B batch · H heads · N queries · M keys · K head width · R = B H rows
"""

import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from vitrail.core.cache import cache_folder
from vitrail.core.device import multiplies_bfloat16, processor_name
from vitrail.core.errors import BadInput
from vitrail.core.files import read_json, write_json

# fused: both passes PyTorch's. products: both by plain products. mixed: fused forward, products backward.
Kernel = Literal["fused", "products", "mixed"]

HELD = 32 << 20  # bytes of weights that are held at a time: about what caches hold
ROUNDS, SECONDS = 5, 0.1  # of the measurement; two rounds at least


def weights_of(q: Float[Tensor, "... n k"], k: Float[Tensor, "... m k"]) -> Float[Tensor, "... n m"]:
    """Equation 6: softmax(q kᵀ / sqrt(K)), in the dtype of q."""
    return (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(dim=-1)


class Products(torch.autograd.Function):
    """Attention whose backward pass, and if `fused` is not set whose forward pass, is plain products in parts."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, fused: bool) -> Tensor:
        """q [B, H, N, K], k and v [B, H, M, K] -> [B, H, N, K]."""
        ctx.save_for_backward(q, k, v)
        if fused:
            return F.scaled_dot_product_attention(q, k, v)
        (q, k, v), shape = (x.flatten(0, 1) for x in (q, k, v)), q.shape
        mixed = torch.empty_like(q)
        for part in _parts(q, k):
            torch.bmm(weights_of(q[part], k[part]), v[part], out=mixed[part])
        return mixed.view(shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """The gradients of q, k and v."""
        saved = ctx.saved_tensors  # once: a second look is an error where activations are recomputed
        scale = saved[0].shape[-1] ** -0.5
        q, k, v, gradient = (x.flatten(0, 1) for x in (*saved, gradients[0]))
        of_q, of_k, of_v = (torch.empty_like(x) for x in (q, k, v))
        for part in _parts(q, k):
            weights = weights_of(q[part], k[part])
            torch.bmm(weights.transpose(1, 2), gradient[part], out=of_v[part])
            of_weights = gradient[part] @ v[part].transpose(1, 2)
            # of softmax: w (g - Σ w g), scaled as the logits were
            weights_gradient = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
            logits_gradient = weights_gradient * scale
            torch.bmm(logits_gradient, k[part], out=of_q[part])
            torch.bmm(logits_gradient.transpose(1, 2), q[part], out=of_k[part])
        of_q, of_k, of_v = (x.view(y.shape) for x, y in zip((of_q, of_k, of_v), saved, strict=True))
        return of_q, of_k, of_v, None


def _parts(q: Float[Tensor, "r n k"], k: Float[Tensor, "r m k"]) -> list[slice]:
    """Rows whose weights fit into HELD bytes together; at least one."""
    rows = max(1, HELD // (q.shape[1] * k.shape[1] * q.element_size()))
    return [slice(start, start + rows) for start in range(0, len(q), rows)]


def attend_by(kernel: Kernel, q: Tensor, k: Tensor, v: Tensor) -> Float[Tensor, "b h n k"]:
    """Equation 7 by a kernel; q [B, H, N, K], k and v [B, H, M, K]."""
    if kernel == "fused":
        return F.scaled_dot_product_attention(q, k, v)
    mixed: Tensor = Products.apply(q, k, v, kernel == "mixed")  # type: ignore[no-untyped-call]
    return mixed


def fastest_kernel(tokens: int, head_width: int, training: bool) -> Kernel:
    """The fastest in bfloat16 for as many queries as keys on this CPU; measured once, then read from the cache.

    Lengths are rounded up to multiples of 64. All runs of a machine that share a cache folder take the same kernel, so
    a run that goes on rounds as before.
    """
    return _fastest(-(-tokens // 64) * 64, head_width, training)


# what torch.compiler.assume_constant_result does, which would import all of torch.compile with every model
fastest_kernel._dynamo_marked_constant = True  # type: ignore[attr-defined]


@lru_cache
def _fastest(tokens: int, head_width: int, training: bool) -> Kernel:
    if not multiplies_bfloat16(torch.device("cpu")):
        return "fused"
    file = cache_folder() / "attention-kernels.json"
    key = f"{processor_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    name = f"{tokens} tokens, heads of {head_width}, {'training' if training else 'inference'}"
    known = _read(file)
    if known.get(key, {}).get(name) in KERNELS:
        return known[key][name]
    chosen = measure_kernels(tokens, head_width, training)
    known = _read(file)  # another process may have measured meanwhile: the first one counts
    chosen = known.setdefault(key, {}).setdefault(name, chosen)
    with suppress(OSError):  # the next process measures again
        write_json(file, known)
    return chosen if chosen in KERNELS else "fused"


KERNELS = ("fused", "products", "mixed")


def _read(file: Any) -> dict[str, dict[str, Kernel]]:
    try:
        known = read_json(file)
    except (OSError, BadInput):
        return {}
    return known if isinstance(known, dict) and all(isinstance(v, dict) for v in known.values()) else {}


def measure_kernels(tokens: int, head_width: int, training: bool) -> Kernel:
    """Times the kernels in turns on random numbers, and returns the fastest."""
    heads = max(2 * torch.get_num_threads(), min(16, (1 << 18) // tokens**2))  # all cores busy for some milliseconds
    generator = torch.Generator().manual_seed(0)
    shape = (1, heads, tokens, head_width)
    q, k, v, gradient = (torch.randn(shape, generator=generator).bfloat16() for _ in range(4))

    def as_it_is(tensor: Tensor) -> Tensor:  # and unseen by whoever counts what the pass around this one keeps
        return tensor

    def run(kernel: Kernel) -> None:
        with (
            torch.set_grad_enabled(training),
            torch.autocast("cpu", enabled=False),
            torch.autograd.graph.saved_tensors_hooks(as_it_is, as_it_is),
        ):
            mixed = attend_by(kernel, *(x.detach().requires_grad_(training) for x in (q, k, v)))
            if training:
                mixed.backward(gradient)

    candidates: tuple[Kernel, ...] = ("fused", "products", "mixed") if training else ("fused", "products")
    best = dict.fromkeys(candidates, float("inf"))
    end = time.perf_counter() + SECONDS
    for rounds in range(ROUNDS):
        if rounds >= 2 and time.perf_counter() > end:
            break
        for kernel in candidates:
            best[kernel] = min(best[kernel], _seconds(partial(run, kernel)))
    return min(candidates, key=best.__getitem__)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
