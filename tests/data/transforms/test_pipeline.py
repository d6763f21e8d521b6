"""Random boxes as TensorFlow draws them, colours as DeiT III changes them, and the two views of an image."""

from dataclasses import replace
from itertools import permutations
from math import ceil, floor
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageFilter
from scipy import stats
from torch.nn import functional

from tests.data.pictures import encoded, noise, photograph
from vitrail.core.config import from_json, to_json
from vitrail.core.errors import BadInput
from vitrail.data.decode.image import decode, look
from vitrail.data.transforms import crops, pipeline
from vitrail.data.transforms.pipeline import (
    Augment,
    CentreCrop,
    ColourJitter,
    Crop,
    InceptionCrop,
    PadCrop,
    Preprocess,
    RandomResizedCrop,
    Resize,
    ResizeCrop,
    SimpleRandomCrop,
    SquareResize,
    WholeImage,
    eval_transform,
    train_transform,
)
from vitrail.data.transforms.randaugment import RandAugment
from vitrail.data.transforms.random_erasing import RandomErasing

AREA = (0.05, 1.0)


def slow_box(height: int, width: int, area: tuple[float, float], rng: np.random.Generator) -> tuple[int, ...]:
    """`sample_distorted_bounding_box` in words: a uniform aspect, then a uniform height among those that fit."""
    while True:
        ratio = rng.uniform(0.75, 1.33)
        fitting = []
        for h in range(1, height + 1):
            w = round(h * ratio)
            if 0 < w <= width and area[0] * height * width <= h * w <= area[1] * height * width:
                fitting.append((h, w))
        if fitting:
            h, w = fitting[rng.integers(len(fitting))]
            return h, w


def literal_box(height: int, width: int, area: tuple[float, float], rng: np.random.Generator) -> tuple[int, ...]:
    """TensorFlow's sample_distorted_bounding_box_op.cc line by line, in its float32, rounding to even."""
    f, low, high = np.float32, np.float32(0.75), np.float32(1.33)
    for _ in range(100):
        aspect = f(rng.random(dtype=np.float32)) * (high - low) + low
        min_area = f(area[0]) * f(width) * f(height)
        max_area = f(area[1]) * f(width) * f(height)
        h = int(np.rint(np.sqrt(min_area / aspect)))
        max_height = int(np.rint(np.sqrt(max_area / aspect)))
        if np.rint(f(max_height) * aspect) > width:
            max_height = int((width + 0.5 - 0.0000001) / aspect)
            if np.rint(f(max_height) * aspect) > width:
                max_height -= 1
        max_height = min(max_height, height)
        if h >= max_height:
            h = max_height
        if h < max_height:
            h += int(rng.integers(max_height - h + 1))
        w = int(np.rint(f(h) * aspect))
        if w * h < min_area:
            h += 1
            w = int(np.rint(f(h) * aspect))
        if w * h > max_area:
            h -= 1
            w = int(np.rint(f(h) * aspect))
        if w * h < min_area or w * h > max_area or w > width or h > height or w <= 0 or h <= 0:
            continue
        y = int(rng.integers(height - h)) if h < height else 0
        x = int(rng.integers(width - w)) if w < width else 0
        return x, y, x + w, y + h
    return 0, 0, width, height


# height, width -> how far the distributions of two samples of 100,000 may lie apart; by chance 0.0087 in one of 1,000
@pytest.mark.parametrize("shape", [(375, 500), (500, 333), (48, 64)])
def test_100_000_boxes_are_as_those_of_tensorflows_code(shape: tuple[int, int]) -> None:
    height, width = shape
    rng, count = np.random.default_rng(7), 100_000
    ours = np.array([crops.inception_box(height, width, AREA, rng) for _ in range(count)])
    theirs = np.array([literal_box(height, width, AREA, rng) for _ in range(count)])
    for name, a, b in zip(STATISTICS, statistics_of(ours, shape), statistics_of(theirs, shape), strict=True):
        distance = stats.ks_2samp(a, b).statistic
        assert distance < 0.0087, name
        assert abs(a.mean() - b.mean()) < 4 * np.sqrt((a.var() + b.var()) / count), name


STATISTICS = ("area", "aspect", "top", "left", "middle, down", "middle, across")


def statistics_of(boxes: np.ndarray, shape: tuple[int, int]) -> list[np.ndarray]:
    left, top, right, bottom = boxes.T.astype(float)
    height, width = shape
    area, aspect = (right - left) * (bottom - top) / (height * width), (right - left) / (bottom - top)
    return [area, aspect, top / height, left / width, (top + bottom) / height, (left + right) / width]


def literal_torchvision_box(height: int, width: int, rng: np.random.Generator) -> tuple[int, ...]:
    """`RandomResizedCrop.get_params` line by line."""
    area = height * width
    for _ in range(10):
        target_area = area * rng.uniform(0.08, 1.0)
        ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        w, h = round(np.sqrt(target_area * ratio)), round(np.sqrt(target_area / ratio))
        if 0 < w <= width and 0 < h <= height:
            i, j = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
            return j, i, j + w, i + h
    if width / height < 3 / 4:
        w, h = width, round(width / (3 / 4))
    elif width / height > 4 / 3:
        w, h = round(height * (4 / 3)), height
    else:
        w, h = width, height
    i, j = (height - h) // 2, (width - w) // 2
    return j, i, j + w, i + h


@pytest.mark.parametrize("shape", [(375, 500), (100, 600), (600, 100)])
def test_torchvisions_boxes_are_drawn_as_torchvision_does(shape: tuple[int, int]) -> None:
    ours_rng, theirs_rng = np.random.default_rng(3), np.random.default_rng(3)
    ours = np.array([crops.torchvision_box(*shape, (0.08, 1.0), ours_rng) for _ in range(3000)])
    theirs = np.array([literal_torchvision_box(*shape, theirs_rng) for _ in range(3000)])
    assert np.array_equal(ours, theirs)
    if shape == (375, 500):  # larger boxes than TensorFlow's
        inception = np.array([crops.inception_box(*shape, (0.08, 1.0), ours_rng) for _ in range(3000)])
        assert statistics_of(ours, shape)[0].mean() > statistics_of(inception, shape)[0].mean() + 0.05


@pytest.mark.parametrize("shape", [(60, 80), (75, 40)])
def test_boxes_are_distributed_as_tensorflow_draws_them(shape: tuple[int, int]) -> None:
    height, width = shape
    rng = np.random.default_rng(0)
    slow = np.array([slow_box(height, width, AREA, rng) for _ in range(4000)])
    boxes = np.array([crops.inception_box(height, width, AREA, rng) for _ in range(20_000)])
    heights, widths = boxes[:, 3] - boxes[:, 1], boxes[:, 2] - boxes[:, 0]
    for ours, theirs in (
        (heights, slow[:, 0]),
        (widths, slow[:, 1]),
        (heights * widths, slow[:, 0] * slow[:, 1]),
    ):
        distance = stats.ks_2samp(ours, theirs).statistic
        assert distance < 0.03  # measured 0.010 to 0.016; a uniform area instead of a uniform height gives 0.16


def test_the_height_is_uniform_for_a_given_aspect() -> None:
    rng = np.random.default_rng(1)
    boxes = np.array([crops.inception_box(50, 70, AREA, rng, aspect=(1.0, 1.0)) for _ in range(20_000)])
    counts = np.bincount(boxes[:, 3] - boxes[:, 1], minlength=51)
    least = ceil(np.sqrt(0.05 * 50 * 70))  # 13.2: a box of 13 is too small and one of 14 is drawn in its place
    assert counts[:least].sum() == 0
    assert counts[least] == pytest.approx(2 * counts[least + 1 :].mean(), rel=0.15)  # what rounding makes TensorFlow do
    assert stats.chisquare(counts[least + 1 :]).pvalue > 1e-3


def test_the_place_is_uniform_but_for_the_far_edge() -> None:
    rng = np.random.default_rng(2)
    boxes = np.array([crops.inception_box(40, 40, (0.25, 0.25), rng, aspect=(1.0, 1.0)) for _ in range(20_000)])
    for side in (0, 1):
        counts = np.bincount(boxes[:, side], minlength=21)
        assert counts[20] == 0  # TensorFlow draws the offset below size - box
        assert stats.chisquare(counts[:20]).pvalue > 1e-3


@pytest.mark.parametrize("shape", [(60, 80), (1, 1), (1, 40), (1000, 3), (3, 1000), (7, 5), (333, 500)])
@pytest.mark.parametrize("area", [AREA, (0.3, 0.6)])
def test_every_box_lies_inside_with_its_area_or_is_the_whole_image(
    shape: tuple[int, int], area: tuple[float, float]
) -> None:
    height, width = shape
    rng = np.random.default_rng(3)
    for _ in range(200):
        left, top, right, bottom = crops.inception_box(height, width, area, rng)
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        if (left, top, right, bottom) == (0, 0, width, height):
            continue
        h, w = bottom - top, right - left
        assert area[0] * height * width <= h * w <= area[1] * height * width
        assert floor(h * 3 / 4) <= w <= ceil(h * 4 / 3)


def test_nothing_fits_a_strip_so_it_is_taken_whole() -> None:
    rng = np.random.default_rng(0)
    assert crops.inception_box(1000, 3, AREA, rng) == (0, 0, 3, 1000)


CROPS: list[Crop] = [InceptionCrop(), RandomResizedCrop(), PadCrop(2), ResizeCrop(), SimpleRandomCrop(2), WholeImage()]
EVERYTHING = Augment(
    three_augment=True, jitter=ColourJitter(), randaugment=RandAugment(), erasing=RandomErasing(probability=1.0)
)
RESIZES: list[Resize] = [SquareResize(), CentreCrop()]


@pytest.mark.parametrize("crop", CROPS, ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("resize", RESIZES, ids=lambda r: type(r).__name__)
@pytest.mark.parametrize("resolution", [(16, 16), (12, 20)])
@pytest.mark.parametrize("shape", [(30, 40), (7, 90), (1, 1), (16, 16)])
def test_views_have_the_resolution(
    crop: Crop, resize: Resize, resolution: tuple[int, int], shape: tuple[int, int]
) -> None:
    preprocess = Preprocess(resolution, resize)
    pixels = noise(*shape)
    for view in (
        eval_transform(pixels, preprocess),
        train_transform(pixels, Augment(crop), preprocess, np.random.default_rng(0)),
    ):
        assert view.shape == (*resolution, 3)
        assert view.dtype == np.uint8


@pytest.mark.parametrize("config", [*(Augment(crop) for crop in CROPS), EVERYTHING], ids=repr)
def test_a_training_view_is_a_function_of_the_generator_alone(config: Augment) -> None:
    preprocess, pixels = Preprocess((16, 16)), noise(40, 50)

    def several(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return np.stack([train_transform(pixels, config, preprocess, rng) for _ in range(8)])

    first = several(0)
    assert np.array_equal(several(0), first)
    assert not np.array_equal(several(1), first)
    assert np.array_equal(pixels, noise(40, 50))  # and the picture is left alone


def test_the_default_view_is_a_crop_and_a_flip_and_draws_nothing_more() -> None:
    rng, slow = np.random.default_rng(0), np.random.default_rng(0)
    for _ in range(40):
        view = train_transform(noise(40, 50), Augment(), Preprocess((16, 20)), rng)
        cropped = crops.inception_crop(noise(40, 50), (16, 20), (0.05, 1.0), slow)
        assert np.array_equal(view, cropped[:, ::-1] if slow.random() < 0.5 else cropped)
        assert rng.bit_generator.state == slow.bit_generator.state


def test_a_view_is_cropped_flipped_coloured_augmented_and_erased_in_this_order(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    arguments: list[tuple[Any, ...]] = []

    def record(name: str) -> Any:
        def step(pixels: np.ndarray, *others: Any) -> np.ndarray:
            done.append(name)
            arguments.append(others)
            return pixels

        return step

    for name in ("inception_crop", "flip", "three_augment", "colour_jitter"):
        monkeypatch.setattr(crops, name, record(name))
    for name in ("rand_augment", "erase"):
        monkeypatch.setattr(pipeline, name, record(name))
    preprocess, jitter = Preprocess((8, 8), mean=(0.1, 0.2, 0.3)), ColourJitter(0.4, 0.5, 0.6)
    rng = np.random.default_rng(2)  # which flips
    config = replace(EVERYTHING, jitter=jitter)
    train_transform(noise(8, 8), config, preprocess, rng)
    assert done == ["inception_crop", "flip", "three_augment", "colour_jitter", "rand_augment", "erase"]
    assert arguments[3:] == [
        ((0.4, 0.5, 0.6), rng),
        (config.randaugment, rng, preprocess.mean),
        (config.erasing, rng),
    ]


@pytest.mark.parametrize("crop", CROPS, ids=lambda c: type(c).__name__)
def test_a_jpeg_that_is_still_to_be_decoded_gives_the_view_of_its_pixels(crop: Crop) -> None:
    data = encoded(photograph(90, 120), "JPEG", quality=95)
    config, preprocess = Augment(crop), Preprocess((64, 64))  # no box has twice the resolution
    for seed in range(20):
        one, other = np.random.default_rng(seed), np.random.default_rng(seed)
        view = train_transform(look(data), config, preprocess, one)
        assert np.array_equal(view, train_transform(decode(data), config, preprocess, other))
        assert one.bit_generator.state == other.bit_generator.state


@pytest.mark.parametrize("crop", [InceptionCrop(), RandomResizedCrop(), ResizeCrop()], ids=lambda c: type(c).__name__)
def test_a_large_jpeg_is_decoded_smaller_and_gives_nearly_the_view_of_its_pixels(crop: Crop) -> None:
    data = encoded(photograph(400, 520), "JPEG", quality=95)
    config, preprocess = Augment(crop), Preprocess((48, 48))
    for seed in range(20):
        view = train_transform(look(data), config, preprocess, np.random.default_rng(seed))
        expected = train_transform(decode(data), config, preprocess, np.random.default_rng(seed))
        difference = np.abs(view.astype(int) - expected)
        assert difference.mean() < 3
        assert difference.max() < 20


def test_the_evaluation_view_is_the_middle_of_the_resized_image() -> None:
    pixels = noise(300, 400)
    got = eval_transform(pixels, Preprocess((224, 224), CentreCrop(0.875)))
    small = Image.fromarray(pixels).resize((341, 256), Image.Resampling.BILINEAR)  # the shorter side to 256
    assert np.array_equal(got, np.asarray(small)[16:240, 58:282])
    bicubic = eval_transform(pixels, Preprocess((224, 224), CentreCrop(0.875), interpolation="bicubic"))
    small = Image.fromarray(pixels).resize((341, 256), Image.Resampling.BICUBIC)
    assert np.array_equal(bicubic, np.asarray(small)[16:240, 58:282])
    assert np.array_equal(got, eval_transform(pixels, Preprocess((224, 224), CentreCrop(0.875))))


def test_the_square_view_keeps_everything_and_not_the_aspect() -> None:
    pixels = noise(30, 50)
    expected = np.asarray(Image.fromarray(pixels).resize((20, 20), Image.Resampling.BILINEAR))
    assert np.array_equal(eval_transform(pixels, Preprocess((20, 20), SquareResize())), expected)


@pytest.mark.parametrize("size", [(5, 7), (64, 64), (200, 31)])
def test_boxes_are_resized_as_torch_documents_it(size: tuple[int, int]) -> None:
    pixels = photograph(48, 64)[3:40, 5:60]
    image = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]
    expected = functional.interpolate(image, size, mode="bilinear", antialias=True)
    # this one is not in the order of channels last, whose kernel rounds otherwise: measured 1
    fast = crops.resize_fast(pixels, size).astype(int)
    assert np.abs(fast - expected[0].permute(1, 2, 0).numpy()).max() <= 1
    ordered = image.contiguous(memory_format=torch.channels_last)
    exact = functional.interpolate(ordered, size, mode="bilinear", antialias=True)
    assert np.array_equal(fast, exact[0].permute(1, 2, 0).numpy())


def test_half_of_the_views_are_flipped() -> None:
    pixels, preprocess = noise(8, 8), Preprocess((8, 8), SquareResize())
    config = Augment(WholeImage())
    rng = np.random.default_rng(0)
    flipped = 0
    for _ in range(2000):
        view = train_transform(pixels, config, preprocess, rng)
        assert np.array_equal(view, pixels) or np.array_equal(view, pixels[:, ::-1])
        flipped += np.array_equal(view, pixels[:, ::-1])
    assert abs(flipped - 1000) < 4 * np.sqrt(500)
    kept = [train_transform(pixels, replace(config, flip=False), preprocess, rng) for _ in range(20)]
    assert all(np.array_equal(view, pixels) for view in kept)


def test_pad_crop_shifts_by_up_to_the_padding() -> None:
    pixels = noise(8, 8)
    rng = np.random.default_rng(0)
    padded = np.pad(pixels, ((2, 2), (2, 2), (0, 0)), mode="reflect")
    windows = {padded[y : y + 8, x : x + 8].tobytes() for y in range(5) for x in range(5)}
    seen = {crops.pad_crop(pixels, 2, rng).tobytes() for _ in range(500)}
    assert seen == windows


def test_a_simple_random_crop_is_any_window_of_the_padded_image() -> None:
    pixels, preprocess = noise(8, 12), Preprocess((8, 8))
    config = Augment(SimpleRandomCrop(2), flip=False)
    padded = np.pad(pixels, ((2, 2), (2, 2), (0, 0)), mode="reflect")
    windows = {padded[y : y + 8, x : x + 8].tobytes() for y in range(5) for x in range(9)}
    rng = np.random.default_rng(0)
    assert {train_transform(pixels, config, preprocess, rng).tobytes() for _ in range(900)} == windows


def test_a_simple_random_crop_keeps_the_aspect() -> None:
    pixels = noise(30, 45)
    config = Augment(SimpleRandomCrop(0), flip=False)
    small = np.asarray(Image.fromarray(pixels).resize((24, 16), Image.Resampling.BICUBIC))
    windows = {small[:, x : x + 16].tobytes() for x in range(9)}
    preprocess = Preprocess((16, 16), interpolation="bicubic")
    rng = np.random.default_rng(0)
    assert {train_transform(pixels, config, preprocess, rng).tobytes() for _ in range(300)} == windows


# colours


def luma(pixels: np.ndarray) -> np.ndarray:
    """Pillow's grey: ITU-R 601-2, rounded."""
    return np.floor(pixels.astype(float) @ [0.299, 0.587, 0.114] + 0.5)[:, :, None].repeat(3, axis=2)


def test_three_augment_is_grey_or_solarised_or_blurred() -> None:
    pixels, rng = noise(20, 24), np.random.default_rng(0)
    solarised = np.where(pixels < 128, pixels, 255 - pixels)
    counts = [0, 0, 0]
    for _ in range(900):
        got = crops.three_augment(pixels, rng)
        if (got == got[:, :, :1]).all():
            counts[0] += 1
            assert np.abs(got - luma(pixels)).max() <= 1
        elif np.array_equal(got, solarised):
            counts[1] += 1
        else:
            counts[2] += 1
    assert stats.chisquare(counts).pvalue > 1e-3


def test_three_augment_blurs_by_0_1_to_2_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    radii, blurs = [], []

    class Recorded(ImageFilter.GaussianBlur):
        def __init__(self, radius: float):
            super().__init__(radius)
            radii.append(radius)

    monkeypatch.setattr(ImageFilter, "GaussianBlur", Recorded)
    pixels, rng = np.zeros((25, 25, 3), np.uint8), np.random.default_rng(0)
    pixels[8:17, 8:17] = 240
    for _ in range(900):
        before = len(radii)
        got = crops.three_augment(pixels, rng)
        if len(radii) > before:
            blurs.append(got[:, :, 1].astype(float))
    assert stats.kstest(radii, stats.uniform(0.1, 1.9).cdf).pvalue > 1e-3
    assert 0.1 <= min(radii) < 0.12
    assert 1.98 < max(radii) <= 2
    # a Gaussian of that deviation in both directions widens the square by its variance
    x = np.arange(25) - 12
    for radius, blur in zip(radii, blurs, strict=True):
        profile = blur.sum(0)
        variance = profile @ x**2 / profile.sum()
        assert variance == pytest.approx(80 / 12 + radius**2, abs=0.1)  # measured 0.07: three boxes, 8 bits


class Given(np.random.Generator):
    """A generator that gives one permutation, and the numbers that it was given."""

    def __init__(self, order: tuple[int, ...], numbers: list[float]):
        super().__init__(np.random.PCG64(0))
        self.order, self.numbers = order, list(numbers)

    def permutation(self, *_: Any, **__: Any) -> Any:
        return np.array(self.order)

    def uniform(self, *_: Any, **__: Any) -> Any:
        return self.numbers.pop(0)


def slow_jitter(pixels: np.ndarray, order: tuple[int, ...], factors: dict[int, float]) -> np.ndarray:
    result = pixels.astype(float)
    for i in order:
        start = (np.zeros_like(result), np.floor(luma(result).mean() + 0.5), luma(result))[i]
        result = np.floor(np.clip(start + factors[i] * (result - start), 0, 255))
    return result


def test_jitter_changes_brightness_contrast_and_saturation_in_any_order() -> None:
    pixels, factors = noise(12, 14), {0: 1.2, 1: 0.7, 2: 1.31}
    slow = {order: slow_jitter(pixels, order, factors) for order in permutations(range(3))}
    for order, expected in slow.items():
        rng = Given(order, [factors[i] for i in order])
        got = crops.colour_jitter(pixels, (0.3, 0.3, 0.3), rng)
        assert np.abs(got - expected).max() <= 2  # next to a whole number, float32 truncates to either side
        assert np.abs(got - expected).mean() < 0.01  # measured 0.002
        assert all(np.abs(got - other).mean() > 0.3 for name, other in slow.items() if name != order)


def test_the_factors_of_jitter_are_uniform_and_never_negative() -> None:
    rng = np.random.default_rng(0)
    grey = np.full((2, 2, 3), 100, np.uint8)
    for strength, low, high in ((0.3, 0.7, 1.3), (1.5, 0.0, 2.5)):
        factors = [crops.colour_jitter(grey, (strength, 0.0, 0.0), rng)[0, 0, 0] / 100 for _ in range(1500)]
        distance = stats.kstest(factors, stats.uniform(low, high - low).cdf).statistic
        assert distance < 0.07  # measured 0.02 to 0.05: values are whole
    pixels = noise(6, 6)
    assert np.array_equal(crops.colour_jitter(pixels, (0.0, 0.0, 0.0), rng), pixels)


def test_all_orders_of_jitter_are_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    for name in ("Brightness", "Contrast", "Color"):
        kind = getattr(ImageEnhance, name)
        monkeypatch.setattr(ImageEnhance, name, lambda image, kind=kind: done.append(kind.__name__) or kind(image))
    rng = np.random.default_rng(0)
    for _ in range(900):
        crops.colour_jitter(noise(2, 2), (0.1, 0.1, 0.1), rng)
    orders = [tuple(done[i : i + 3]) for i in range(0, len(done), 3)]
    counts = [orders.count(order) for order in permutations(("Brightness", "Contrast", "Color"))]
    assert sum(counts) == 900
    assert stats.chisquare(counts).pvalue > 1e-3


# configs


def test_a_config_written_before_the_new_fields_reads_as_without_them() -> None:
    old = {"type": "Augment", "crop": {"type": "PadCrop", "padding": 4}, "flip": False}
    assert from_json(Augment, old) == Augment(PadCrop(4), flip=False)
    for config in (Augment(), EVERYTHING, Augment(SimpleRandomCrop())):
        assert from_json(Augment, to_json(config)) == config


def test_configs_are_checked() -> None:
    EVERYTHING.check()
    for wrong, message in (
        (Augment(SimpleRandomCrop(-1)), "padding is -1"),
        (Augment(PadCrop(-1)), "padding is -1"),
        (Augment(InceptionCrop((0.5, 0.2))), "the area of a crop"),
        (Augment(RandomResizedCrop((0.0, 1.0))), "the area of a crop"),
        (Augment(RandomResizedCrop(aspect=(2.0, 1.0))), "the aspect of a crop"),
        (Augment(jitter=ColourJitter(contrast=-0.1)), "strengths of colour jitter"),
        (Augment(randaugment=RandAugment(layers=-1)), "layers"),
        (Augment(erasing=RandomErasing(probability=2.0)), "probability of erasing"),
    ):
        with pytest.raises(BadInput, match=message):
            wrong.check()
