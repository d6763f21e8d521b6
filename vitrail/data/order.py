"""Which examples make step s: a pure function of (seed, s), so resuming is arithmetic.

An example is named by a pair (n, index): the n-th time, from 0, that training comes to example `index`. No pair comes
twice in a run, so it can key the augmentation.
"""

from functools import lru_cache

import numpy as np

from vitrail.core.errors import BadInput
from vitrail.core.seeds import generator


@lru_cache(maxsize=2)  # a batch may span two epochs; each process of a large set holds these tables
def _permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    order = generator(seed, "order", epoch).permutation(size)
    return order.astype(np.uint32) if size < 2**32 else order


def examples(seed: int, step: int, batch: int, size: int, repeats: int = 1) -> list[tuple[int, int]]:
    """The (n, index) of the `batch` examples of `step`, in order.

    Training reads one endless row of epochs, each a new permutation of 0…size-1; step s takes places s·batch to
    (s+1)·batch of it, so every example is seen once an epoch and a batch may span two. n is the epoch.

    With repeated augmentation (arXiv 1902.05509) a step takes only batch / repeats places, and each example `repeats`
    times; so an epoch takes `repeats` times as many steps. n is epoch · repeats + copy.

    Raises:
        BadInput: a batch that is no multiple of the repeats.
    """
    each = distinct(batch, repeats)
    places = range(step * each, (step + 1) * each)
    chosen = [(place // size, int(_permutation(seed, place // size, size)[place % size])) for place in places]
    return copies(chosen, seed, step, repeats)


def distinct(batch: int, repeats: int) -> int:
    """How many examples a batch has, each of them `repeats` times; raises BadInput where that is no whole number."""
    if repeats < 1 or batch % repeats:
        raise BadInput(f"a batch of {batch} cannot hold each of its examples {repeats} times")
    return batch // repeats


def copies(chosen: list[tuple[int, int]], seed: int, step: int, repeats: int) -> list[tuple[int, int]]:
    """All examples, then all again, each time in another order: what mixes neighbours finds other pairs every time."""
    rows = list(chosen) if repeats == 1 else [(n * repeats, index) for n, index in chosen]
    for copy in range(1, repeats):
        order = generator(seed, "copies", step, copy).permutation(len(chosen))
        rows += [(chosen[i][0] * repeats + copy, chosen[i][1]) for i in order]
    return rows


def share_of_rank(batch: int, rank: int, world: int) -> slice:
    """The places of the global batch that belong to one process."""
    return slice(batch * rank // world, batch * (rank + 1) // world)
