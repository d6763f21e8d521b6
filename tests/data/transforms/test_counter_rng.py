"""Keyed numbers in batch: even, independent of neighbours, and a function of their place alone."""

import numpy as np
import torch
from scipy import stats

from vitrail.core.seeds import torch_seed
from vitrail.data.transforms.counter_rng import CounterRNG

KEY = torch_seed(0, "test")


def places(count: int, i: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.full((count,), i), torch.arange(count)


def splitmix(state: int) -> int:
    """SplitMix64's output for a state, in Python's integers."""
    z = state % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def test_the_numbers_are_splitmix64() -> None:
    # the reference's first outputs for the seed 1234567: prng.di.unimi.it/splitmix64.c
    golden, step = [6457827717110365317, 3203168211198807973, 9817491932198370423], 0x9E3779B97F4A7C15
    assert [splitmix(1234567 + k * step) for k in (1, 2, 3)] == golden
    got = CounterRNG(KEY, torch.tensor([3]), torch.tensor([41])).bits(5, 4)[0]
    place = splitmix(splitmix(4 * step + KEY) + 42 * step)
    assert [int(v) % 2**64 for v in got] == [splitmix(place + k * step) for k in (6, 7, 8, 9)]


def test_a_number_depends_on_its_place_alone() -> None:
    whole = CounterRNG(KEY, *places(50, 2)).uniform(0, 9)
    alone = CounterRNG(KEY, torch.tensor([2]), torch.tensor([17])).uniform(4, 3)
    assert torch.equal(whole[17:18, 4:7], alone)


def test_numbers_are_even_and_neighbours_have_nothing_to_do_with_each_other() -> None:
    numbers = torch.stack([CounterRNG(KEY, *places(400, i)).uniform(0, 25) for i in range(4)]).numpy()
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert stats.kstest(numbers.ravel(), "uniform").pvalue > 0.01  # measured 0.67
    for axis in range(3):
        first, second = numbers.take(range(3), axis=axis).ravel(), numbers.take(range(1, 4), axis=axis).ravel()
        limit = 4 / np.sqrt(len(first))
        assert abs(np.corrcoef(first, second)[0, 1]) < limit


def test_another_seed_draws_other_numbers() -> None:
    ours, theirs = (CounterRNG(torch_seed(seed, "test"), *places(100)).uniform(0, 1) for seed in (0, 1))
    assert not (ours == theirs).any()
