"""Random numbers of many places at once, on any device: number j of a place is a hash of (key, place, j) and no more.

The hash is SplitMix64's (Steele, Lea and Flood 2014), in 64-bit integers that wrap around, so every device draws the
same numbers, and no place depends on who else is in the batch. `vitrail.core.seeds.Keyed` is the same for one place.

B places · K numbers of each
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

# SplitMix64's constants, as the signed numbers of the same bits
_STEP = 0x9E3779B97F4A7C15 - (1 << 64)
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)


class CounterRNG:
    """The numbers of B places, each place a pair (i, j). `key`: a number from `core.seeds.torch_seed`."""

    def __init__(self, key: int, i: Int64[Tensor, " b"], j: Int64[Tensor, " b"]):
        self._places = _mixed(_mixed((i + 1) * _STEP + key) + (j + 1) * _STEP)

    def bits(self, first: int, count: int) -> Int64[Tensor, "b {count}"]:
        """The numbers `first` to `first + count - 1` of each place: 64 even bits."""
        numbers = torch.arange(first + 1, first + count + 1, device=self._places.device)
        return _mixed(self._places[:, None] + numbers * _STEP)

    def uniform(self, first: int, count: int) -> Float[Tensor, "b {count}"]:
        """Float64, from 0 to less than 1, in steps of 2^-53."""
        return (self.bits(first, count) >> 11 & (1 << 53) - 1).double().mul_(2.0**-53)


def _mixed(z: Tensor) -> Tensor:
    z = (z ^ (z >> 30 & (1 << 34) - 1)) * _FIRST  # int64 shifts copy the sign: the mask takes it away
    z = (z ^ (z >> 27 & (1 << 37) - 1)) * _SECOND
    return z ^ (z >> 31 & (1 << 33) - 1)
