"""How training samples its examples: evenly, each several times in a batch, or classes evenly.

K classes that have examples · n_k examples of class k
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from jaxtyping import Int64

from vitrail.core.errors import BadInput
from vitrail.core.seeds import Keyed, generator
from vitrail.data.loader.keyed_permutation import KeyedPermutation

LARGE = 2**24  # examples above which orders are arithmetic: as tables each worker would hold gigabytes of them


@dataclass(frozen=True)
class Sampling:
    """The default takes every example once an epoch."""

    repeats: int = 1  # how often an example is in a batch, each time with its own augmentation (DeiT III: 3)
    balanced: bool = False  # all classes equally often, however many examples they have


Plan = Callable[[int], list[tuple[int, int]]]  # of a step, the (n, index) of its examples


def plan(config: Sampling, seed: int, labels: Int64[np.ndarray, " n"] | int, batch: int) -> Plan:
    """What says which examples make a step. It can be pickled, and so be handed to other processes.

    Args:
        labels: of all examples; their number will do where classes are not balanced.

    Raises:
        BadInput: a batch that is no multiple of the repeats.
        ValueError: classes are to be balanced, and their labels are not given.
    """
    distinct(batch, config.repeats)
    if not config.balanced:
        size = labels if isinstance(labels, int) else len(labels)
        return partial(batch_indices, seed, batch=batch, size=size, repeats=config.repeats)
    if isinstance(labels, int):
        raise ValueError("balanced classes need the labels of all examples, not their number")
    return partial(balanced_examples, seed, batch=batch, classes=ClassBalanced(labels), repeats=config.repeats)


class ClassBalanced:
    """The examples of each class, found once: `members[k]` are the indices of the K classes that have any."""

    def __init__(self, labels: Int64[np.ndarray, " n"]):
        order = np.argsort(labels, kind="stable").astype(np.uint32)  # every worker holds them
        starts = np.flatnonzero(np.diff(labels[order])) + 1
        self.members: list[np.ndarray] = np.split(order, starts)
        self._large = len(labels) > LARGE
        self._orders: dict[tuple[int, int], tuple[int, np.ndarray]] = {}

    def example(self, seed: int, k: int, n: int) -> tuple[int, int]:
        """The n-th example, from 0, of an endless row of permutations of class k; and of which permutation it is.

        The newest permutation of each class is kept, so that a run makes each of them once; of a large set none.
        """
        members = self.members[k]
        epoch, place = divmod(n, len(members))
        if self._large:
            keyed = KeyedPermutation(len(members), Keyed(seed, "order of a class").at(k, epoch))
            return epoch, int(members[keyed[np.array([place])]][0])
        known, order = self._orders.get((seed, k), (-1, members))
        if known != epoch:
            order = Keyed(seed, "order of a class").at(k, epoch).permutation(members)
            self._orders[seed, k] = epoch, order
        return epoch, int(order[place])


def balanced_examples(
    seed: int, step: int, batch: int, classes: ClassBalanced, repeats: int = 1
) -> list[tuple[int, int]]:
    """The (n, index) of the examples of `step`, classes equally often: a pure function, whatever steps came before.

    The classes make one endless row of rounds, each a new permutation of them, and each class reads its examples in an
    endless row of permutations. So each K examples have all classes, and round r takes the r-th example of each: places
    are arithmetic as in `batch_indices`, which classes drawn one by one would not allow. n counts the visits of an
    example, more of them for rare classes; an epoch is, for want of a better one, as many examples as there are.

    Raises:
        BadInput: a batch that is no multiple of the repeats.
    """
    each, count, random = distinct(batch, repeats), len(classes.members), Keyed(seed, "classes")
    first, last = step * each // count, -(-(step + 1) * each // count)
    row = [(r, int(k)) for r in range(first, last) for k in random.at(0, r).permutation(count)]
    skipped = step * each - first * count
    chosen = [classes.example(seed, k, r) for r, k in row[skipped : skipped + each]]
    return repeated_augmentation(chosen, seed, step, repeats)


@lru_cache(maxsize=2)  # a batch may span two epochs
def _permutation(seed: int, epoch: int, size: int) -> np.ndarray | KeyedPermutation:
    """Where the places of an epoch go; above LARGE examples without a table."""
    random = generator(seed, "order", epoch)
    if size > LARGE:
        return KeyedPermutation(size, random)
    order: np.ndarray = random.permutation(size).astype(np.uint32)
    return order


def batch_indices(seed: int, step: int, batch: int, size: int, repeats: int = 1) -> list[tuple[int, int]]:
    """The (n, index) of the `batch` examples of `step`, in order.

    Training reads one endless row of epochs, each a new permutation of 0…size-1; step s takes places s·batch to
    (s+1)·batch of it, so every example is seen once an epoch and a batch may span two. n is the epoch.

    With repeated augmentation (arXiv 1902.05509) a step takes only batch / repeats places, and each example `repeats`
    times; so an epoch takes `repeats` times as many steps. n is epoch · repeats + copy.

    Raises:
        BadInput: a batch that is no multiple of the repeats.
    """
    each = distinct(batch, repeats)
    places = np.arange(step * each, (step + 1) * each)
    chosen = []
    for epoch in range(step * each // size, ((step + 1) * each - 1) // size + 1):
        here = places[places // size == epoch] - epoch * size
        chosen += [(epoch, int(index)) for index in _permutation(seed, epoch, size)[here]]
    return repeated_augmentation(chosen, seed, step, repeats)


def distinct(batch: int, repeats: int) -> int:
    """How many examples a batch has, each of them `repeats` times; raises BadInput where that is no whole number."""
    if repeats < 1 or batch % repeats:
        raise BadInput(f"a batch of {batch} cannot hold each of its examples {repeats} times")
    return batch // repeats


def repeated_augmentation(chosen: list[tuple[int, int]], seed: int, step: int, repeats: int) -> list[tuple[int, int]]:
    """All examples, then all again, each time in another order: what mixes neighbours finds other pairs every time."""
    rows = list(chosen) if repeats == 1 else [(n * repeats, index) for n, index in chosen]
    for copy in range(1, repeats):
        order = generator(seed, "copies", step, copy).permutation(len(chosen))
        rows += [(chosen[i][0] * repeats + copy, chosen[i][1]) for i in order]
    return rows


def share_of_rank(batch: int, rank: int, world: int) -> slice:
    """The places of the global batch that belong to one process."""
    return slice(batch * rank // world, batch * (rank + 1) // world)
