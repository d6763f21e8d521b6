"""Balanced classes: equally often, each class in its own order, a function of (seed, step) alone; and the plan."""

import pickle
from collections import Counter

import numpy as np
import pytest

from vitrail.core.errors import BadInput
from vitrail.data.loader.sampler import ClassBalanced, Sampling, balanced_examples, batch_indices, plan

COUNTS = {2: 50, 0: 7, 7: 1, 5: 20}  # examples of each label; labels between have none
LABELS = np.random.default_rng(0).permutation(np.repeat(list(COUNTS), list(COUNTS.values())))


def labels_of(rows: list[tuple[int, int]]) -> list[int]:
    return [int(LABELS[index]) for _, index in rows]


def endless(batch: int, steps: int, seed: int = 0) -> list[tuple[int, int]]:
    """All examples of the first steps, each step asked of an index that knows nothing yet."""
    return [row for step in range(steps) for row in balanced_examples(seed, step, batch, ClassBalanced(LABELS))]


def test_an_index_has_every_example_under_its_class() -> None:
    members = ClassBalanced(LABELS).members
    assert [sorted(m.tolist()) for m in members] == [np.flatnonzero(k == LABELS).tolist() for k in sorted(COUNTS)]


@pytest.mark.parametrize("batch", [1, 3, 4, 10])
def test_every_four_examples_have_all_four_classes(batch: int) -> None:
    rows = labels_of(endless(batch, 60 // batch))
    assert len(rows) == 60
    assert all(sorted(rows[i : i + 4]) == sorted(COUNTS) for i in range(0, 60, 4))


def test_batches_of_any_size_cut_the_same_row() -> None:
    assert endless(6, 10) == endless(5, 12) == endless(60, 1)


def test_each_class_reads_its_examples_in_permutations_of_its_own() -> None:
    rows = endless(20, 40)  # each class 200 times
    for k, count in COUNTS.items():
        mine = [row for row in rows if LABELS[row[1]] == k]
        assert len(mine) == 200
        passes = [mine[start : start + count] for start in range(0, 200 - 200 % count, count)]
        assert all(sorted(index for _, index in one) == np.flatnonzero(k == LABELS).tolist() for one in passes)
        assert all({n for n, _ in one} == {number} for number, one in enumerate(passes))
        orders = {tuple(index for _, index in one) for one in passes}
        assert len(orders) == (len(passes) if count > 1 else 1)


def test_no_key_of_an_augmentation_comes_twice() -> None:
    rows = endless(20, 40)
    assert len(set(rows)) == len(rows)
    repeated = [row for step in range(40) for row in balanced_examples(0, step, 20, ClassBalanced(LABELS), 4)]
    assert len(set(repeated)) == len(repeated)


def test_all_orders_of_the_classes_are_as_likely() -> None:
    rows = labels_of(endless(4, 3000))
    orders = Counter(tuple(rows[i : i + 4]) for i in range(0, len(rows), 4))
    assert len(orders) == 24
    chi2 = sum((count - 125) ** 2 / 125 for count in orders.values())
    assert chi2 < 44.2  # of 23 degrees of freedom, exceeded with a probability of 0.5 %


def test_an_example_of_a_class_is_as_likely_in_every_place() -> None:
    """Of the seven examples of class 0, over 300 seeds: which one comes first."""
    first = Counter()
    for seed in range(300):
        first[next(row[1] for row in endless(7, 4, seed) if LABELS[row[1]] == 0)] += 1
    assert first.keys() == set(np.flatnonzero(LABELS == 0).tolist())
    chi2 = sum((count - 300 / 7) ** 2 / (300 / 7) for count in first.values())
    assert chi2 < 18.5  # of 6 degrees of freedom, 0.5 %


def test_a_step_is_independent_of_history_and_of_other_seeds() -> None:
    used = ClassBalanced(LABELS)
    forwards = {(seed, step): balanced_examples(seed, step, 9, used) for step in range(40) for seed in (4, 5)}
    for seed, step in ((4, 39), (5, 3), (4, 17), (4, 0), (5, 38)):
        assert balanced_examples(seed, step, 9, used) == forwards[seed, step]
        assert balanced_examples(seed, step, 9, ClassBalanced(LABELS)) == forwards[seed, step]
    assert forwards[4, 0] != forwards[5, 0]


def test_balanced_examples_are_repeated_like_others() -> None:
    for step in range(10):
        rows = balanced_examples(1, step, 12, ClassBalanced(LABELS), 3)
        assert set(Counter(rows).values()) == {1}
        once = balanced_examples(1, step, 4, ClassBalanced(LABELS))
        assert sorted((n // 3, index) for n, index in rows) == sorted(once * 3)


def test_one_class_is_an_endless_row_of_permutations() -> None:
    rows = [
        index for step in range(4) for _, index in balanced_examples(0, step, 5, ClassBalanced(np.zeros(10, np.int64)))
    ]
    assert sorted(rows[:10]) == sorted(rows[10:]) == list(range(10))


# the plan


def test_the_default_plan_is_the_order() -> None:
    for size in (LABELS, len(LABELS)):
        assert plan(Sampling(), 3, size, 8)(5) == batch_indices(3, 5, 8, len(LABELS))


def test_a_plan_repeats_and_balances() -> None:
    assert plan(Sampling(repeats=2), 3, 78, 8)(5) == batch_indices(3, 5, 8, 78, 2)
    balanced = plan(Sampling(repeats=2, balanced=True), 3, LABELS, 8)
    assert balanced(5) == balanced_examples(3, 5, 8, ClassBalanced(LABELS), 2)
    assert Counter(labels_of(balanced(5))) == dict.fromkeys(COUNTS, 2)


@pytest.mark.parametrize("config", [Sampling(), Sampling(repeats=4), Sampling(balanced=True)])
def test_a_plan_is_the_same_in_another_process(config: Sampling) -> None:
    made = plan(config, 0, LABELS, 8)
    made(11)
    assert pickle.loads(pickle.dumps(made))(3) == made(3)


def test_a_plan_that_cannot_be_is_refused_at_once() -> None:
    with pytest.raises(BadInput, match="a batch of 8"):
        plan(Sampling(repeats=3, balanced=True), 0, LABELS, 8)
    with pytest.raises(ValueError, match="labels"):
        plan(Sampling(balanced=True), 0, 78, 8)


def test_indices_are_plain_numbers() -> None:
    rows = balanced_examples(0, 0, 12, ClassBalanced(LABELS), 3)
    assert not any(isinstance(number, np.generic) for row in rows for number in row)
