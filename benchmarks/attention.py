"""The kernels of vitrail.models.attention_kernel in turns: which is fastest, by device, dtype, length and pass.

    python benchmarks/attention.py [--device cpu] [--rounds 9]

Prints the median time of plain products, and those of PyTorch's fused kernel and of the mixed one over it (below 1:
faster than the products), each with its range over the rounds. `attend` measures the same on the machine where it runs.
"""

import argparse
import statistics
import time

import torch
from einops import rearrange

from vitrail.core.device import choose_device, describe_device, synchronize
from vitrail.models.attention_kernel import KERNELS, Kernel, attend_by

#         tokens, batch, heads, head width
SHAPES = [
    (17, 256, 4, 32), (65, 128, 3, 64), (197, 32, 3, 64), (257, 16, 6, 64), (577, 4, 12, 64), (1370, 2, 6, 64),
]  # fmt: skip


def seconds(
    kernel: Kernel, qkv: torch.Tensor, gradient: torch.Tensor | None, heads: int, device: torch.device
) -> float:
    """One forward and, with a gradient, backward pass, in the layout that the linear maps around attention have."""
    synchronize(device)
    start = time.perf_counter()
    with torch.set_grad_enabled(gradient is not None):
        q, k, v = rearrange(qkv, "b n (three h k) -> three b h n k", three=3, h=heads).unbind(0)
        mixed = rearrange(attend_by(kernel, q, k, v), "b h n k -> b n (h k)")
        if gradient is not None:
            mixed.backward(gradient)
    synchronize(device)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    device = choose_device(options.device)
    print(f"{describe_device(device)}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'dtype':>9} {'tokens':>6} {'pass':>9} {'products ms':>12}  {'fused':<22} mixed")
    for dtype in (torch.float32, torch.bfloat16):
        for tokens, batch, heads, width in SHAPES:
            qkv = torch.randn(batch, tokens, 3 * heads * width, device=device, dtype=dtype, requires_grad=True)
            grown = torch.randn(batch, tokens, heads * width, device=device, dtype=dtype)
            for gradient in (grown, None):
                times: dict[str, list[float]] = {kernel: [] for kernel in KERNELS}
                for _ in range(options.rounds + 1):  # the first warms up
                    for kernel in KERNELS:
                        times[kernel].append(seconds(kernel, qkv, gradient, heads, device))
                shown = []
                for kernel in ("fused", "mixed"):
                    ratios = [a / b for a, b in zip(times[kernel][1:], times["products"][1:], strict=True)]
                    shown.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
                name, of = str(dtype).removeprefix("torch."), "inference" if gradient is None else "training"
                middle = 1e3 * statistics.median(times["products"][1:])
                print(f"{name:>9} {tokens:>6} {of:>9} {middle:>12.1f}  {shown[0]:<22} {shown[1]}")


if __name__ == "__main__":
    main()
