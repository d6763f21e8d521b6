"""One seed, many independent generators, each named by what it is for.

A generator is a function of (seed, names) alone: not of how many numbers somebody drew before, so any part of a run can
be computed again by itself, in any process.
"""

from zlib import crc32

import numpy as np


def _entropy(seed: int, names: tuple[str | int, ...]) -> list[int]:
    return [seed, *(crc32(n.encode()) if isinstance(n, str) else int(n) for n in names)]


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A NumPy generator for `names`, for example `generator(seed, "order", epoch)`.

    The numbers after a name must always be as many: NumPy pads with zeros, so ("a",) and ("a", 0) are one stream.
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(_entropy(seed, names))))


def torch_seed(seed: int, *names: str | int) -> int:
    """A 63-bit number for `torch.manual_seed`, independent for different names."""
    return int(np.random.SeedSequence(_entropy(seed, names)).generate_state(1, np.uint64)[0] >> np.uint64(1))


class Keyed:
    """A generator for each place (i, j) of a named stream, at a twentieth of the cost of `generator`.

    Philox is a counter-based generator: the place is written into the upper words of its counter, so the streams of
    two places never meet, and moving to a place is an assignment.
    """

    def __init__(self, seed: int, *names: str | int):
        key = np.random.SeedSequence(_entropy(seed, names)).generate_state(2, np.uint64)
        self._philox = np.random.Philox(key=key)
        self._start = self._philox.state
        self._generator = np.random.Generator(self._philox)

    def at(self, i: int, j: int) -> np.random.Generator:
        """The generator of that place, at its beginning; valid until the next call."""
        self._start["state"]["counter"][2:] = (j, i)
        self._philox.state = self._start
        return self._generator
