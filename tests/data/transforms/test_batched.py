"""Augmentations in batch against those of one image: the same boxes from the same numbers, Pillow's pixels."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.pictures import noise
from vitrail.core.seeds import torch_seed
from vitrail.data.transforms import crops
from vitrail.data.transforms.batched import _AT_ONCE, ATTEMPTS, erased, inception_boxes, resized, window_places, windows
from vitrail.data.transforms.counter_rng import CounterRNG
from vitrail.data.transforms.random_erasing import RandomErasing, rectangle

KEY = torch_seed(0, "test")


def draws_of(count: int) -> CounterRNG:
    return CounterRNG(KEY, torch.zeros(count, dtype=torch.int64), torch.arange(count))


class Scripted(np.random.Generator):
    """A generator that has its uniform numbers from a list: `even` for `uniform`, `whole` for the others."""

    def __init__(self, even: list[float], whole: list[list[float]]):
        super().__init__(np.random.PCG64(0))
        self.even, self.whole, self.uniforms, self.asked = even, whole, 0, 0

    def uniform(self, low: float, high: float) -> float:  # type: ignore[override]
        self.uniforms, self.asked = self.uniforms + 1, 0
        return low + (high - low) * self.even[self.uniforms - 1]

    def random(self) -> float:  # type: ignore[override]
        self.asked += 1
        return self.whole[self.asked - 1][self.uniforms - 1]

    def integers(self, count: int) -> int:  # type: ignore[override]
        return int(self.random() * count)


@pytest.mark.parametrize("area", [(0.05, 1.0), (0.3, 1.0), (0.9, 1.0), (1.0, 1.0)])
@pytest.mark.parametrize("size", [(32, 32), (60, 80), (90, 31), (5, 100)])
def test_the_same_numbers_give_the_boxes_of_one_image(size: tuple[int, int], area: tuple[float, float]) -> None:
    count = 300
    got = torch.stack(inception_boxes(torch.tensor([size] * count), area, draws_of(count), 7), dim=1)
    u = draws_of(count).uniform(7, 2 * ATTEMPTS + 2).tolist()
    places = 0
    for box, row in zip(got.tolist(), u, strict=True):
        ratio, height = row[:ATTEMPTS], row[ATTEMPTS : 2 * ATTEMPTS]
        rng = Scripted(ratio, [height, [row[-2]] * ATTEMPTS, [row[-1]] * ATTEMPTS])
        left, top, right, bottom = crops.inception_box(*size, area, rng)
        assert box[2:] == [bottom - top, right - left]
        if rng.asked == 3:  # otherwise a side had no choice, and what was scripted for it went to the next
            assert box[:2] == [top, left]
            places += 1
    if area[0] < 0.5 and size in ((32, 32), (60, 80)):
        assert places > 100


def test_boxes_of_images_of_different_sizes_do_not_mix() -> None:
    sizes = torch.tensor([(32, 32), (60, 80)]).repeat(20, 1)
    together = torch.stack(inception_boxes(sizes, (0.05, 1.0), draws_of(40), 0))
    for which in range(2):
        alone = torch.stack(inception_boxes(sizes[which::2][:1].expand(40, -1), (0.05, 1.0), draws_of(40), 0))
        assert torch.equal(together[:, which::2], alone[:, which::2])


def box_and_size(rng: np.random.Generator) -> tuple[np.ndarray, tuple[int, int, int, int], tuple[int, int]]:
    height, width = (int(v) for v in rng.integers(5, 80, 2))
    rows, columns = int(rng.integers(1, height + 1)), int(rng.integers(1, width + 1))
    top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
    size = tuple(int(v) for v in rng.integers(3, 60, 2))
    return noise(height, width, int(rng.integers(1000))), (top, left, rows, columns), size  # type: ignore[return-value]


def resized_one(pixels: np.ndarray, box: tuple[int, ...], size: tuple[int, int], mirrored: bool = False) -> np.ndarray:
    images = torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy())
    boxes: Any = tuple(torch.tensor([float(v)], dtype=torch.float64) for v in box)
    return resized(images, boxes, size, torch.tensor([mirrored]))[0].permute(1, 2, 0).numpy()


def test_resizing_is_pillows_to_the_bit_rows_before_columns() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        pixels, (top, left, rows, columns), (height, width) = box_and_size(rng)
        bilinear = Image.Resampling.BILINEAR
        box = Image.fromarray(pixels[top : top + rows, left : left + columns])
        want = np.asarray(box.resize((width, rows), bilinear).resize((width, height), bilinear))
        assert np.array_equal(resized_one(pixels, (top, left, rows, columns), (height, width)), want)
        mirrored = resized_one(pixels, (top, left, rows, columns), (height, width), mirrored=True)
        assert np.array_equal(mirrored, want[:, ::-1])


def test_resizing_is_within_one_level_of_what_workers_do() -> None:
    rng = np.random.default_rng(1)
    shares = []
    for _ in range(200):
        pixels, (top, left, rows, columns), size = box_and_size(rng)
        want = crops.resize(pixels, size, (left, top, left + columns, top + rows))
        fast = crops.resize_fast(pixels[top : top + rows, left : left + columns], size)
        assert np.abs(fast.astype(int) - want).max() <= 2
        apart = np.abs(resized_one(pixels, (top, left, rows, columns), size).astype(int) - want)
        assert apart.max() <= 1
        shares.append((apart > 0).mean())
    print(f"pixels that differ by one level: {np.mean(shares):.1%} on average, {np.max(shares):.0%} at most")
    assert np.mean(shares) < 0.15  # measured 7 %, at most 28 % of an image; 0 where Pillow takes the rows first


def test_large_batches_are_resized_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.from_numpy(np.stack([noise(20, 30, i).transpose(2, 0, 1) for i in range(7)]))
    boxes: Any = tuple(torch.full((7,), v, dtype=torch.float64) for v in (2, 3, 15, 11))
    mirrored = torch.arange(7) % 2 == 0
    whole = resized(images, boxes, (8, 8), mirrored)
    monkeypatch.setitem(_AT_ONCE, "cpu", 3 * 20 * 30 * 2)
    assert torch.equal(resized(images, boxes, (8, 8), mirrored), whole)


def test_windows_are_those_of_pad_crop() -> None:
    pixels = np.stack([noise(12, 9, i) for i in range(30)])
    images = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
    u = draws_of(30).uniform(0, 2)
    which, mirrored = torch.arange(30).flip(0), torch.arange(30) % 2 == 0
    ones = torch.ones(30, dtype=torch.int64)
    rows = window_places(12 * ones, 10, 4, u[:, 0], torch.zeros_like(mirrored))
    columns = window_places(9 * ones, 9, 4, u[:, 1], mirrored)
    got = windows(images, which, rows, columns).permute(0, 2, 3, 1).numpy()
    for i in range(30):
        rng = Scripted([], [[float(u[i, 0])], [float(u[i, 1])]])
        rng.uniforms = 1
        want = crops.pad_crop(pixels[29 - i], 4, rng, (10, 9))
        assert np.array_equal(got[i], want[:, ::-1] if mirrored[i] else want)


def test_reflection_goes_on_where_the_padding_is_longer_than_the_image() -> None:
    for length in (1, 2, 3, 7):
        want = np.pad(np.arange(length), 9, mode="reflect")
        none = torch.tensor([False])
        got = window_places(torch.tensor([length]), length + 18, 9, torch.zeros(1, dtype=torch.float64), none)
        assert got[0].tolist() == want.tolist()


@pytest.mark.parametrize("size", [(32, 32), (16, 60), (4, 40)])
def test_the_same_numbers_erase_the_rectangles_of_one_image(size: tuple[int, int]) -> None:
    config, count = RandomErasing(probability=1.0, fill="constant"), 200
    images = torch.zeros(count, 3, *size, dtype=torch.uint8)
    got = erased(images, config, draws_of(count), 5)
    u = draws_of(count).uniform(5, 23).tolist()
    for view, row in zip(got, u, strict=True):
        # `rectangle` draws area and aspect of each try in turn
        tries = [v for pair in zip(row[:10], row[10:20], strict=True) for v in pair]
        rng = Scripted(tries, [[row[20]] * 20, [row[21]] * 20])
        top, left, rows, columns = rectangle(*size, config, rng)
        want = torch.zeros_like(view)
        want[:, top : top + rows, left : left + columns] = 128
        assert torch.equal(view, want)


def test_the_noise_is_that_of_one_image_and_the_rest_stays() -> None:
    config, count = RandomErasing(probability=0.25, area=(0.3, 1 / 3)), 2000
    images = torch.full((count, 3, 16, 16), 7, dtype=torch.uint8)
    got = erased(images, config, draws_of(count), 5)
    changed = (got != 7).flatten(1).any(1)
    assert abs(int(changed.sum()) - 500) < 4 * np.sqrt(375)
    values = got[got != 7].double()
    assert abs(float(values.mean()) - 128) < 0.5  # measured 0.18; 117,000 values of deviation 58: 0.17
    rng = np.random.default_rng(0)
    theirs = np.clip(np.rint(128 + 58 * rng.standard_normal(len(values))), 0, 255)
    theirs = theirs[theirs != 7]
    histograms = [np.bincount(np.asarray(v, dtype=int), minlength=256) / len(v) for v in (values, theirs)]
    assert np.abs(np.cumsum(histograms[0] - histograms[1])).max() < 0.007  # measured 0.0029; once in 1,000: 0.008
    channels = got[changed].double().flatten(2)
    apart = channels[:, 0] != channels[:, 1]
    assert float(apart.double().mean()) > 0.25, "each channel has its own noise"
