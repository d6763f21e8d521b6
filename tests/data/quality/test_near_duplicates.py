"""Copies are found whatever was done to them, and strangers are not."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.benchmark import benchmark
from tests.data.pictures import noise, smooth
from tests.data.scenes import scene
from vitrail.data.quality import phash
from vitrail.data.quality.alignment import correlation
from vitrail.data.quality.near_duplicates import DETAIL, find_near_duplicates
from vitrail.data.quality.phash import thumbnail
from vitrail.data.quality.scan import Scanned, scan
from vitrail.data.quality.similar_pairs import MOST, exact, within_cells
from vitrail.data.sources.base import ArraySource


def table_of(images: list[np.ndarray]) -> Scanned:
    """Images of any sizes, as `scan` sees them."""
    parts = [
        scan(ArraySource(pixels[None], np.zeros(1, np.int64), ("a",), [f"{i}"]), workers=1)
        for i, pixels in enumerate(images)
    ]
    return Scanned(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in vars(parts[0])})


def test_each_kind_of_copy_is_found_and_no_stranger() -> None:
    made = benchmark("duplicates")
    images = np.stack([scene(i) for i in range(200)])
    source = ArraySource(images, np.zeros(200, np.int64), ("scene",), [str(i) for i in range(200)])
    planted = made.Planted(source, 20)
    copies = find_near_duplicates([scan(source, workers=1), scan(planted, workers=1)])
    rows = made.tally(copies, planted.originals, planted.kinds, 200)
    for kind, (count, found, false) in rows.items():
        assert found >= 0.95 * count, (kind, rows)
        assert not false, (kind, rows)
    strangers = [pair for pair in copies.near if pair.second < 200]
    assert not strangers


def test_a_mirrored_copy_says_so_and_a_plain_one_does_not() -> None:
    pixels, dark = scene(1), (scene(1) * 0.8).astype(np.uint8)
    copies = find_near_duplicates([table_of([pixels, pixels[:, ::-1], dark])])
    assert {(p.first, p.second): p.mirrored for p in copies.near} == {(0, 1): True, (0, 2): False, (1, 2): True}


def test_equal_pixels_are_exact_whatever_lies_between_them() -> None:
    copies = find_near_duplicates([table_of([scene(0), scene(1), scene(0)])])
    assert [pair[:4] for pair in copies.of(2, range(3))] == [(0, 2, "exact", 1.0)]
    assert copies.of(1, range(3)) == []
    assert copies.places(range(3)) == [0, 2]


def test_exact_copies_of_a_near_copy_are_copies_too() -> None:
    dark = (scene(0) * 0.8).astype(np.uint8)
    copies = find_near_duplicates([table_of([scene(0), dark, scene(2), dark])])
    assert [(p.first, p.second, p.kind) for p in copies.of(0, range(4))] == [(0, 1, "near"), (0, 3, "near")]
    assert copies.kept(range(4)).tolist() == [True, False, True, False]


def test_images_of_one_grey_and_broken_ones_are_nobodys_copies() -> None:
    grey, greyer = np.full((64, 64, 3), 100, np.uint8), np.full((64, 64, 3), 101, np.uint8)
    table = table_of([grey, greyer, scene(0)])
    table.digest[2] = 0  # as of an image that cannot be read
    copies = find_near_duplicates([table])
    assert not copies.near
    assert not copies.places(range(3))


def test_of_tiny_images_only_equal_ones_are_copies() -> None:
    tiny = [scene(0, 12), (scene(0, 12) * 0.8).astype(np.uint8), scene(0, 12)]
    copies = find_near_duplicates([table_of(tiny)])
    assert not copies.near
    assert copies.places(range(3)) == [0, 2]


def test_test_sets_are_compared_with_training_and_not_with_each_other() -> None:
    first, second, third = scene(0), scene(1), scene(2)

    def darker(pixels: np.ndarray) -> np.ndarray:
        return (pixels * 0.8).astype(np.uint8)

    train, one, two = table_of([first, second]), table_of([darker(first), third]), table_of([darker(third)])
    copies = find_near_duplicates([train, one, two], new=2)
    assert [pair[:2] for pair in copies.near] == [(0, 2)]
    assert {pair[:2] for pair in find_near_duplicates([train, one, two]).near} == {(0, 2), (3, 4)}


def test_features_find_what_the_hash_cannot() -> None:
    table = table_of([scene(0), scene(1), scene(2)])
    features = np.array([[1, 0, 0], [0.99, 0.1, 0], [0, 0, 1]], np.float32)
    pairs = find_near_duplicates([table], features=features, alike_features=0.95).near
    assert [(p.first, p.second, p.kind) for p in pairs] == [(0, 1, "features")]


@pytest.mark.parametrize("even", [None, 31])
def test_the_exact_search_finds_what_a_plain_one_does(even: int | None) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(1500, 63)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    products = vectors @ vectors.T
    if even is not None:
        turned = vectors.copy()
        turned[:, even:] *= -1
        products = np.maximum(products, vectors @ turned.T)
    wanted = {(i, j) for i, j in np.argwhere(products >= 0.4).tolist() if i < j and i < 1200}
    found = exact(vectors, 0.4, even=even, alone=1200)
    assert set(zip(found.first.tolist(), found.second.tolist(), strict=True)) == wanted
    assert len(found.first) == len(wanted) > 100
    assert found.product == pytest.approx(products[found.first, found.second], abs=1e-5)  # measured: 1.2e-7


def test_where_all_look_alike_the_pairs_stay_few() -> None:
    rng = np.random.default_rng(0)
    vectors = (1 + 0.01 * rng.normal(size=(5000, 63))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert len(exact(vectors, 0.5, even=None, alone=5000).first) <= MOST * 5000


def test_cells_find_close_pairs() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(4000, 63)).astype(np.float32)
    vectors[2000:] = vectors[:2000] + 0.3 * rng.normal(size=(2000, 63))
    vectors[3000:, 31:] *= -1  # half of the copies are mirrored
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = within_cells(vectors, 0.8, even=31, alone=4000)
    pairs = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    share = len([i for i in range(2000) if (i, i + 2000) in pairs]) / 2000
    assert share > 0.98  # measured: 1
    assert bool(found.mirrored[found.second >= 3000].all())


def test_a_hash_is_the_mirrored_hash_of_the_mirror() -> None:
    thumbs = np.stack([thumbnail(scene(i)) for i in range(8)])
    turned = phash.mirrored(phash.hashes(thumbs[:, :, ::-1].copy()))
    assert turned == pytest.approx(phash.hashes(thumbs), abs=1e-4)


def test_alignment_finds_a_shift_and_a_stretch() -> None:
    pixels = scene(3, 128)
    cut = pixels[6:116, 10:124]
    first, second = thumbnail(pixels)[None], thumbnail(cut)[None]
    unmoved = np.corrcoef(first.ravel(), second.ravel())[0, 1]
    found = correlation(first, second)
    assert unmoved < 0.95 < found.grey[0]
    assert correlation(second, first).grey[0] > 0.95
    other = correlation(first, thumbnail(scene(4, 128))[None])
    assert other.detail[0] < 0.5


def test_two_bottles_before_a_wall_are_strangers() -> None:
    """Their two edges agree, what is on them does not."""
    bottles = []
    for seed in range(12):
        pixels = 170 + 0.25 * (scene(seed).astype(np.float32) - 128)
        pixels[:, 24:40] -= 130
        bottles.append(pixels.clip(0, 255).astype(np.uint8))
    thumbs = np.stack([thumbnail(pixels) for pixels in bottles])
    found = correlation(thumbs[:-1], thumbs[1:])
    assert found.grey.min() > 0.9
    assert found.detail.max() < DETAIL
    assert not find_near_duplicates([table_of(bottles)]).near


def test_two_pictures_in_one_frame_are_strangers() -> None:
    framed = []
    for seed in range(12):
        pixels = (128 + 0.4 * (scene(seed).astype(np.float32) - 128)).astype(np.uint8)
        pixels[:5] = pixels[-5:] = pixels[:, :5] = pixels[:, -5:] = 255
        framed.append(pixels)
    assert not find_near_duplicates([table_of(framed)]).near
    thumbs = np.stack([thumbnail(pixels) for pixels in framed])
    assert correlation(thumbs[:-1], thumbs[1:]).detail.max() < 0.5


def test_alignment_of_nothing_is_nothing() -> None:
    assert len(correlation(np.zeros((0, 32, 32), np.uint8), np.zeros((0, 32, 32), np.uint8)).grey) == 0


def test_thumbnails_of_any_shape() -> None:
    assert thumbnail(noise(1, 1)).shape == thumbnail(smooth(3000, 20)).shape == (32, 32)
    assert Image.fromarray(thumbnail(smooth(64, 64))).mode == "L"


@pytest.mark.slow
def test_planted_copies_in_tiny_imagenet() -> None:
    """200 copies of each kind among 20,000 images; the whole set is in the benchmark."""
    root = os.environ.get("VITRAIL_DATA")
    if root is None or not (Path(root) / "tiny-imagenet").is_dir():
        pytest.skip("needs tiny-imagenet in VITRAIL_DATA")
    from vitrail.data.open.names import open_data

    made = benchmark("duplicates")
    source = open_data("tiny-imagenet@train[:20000]")
    planted = made.Planted(source, 200)
    copies = find_near_duplicates([scan(source), scan(planted, workers=1)])
    rows = made.tally(copies, planted.originals, planted.kinds, len(source))
    for kind, (count, found, _) in rows.items():
        assert found >= 0.95 * count, (kind, rows)
    found, false = sum(row[1] for row in rows.values()), sum(row[2] for row in rows.values())
    assert false <= 0.01 * (found + false), rows
