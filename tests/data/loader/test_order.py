"""Which examples make step s: each once an epoch, and a function of (seed, s) alone."""

from collections import Counter

import numpy as np
import pytest

from vitrail.core.errors import BadInput
from vitrail.data.loader.sampler import batch_indices, share_of_rank


@pytest.mark.parametrize(("size", "batch"), [(10, 3), (7, 7), (5, 8), (13, 1), (9, 4)])
def test_every_epoch_sees_each_example_exactly_once(size: int, batch: int) -> None:
    epochs = 5
    steps = size * epochs // batch
    seen = [example for step in range(steps + 1) for example in batch_indices(0, step, batch, size)]
    by_epoch = [Counter(index for epoch, index in seen[: size * epochs] if epoch == e) for e in range(epochs)]
    assert by_epoch == [Counter(range(size))] * epochs


def test_epochs_and_seeds_differ_in_order() -> None:
    first = batch_indices(0, 0, 50, 50)
    assert [i for _, i in batch_indices(0, 1, 50, 50)] != [i for _, i in first]
    assert [i for _, i in batch_indices(1, 0, 50, 50)] != [i for _, i in first]
    assert [i for _, i in first] != sorted(i for _, i in first)


def test_a_step_is_independent_of_history() -> None:
    forwards = {step: batch_indices(4, step, 7, 20) for step in range(30)}
    for step in (29, 3, 17, 0, 28):
        assert batch_indices(4, step, 7, 20) == forwards[step]


@pytest.mark.parametrize(("batch", "world"), [(8, 2), (7, 3), (5, 8), (1, 4)])
def test_ranks_partition_the_global_batch(batch: int, world: int) -> None:
    places = list(range(batch))
    parts = [places[share_of_rank(batch, rank, world)] for rank in range(world)]
    assert [place for part in parts for place in part] == places
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_the_order_is_the_one_that_runs_were_made_with() -> None:
    """Written down: another order would not go on with what older checkpoints have begun."""
    assert batch_indices(0, 1, 4, 6) == [(0, 2), (0, 5), (1, 3), (1, 2)]
    assert batch_indices(0, 1, 4, 6, repeats=1) == batch_indices(0, 1, 4, 6)


# repeated augmentation


@pytest.mark.parametrize(("size", "batch", "repeats"), [(10, 6, 3), (7, 4, 2), (5, 12, 3), (9, 4, 4)])
def test_every_epoch_sees_each_example_as_often_as_it_is_repeated(size: int, batch: int, repeats: int) -> None:
    epochs = 4
    steps = -(-size * epochs * repeats // batch)
    seen = [example for step in range(steps) for example in batch_indices(0, step, batch, size, repeats)]
    assert len(set(seen)) == len(seen)  # no key of an augmentation comes twice
    whole = [(n, index) for n, index in seen if n < epochs * repeats]
    assert sorted(whole) == [(n, index) for n in range(epochs * repeats) for index in range(size)]


def test_all_copies_are_in_one_batch() -> None:
    for step in range(20):
        rows = batch_indices(3, step, 12, 50, 3)
        assert len(rows) == 12
        assert set(Counter(index for _, index in rows).values()) == {3}
        by_example = {index: sorted(n for n, i in rows if i == index) for _, index in rows}
        assert all(copies == [copies[0], copies[0] + 1, copies[0] + 2] for copies in by_example.values())
        assert all(copies[0] % 3 == 0 for copies in by_example.values())


def test_the_examples_of_a_step_are_those_of_a_smaller_batch_without_repeats() -> None:
    for step in range(20):
        first = batch_indices(3, step, 12, 50, 3)[:4]
        assert [(n // 3, index) for n, index in first] == batch_indices(3, step, 4, 50)


def test_neighbours_differ_from_copy_to_copy() -> None:
    """Mixup and CutMix mix neighbours: the copies of an example must not all be mixed with the same one."""
    rows = [index for _, index in batch_indices(0, 0, 3 * 64, 10_000, 3)]
    pairs = Counter(zip(rows, rows[-1:] + rows[:-1], strict=True))
    assert not any(ours == before for ours, before in pairs)
    assert len(pairs) > 180  # 192 were all different


def test_a_repeated_step_is_independent_of_history() -> None:
    forwards = {step: batch_indices(4, step, 6, 20, 3) for step in range(30)}
    for step in (29, 3, 17, 0, 28):
        assert batch_indices(4, step, 6, 20, 3) == forwards[step]


@pytest.mark.parametrize("repeats", [0, 5])
def test_a_batch_that_cannot_be_divided_is_refused(repeats: int) -> None:
    with pytest.raises(BadInput, match=f"a batch of 12 .* {repeats} times"):
        batch_indices(0, 0, 12, 50, repeats)


def test_indices_are_plain_numbers() -> None:
    assert not any(isinstance(number, np.generic) for row in batch_indices(0, 0, 6, 20, 3) for number in row)
