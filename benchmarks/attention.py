"""The two kernels of vitrail.models.attention in turns: which is faster, by device, dtype and length.

    python benchmarks/attention.py [--device cpu] [--rounds 9]

Prints, for forward and backward together, the median of (time of the fused kernel / time of the explicit one) over the
rounds, with its range: above 1 the explicit one is faster. `attend` chooses by this table.
"""

import argparse
import statistics
import time

import torch
from einops import rearrange
from torch.nn import functional as F

from vitrail.core.device import choose_device, describe_device, synchronize
from vitrail.models.attention import attention_weights

#         tokens, batch, heads, head width
SHAPES = [(17, 256, 4, 32), (37, 128, 4, 32), (65, 128, 3, 64), (197, 32, 3, 64), (257, 16, 6, 64), (577, 4, 6, 64)]


def seconds(fused: bool, qkv: torch.Tensor, gradient: torch.Tensor, heads: int, device: torch.device) -> float:
    """Of one forward and backward, from and to the layout that the linear maps around attention have."""
    synchronize(device)
    start = time.perf_counter()
    q, k, v = rearrange(qkv, "b n (three h k) -> three b h n k", three=3, h=heads).unbind(0)
    mixed = F.scaled_dot_product_attention(q, k, v) if fused else attention_weights(q, k) @ v
    rearrange(mixed, "b h n k -> b n (h k)").backward(gradient)
    synchronize(device)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    device = choose_device(options.device)
    print(f"{describe_device(device)}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'dtype':>9} {'tokens':>6} {'explicit ms':>12} {'fused / explicit':>17}  range")
    for dtype in (torch.float32, torch.bfloat16):
        for tokens, batch, heads, width in SHAPES:
            qkv = torch.randn(batch, tokens, 3 * heads * width, device=device, dtype=dtype, requires_grad=True)
            gradient = torch.randn(batch, tokens, heads * width, device=device, dtype=dtype)
            for fused in (True, False):
                seconds(fused, qkv, gradient, heads, device)
            ratios, explicit = [], []
            for _ in range(options.rounds):
                ours = seconds(False, qkv, gradient, heads, device)
                ratios.append(seconds(True, qkv, gradient, heads, device) / ours)
                explicit.append(ours)
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            middle = statistics.median(ratios)
            name = str(dtype).removeprefix("torch.")
            print(f"{name:>9} {tokens:>6} {1e3 * statistics.median(explicit):>12.1f} {middle:>17.2f}  {spread}")


if __name__ == "__main__":
    main()
