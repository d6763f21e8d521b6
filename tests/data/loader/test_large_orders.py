"""Orders of sets that are too large for a table: permutations by arithmetic, and a worker's memory with them."""

import multiprocessing
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2

from vitrail.data.loader import sampler
from vitrail.data.loader.keyed_permutation import KeyedPermutation
from vitrail.data.loader.loader import train_loader
from vitrail.data.loader.sampler import ClassBalanced, balanced_examples, batch_indices
from vitrail.data.sources.base import Example, Source
from vitrail.data.transforms.pipeline import Augment, Preprocess, SquareResize, WholeImage

JFT = 303_000_000


def permutation(size: int, seed: int = 0) -> KeyedPermutation:
    return KeyedPermutation(size, np.random.default_rng(seed))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 9, 31, 64, 100, 1023, 1024, 1025, 99_991])
def test_every_place_is_taken_once(size: int) -> None:
    assert np.array_equal(np.sort(permutation(size)[np.arange(size)]), np.arange(size))


def test_a_part_is_that_of_the_whole() -> None:
    whole = permutation(1000)[np.arange(1000)]
    some = np.array([999, 0, 17, 17])
    assert np.array_equal(permutation(1000)[some], whole[some])
    assert not np.array_equal(permutation(1000, seed=1)[np.arange(1000)], whole)


def test_places_of_a_large_set_stay_in_it_and_apart() -> None:
    places = np.concatenate([np.arange(50_000), np.arange(JFT - 50_000, JFT)])
    found = permutation(JFT)[places]
    assert 0 <= found.min() < found.max() < JFT
    assert len(np.unique(found)) == len(places)


def test_it_looks_like_chance() -> None:
    """By chi-square of where 2^17 places go and of neighbours' distances, and by each bit."""
    size, bins = 1 << 27, 256
    found = permutation(size)[np.arange(1 << 17)]
    for numbers in (found, (found[1:] - found[:-1]) % size, (found[2:] - found[:-2]) % size):
        counts = np.bincount(numbers * bins // size, minlength=bins)
        expected = len(numbers) / bins
        assert ((counts - expected) ** 2 / expected).sum() < chi2.ppf(0.999, bins - 1)
    ones = (found[:, None] >> np.arange(27) & 1).mean(axis=0)
    assert np.abs(ones - 0.5).max() < 4 * 0.5 / np.sqrt(len(found))
    assert abs(np.corrcoef(np.arange(len(found)), found)[0, 1]) < 4 / np.sqrt(len(found))


def test_small_permutations_are_all_there() -> None:
    """Of the 24 orders of four examples each comes about equally often, over keys."""
    orders = Counter(tuple(permutation(4, seed)[np.arange(4)]) for seed in range(4800))
    expected = 4800 / 24
    assert len(orders) == 24
    assert sum((count - expected) ** 2 / expected for count in orders.values()) < chi2.ppf(0.999, 23)


def test_orders_of_a_large_set_are_epochs_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "LARGE", 100)
    sampler._permutation.cache_clear()
    try:
        seen = [example for step in range(31) for example in batch_indices(7, step, 10, 101)]
        assert seen == [example for step in range(31) for example in batch_indices(7, step, 10, 101)]
        for epoch in range(3):
            assert sorted(index for n, index in seen if n == epoch)[:101] == list(range(101))
        assert batch_indices(7, 0, 250, 101) == seen[:250]
        table = [index for _, index in batch_indices(7, 0, 100, 100)]
    finally:
        sampler._permutation.cache_clear()
    assert table == np.random.Generator(sampler.generator(7, "order", 0).bit_generator).permutation(100).tolist()


def test_balanced_classes_of_a_large_set_keep_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "LARGE", 50)
    labels = np.array([0] * 40 + [1] * 20)
    classes = ClassBalanced(labels)
    seen = [index for step in range(20) for _, index in balanced_examples(0, step, 4, classes)]
    assert Counter(labels[seen]) == {0: 40, 1: 40}
    assert Counter(index for index in seen if index < 40) == Counter(range(40))
    assert Counter(index for index in seen if index >= 40) == Counter(dict.fromkeys(range(40, 60), 2))
    assert not classes._orders


class Endless(Source):
    """As many images as JFT, of which none is held; neither is a label."""

    classes = ("one", "two")
    labels = np.broadcast_to(np.int64(0), (JFT,))

    def __getitem__(self, index: int) -> Example:
        return Example(np.full((32, 32, 3), index % 256, np.uint8), 0, str(index))


def private_mib(process: int) -> float:
    """MiB that no other process has; what a worker has from its parent is there once."""
    rows = [line.split() for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]]
    return sum(int(row[1]) for row in rows if row[0] in ("Private_Clean:", "Private_Dirty:")) / 1024


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="the system does not tell")
def test_a_worker_of_300_million_images_takes_little_memory() -> None:
    """Measured 18 MiB; a table of the order alone would be 1,156 MiB, and 2,312 more while it is made."""
    options: dict[str, Any] = {"batch": 256, "seed": 0, "start": 1_183_590, "stop": 1_183_600, "workers": 1}
    preprocess = Preprocess((32, 32), SquareResize())
    loader = train_loader(Endless(), Augment(WholeImage()), preprocess, **options)  # from one epoch into the next
    epochs, taken = set(), 0.0
    for batch in loader:
        epochs |= set(batch.epochs.tolist())
        (worker,) = multiprocessing.active_children()
        assert worker.pid not in (None, os.getpid())
        taken = max(taken, private_mib(worker.pid or 0))
    assert epochs == {0, 1}
    assert taken < 300
