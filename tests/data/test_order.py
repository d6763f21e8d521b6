"""Which examples make step s: each once an epoch, and a function of (seed, s) alone."""

from collections import Counter

import pytest

from vitrail.data.order import examples, share_of_rank


@pytest.mark.parametrize(("size", "batch"), [(10, 3), (7, 7), (5, 8), (13, 1), (9, 4)])
def test_every_epoch_sees_each_example_exactly_once(size: int, batch: int) -> None:
    epochs = 5
    steps = size * epochs // batch
    seen = [example for step in range(steps + 1) for example in examples(0, step, batch, size)]
    by_epoch = [Counter(index for epoch, index in seen[: size * epochs] if epoch == e) for e in range(epochs)]
    assert by_epoch == [Counter(range(size))] * epochs


def test_epochs_and_seeds_differ_in_order() -> None:
    first = examples(0, 0, 50, 50)
    assert [i for _, i in examples(0, 1, 50, 50)] != [i for _, i in first]
    assert [i for _, i in examples(1, 0, 50, 50)] != [i for _, i in first]
    assert [i for _, i in first] != sorted(i for _, i in first)


def test_a_step_is_independent_of_history() -> None:
    forwards = {step: examples(4, step, 7, 20) for step in range(30)}
    for step in (29, 3, 17, 0, 28):
        assert examples(4, step, 7, 20) == forwards[step]


@pytest.mark.parametrize(("batch", "world"), [(8, 2), (7, 3), (5, 8), (1, 4)])
def test_ranks_partition_the_global_batch(batch: int, world: int) -> None:
    places = list(range(batch))
    parts = [places[share_of_rank(batch, rank, world)] for rank in range(world)]
    assert [place for part in parts for place in part] == places
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
