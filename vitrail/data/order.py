"""Which examples make step s: a pure function of (seed, s), so resuming is arithmetic."""

from functools import lru_cache

import numpy as np

from vitrail.core.seeds import generator


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    return generator(seed, "order", epoch).permutation(size)


def examples(seed: int, step: int, batch: int, size: int) -> list[tuple[int, int]]:
    """The (epoch, index) of the `batch` examples of `step`, in order.

    Training reads one endless row of epochs, each a new permutation of 0…size-1; step s takes places s·batch to
    (s+1)·batch of it, so every example is seen once an epoch and a batch may span two.
    """
    places = range(step * batch, (step + 1) * batch)
    return [(place // size, int(_permutation(seed, place // size, size)[place % size])) for place in places]


def share_of_rank(batch: int, rank: int, world: int) -> slice:
    """The places of the global batch that belong to one process."""
    return slice(batch * rank // world, batch * (rank + 1) // world)
