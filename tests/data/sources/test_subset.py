"""Seeded subsets: slices, classes, shots."""

import numpy as np
import pytest

from tests.data.pictures import noise
from vitrail.core.errors import BadInput
from vitrail.data.open.names import open_data
from vitrail.data.sources.base import ArraySource
from vitrail.data.sources.subset import Subset, few, sample, share, shots, slice_of, stratified


def source_of(labels: list[int], classes: int = 3) -> ArraySource:
    images = noise(len(labels), 4)[:, None]  # [N, 1, 4, 3]: every picture differs
    return ArraySource(images, np.array(labels), tuple("abcdefghij"[:classes]), [f"k{i}" for i in range(len(labels))])


def keys(source: object) -> list[str]:
    return [source[i].key for i in range(len(source))]  # type: ignore[index, arg-type]


ORDERED = [0] * 40 + [1] * 35 + [2] * 26


@pytest.mark.parametrize("labels", [ORDERED, [0, 2, 1] * 33], ids=["ordered", "mixed"])
@pytest.mark.parametrize("cut", ["90%", "33%", "17", "50%"])
def test_slices_are_disjoint_and_complementary(labels: list[int], cut: str) -> None:
    source = source_of(labels)
    first, rest = slice_of(source, "", cut), slice_of(source, cut, "")
    assert not set(keys(first)) & set(keys(rest))
    assert sorted(keys(first) + keys(rest)) == sorted(keys(source))
    expected = round(len(labels) * int(cut[:-1]) / 100) if cut.endswith("%") else int(cut)
    assert len(first) == expected


def test_a_class_ordered_source_is_shuffled_before_it_is_cut() -> None:
    half = slice_of(source_of(ORDERED), "", "50%")
    assert set(half.labels.tolist()) == {0, 1, 2}
    assert keys(half) == keys(slice_of(source_of(ORDERED), "", "50%"))  # always the same way


def test_a_mixed_source_keeps_its_order() -> None:
    source = source_of([0, 2, 1, 0, 1])
    assert keys(slice_of(source, "1", "4")) == ["k1", "k2", "k3"]
    assert keys(slice_of(source, "-2", "")) == ["k3", "k4"]
    assert keys(slice_of(source, "", "-2")) == ["k0", "k1", "k2"]
    assert keys(slice_of(source, "3", "1000")) == ["k3", "k4"]


def test_negative_percentages_count_from_the_end() -> None:
    source = source_of([0, 2, 1, 0, 1] * 2)
    assert keys(slice_of(source, "-20%", "")) == ["k8", "k9"]
    assert keys(slice_of(source, "", "-20%")) == [f"k{i}" for i in range(8)]


@pytest.mark.parametrize(("start", "stop"), [("5", "5"), ("60%", "40%"), ("100", ""), ("", "0%")])
def test_an_empty_slice_is_refused(start: str, stop: str) -> None:
    with pytest.raises(BadInput, match="of 5 images is empty"):
        slice_of(source_of([0, 2, 1, 0, 1]), start, stop)


def test_a_subset_says_the_same_by_labels_and_by_item() -> None:
    source = source_of([0, 2, 1, 0, 2, 1])
    part = Subset(source, np.array([0, 1, 3, 4]), ("c", "a"))
    assert part.classes == ("c", "a")
    assert keys(part) == ["k0", "k1", "k3", "k4"]
    assert part.labels.tolist() == [1, 0, 1, 0] == [part[i].label for i in range(4)]
    assert np.array_equal(np.asarray(part[1].image), source.images[1])


def test_fewer_shots_are_a_part_of_more() -> None:
    source = open_data("digits@train")
    one, five, ten = (shots(source, count, seed=3) for count in (1, 5, 10))
    assert set(one) < set(five) < set(ten)
    for count, chosen in ((1, one), (5, five), (10, ten)):
        assert np.bincount(source.labels[chosen]).tolist() == [count] * 10
        assert len(set(chosen)) == 10 * count
    assert set(shots(source, 5, seed=4)) != set(five)


def test_shots_are_the_official_draw() -> None:
    """big_vision's evaluators/fewshot_lsr.py: one generator, classes in order, a permutation each."""
    source = open_data("digits@train")
    rng = np.random.default_rng(7)
    official = []
    for c in range(10):
        (where,) = np.where(source.labels == c)
        official += rng.permutation(where)[:5].tolist()
    assert shots(source, 5, seed=7).tolist() == official


def test_too_few_shots_name_the_class() -> None:
    with pytest.raises(BadInput, match="3 shots asked for, but class 'b' has 2 images"):
        shots(source_of([0, 0, 0, 1, 1, 2, 2, 2]), 3, seed=0)


def test_a_smaller_sample_is_a_part_of_a_larger_one() -> None:
    source = source_of([0, 2, 1] * 33)
    small, large = sample(source, 10, seed=2), share(source, 0.5, seed=2)
    assert len(small) == 10
    assert len(large) == 50
    assert set(keys(small)) < set(keys(large))
    assert keys(large) == sorted(keys(large), key=lambda key: int(key[1:]))  # in the order of the source
    assert set(keys(sample(source, 10, seed=3))) != set(keys(small))
    assert keys(share(source, 1.0, seed=2)) == keys(source)
    for count in (0, 100):
        with pytest.raises(BadInput, match="expected 1 to 99"):
            sample(source, count, seed=0)
    with pytest.raises(BadInput, match="a share of 1.5 .* expected above 0 to 1"):
        share(source, 1.5, seed=0)


def test_few_are_shots_as_a_source() -> None:
    source = source_of(ORDERED)
    assert np.bincount(few(source, 5, seed=1).labels).tolist() == [5, 5, 5]


def test_classes_may_be_more_than_the_source_has() -> None:
    part = Subset(source_of([0, 1, 0], classes=2), np.arange(3), ("z", "b", "a"))
    assert part.labels.tolist() == [2, 1, 2]
    with pytest.raises(ValueError, match="a subset without the class 'b' cannot hold its images"):
        Subset(source_of([0, 1], classes=2), np.arange(2), ("a",))


def test_a_million_labels_are_renamed_at_once() -> None:
    import time

    many = ArraySource(
        np.zeros((1, 1, 1, 3), np.uint8), np.arange(1_000_000) % 21_000, tuple(map(str, range(21_000))), []
    )
    start = time.perf_counter()
    part = Subset(many, np.arange(1_000_000), many.classes[::-1])
    assert time.perf_counter() - start < 1  # measured 0.03; a loop takes 20 times as long
    assert part.labels[:3].tolist() == [20_999, 20_998, 20_997]


@pytest.mark.parametrize("part", [0.02, 0.1, 0.37, 0.5])
def test_a_part_held_out_is_of_every_class_alike_and_whole_with_the_rest(part: float) -> None:
    rng = np.random.default_rng(0)
    source = source_of(list(rng.permutation(np.repeat(np.arange(5), [200, 60, 33, 10, 3]))), classes=6)
    rest, held = stratified(source, part, seed=3)
    assert sorted([*rest.indices, *held.indices]) == list(range(len(source)))
    assert len(held) == max(1, round(part * len(source)))
    for label, count in enumerate(np.bincount(source.labels, minlength=6)):
        taken = int((held.labels == label).sum())
        assert int(part * count) <= taken <= int(part * count) + 1
    assert rest.classes == held.classes == source.classes
    again = stratified(source, part, seed=3)[1]
    assert np.array_equal(again.indices, held.indices)
    assert not np.array_equal(stratified(source, part, seed=4)[1].indices, held.indices)


def test_a_class_keeps_an_image_to_learn_from() -> None:
    source = source_of([0, 1, 1, 2, 2, 2])
    rest, held = stratified(source, 0.9, seed=0)
    assert set(rest.labels) == {0, 1, 2}
    assert 0 not in held.labels
    with pytest.raises(BadInput, match="no class has two images"):
        stratified(source_of([0, 1, 2]), 0.5, seed=0)
    with pytest.raises(BadInput, match="expected between 0 and 1"):
        stratified(source, 1.0, seed=0)
