"""The handwritten digits, as they are and scattered: splits that share no digit, drawn the same every time."""

import numpy as np
import pytest

from vitrail.data.catalog.digits import CANVAS, PLACEMENTS, PLACES, SIZES, UNSEEN
from vitrail.data.open.names import open_data
from vitrail.data.sources.base import Source


def numbers(source: Source) -> set[str]:
    """Which of the 1,797 digits a source shows."""
    return {source[i].key.split("-")[1] for i in range(len(source))}


def test_the_split_is_by_digit() -> None:
    train, test = open_data("digits@train"), open_data("digits@test")
    assert (len(train), len(test)) == (1352, 445)
    assert not numbers(train) & numbers(test)
    assert len(numbers(train) | numbers(test)) == 1797
    shares = np.bincount(test.labels) / (np.bincount(test.labels) + np.bincount(train.labels))
    assert np.abs(shares - 0.25).max() < 0.01  # class by class


def test_digits_are_the_ones_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    original, source = load_digits(), open_data("digits@test")
    for i in range(0, 445, 50):
        example = source[i]
        number = int(example.key.split("-")[1])
        assert np.array_equal(np.asarray(example.image)[..., 0], np.round(original.images[number] * 255 / 16))
        assert example.label == original.target[number]


def test_scattered_digits_keep_the_split_of_the_digits() -> None:
    train, test = open_data("scattered-digits@train"), open_data("scattered-digits@test")
    assert len(train) == PLACEMENTS * 1352
    assert len(test) == 445
    shown = {train[i].key.split("-")[1] for i in range(1352)}  # the first placement of each
    assert shown == numbers(open_data("digits@train"))
    assert numbers(test) == numbers(open_data("digits@test"))


@pytest.mark.parametrize("part", ["train", "test"])
def test_seen_and_unseen_digits_make_the_whole(part: str) -> None:
    whole, seen, unseen = (open_data(f"scattered-digits@{kind}{part}") for kind in ("", "seen-", "unseen-"))
    assert len(seen) + len(unseen) == len(whole)
    assert unseen.classes == tuple(str(d) for d in UNSEEN) == ("7", "8", "9")
    assert seen.classes == ("0", "1", "2", "3", "4", "5", "6")
    assert sorted(np.unique(unseen.labels)) == [0, 1, 2]
    assert {unseen.classes[label] for label in unseen.labels[:50]} <= {"7", "8", "9"}


def test_a_scattered_digit_is_drawn_the_same_every_time() -> None:
    first, again = open_data("scattered-digits@train"), open_data("scattered-digits@train")
    for i in (0, 1, 1352, 20_000):
        assert np.array_equal(np.asarray(first[i].image), np.asarray(again[i].image))
        assert first[i].key == again[i].key
    placements = [np.asarray(first[1352 * p].image) for p in range(PLACEMENTS)]  # one digit, all its places
    assert len({p.tobytes() for p in placements}) == PLACEMENTS


def test_a_scattered_digit_lies_inside_the_canvas() -> None:
    source = open_data("scattered-digits@test")
    plain = open_data("digits@test")
    spans, corners = [], []
    for i in range(len(source)):
        pixels = np.asarray(source[i].image)
        assert pixels.shape == (CANVAS, CANVAS, 3)
        rows, columns = (np.flatnonzero(pixels[..., 0].any(axis=axis)) for axis in (1, 0))
        spans.append(max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1)
        corners.append((rows[0], columns[0]))
        # nothing was cut off: the ink is that of the 8 x 8 digit, enlarged
        ink, original = pixels[..., 0].sum() / 255, np.asarray(plain[i].image)[..., 0].sum() / 255
        assert original * (SIZES[0] / 8) ** 2 * 0.85 < ink < original * (SIZES[1] / 8) ** 2 * 1.15
    assert max(spans) <= SIZES[1]
    assert len(set(corners)) > 100


def test_strewn_digits_are_half_a_million_and_no_part_shows_a_digit_of_another() -> None:
    parts = {split: open_data(f"strewn-digits@{split}") for split in ("train", "validation", "test")}
    assert {split: len(part) for split, part in parts.items()} == {"train": 500_240, "validation": 3568, "test": 3552}
    shown = [set(part.numbers.tolist()) for part in parts.values()]  # type: ignore[attr-defined]
    assert sum(map(len, shown)) == len(set.union(*shown)) == 1797
    assert all(len(set(part.labels.tolist())) == 10 for part in parts.values())
    last = parts["train"][500_239]
    assert last.key.endswith("placement-369")
    assert not np.array_equal(last.image, parts["train"][500_239 - 1352].image)  # the same digit elsewhere


def test_a_placed_digit_lies_in_the_quarter_of_its_class_and_nowhere_else() -> None:
    train, test = open_data("placed-digits@seen-train"), open_data("placed-digits@seen-test")
    assert len(train.classes) == 28
    assert len(train) == 4 * len(numbers(test) | numbers(train)) - 4 * len(numbers(test))
    for i in range(0, len(train), 97):
        pixels = np.asarray(train[i].image)[..., 0]
        quarters = [pixels[y : y + 8, x : x + 8].any() for y in (0, 8) for x in (0, 8)]
        name = train.classes[train[i].label].split(" ", 1)[1]
        assert [p for p, there in zip(PLACES, quarters, strict=True) if there] == [name]
    assert len(numbers(test)) == len(test)  # once each: its images are independent
