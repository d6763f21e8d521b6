"""Random boxes as TensorFlow draws them, and the two views of an image."""

from dataclasses import replace
from math import ceil, floor

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from tests.data.pictures import noise
from vitrail.data import augment
from vitrail.data.views import (
    Augment,
    CentreCrop,
    Crop,
    InceptionCrop,
    PadCrop,
    Preprocess,
    Resize,
    ResizeCrop,
    SquareResize,
    WholeImage,
    evaluation_view,
    training_view,
)

AREA = (0.05, 1.0)


def slow_box(height: int, width: int, area: tuple[float, float], rng: np.random.Generator) -> tuple[int, ...]:
    """`sample_distorted_bounding_box` in words: a uniform aspect, then a uniform height among those that fit."""
    while True:
        ratio = rng.uniform(3 / 4, 4 / 3)
        fitting = []
        for h in range(1, height + 1):
            w = round(h * ratio)
            if 0 < w <= width and area[0] * height * width <= h * w <= area[1] * height * width:
                fitting.append((h, w))
        if fitting:
            h, w = fitting[rng.integers(len(fitting))]
            return h, w


@pytest.mark.parametrize("shape", [(60, 80), (75, 40)])
def test_boxes_are_distributed_as_tensorflow_draws_them(shape: tuple[int, int]) -> None:
    height, width = shape
    rng = np.random.default_rng(0)
    slow = np.array([slow_box(height, width, AREA, rng) for _ in range(4000)])
    boxes = np.array([augment.inception_box(height, width, AREA, rng) for _ in range(20_000)])
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
    boxes = np.array([augment.inception_box(50, 70, AREA, rng, aspect=(1.0, 1.0)) for _ in range(20_000)])
    counts = np.bincount(boxes[:, 3] - boxes[:, 1], minlength=51)
    least = ceil(np.sqrt(0.05 * 50 * 70))  # 13.2: a box of 13 is too small and one of 14 is drawn in its place
    assert counts[:least].sum() == 0
    assert counts[least] == pytest.approx(2 * counts[least + 1 :].mean(), rel=0.15)  # what rounding makes TensorFlow do
    assert stats.chisquare(counts[least + 1 :]).pvalue > 1e-3


def test_the_place_is_uniform_but_for_the_far_edge() -> None:
    rng = np.random.default_rng(2)
    boxes = np.array([augment.inception_box(40, 40, (0.25, 0.25), rng, aspect=(1.0, 1.0)) for _ in range(20_000)])
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
        left, top, right, bottom = augment.inception_box(height, width, area, rng)
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        if (left, top, right, bottom) == (0, 0, width, height):
            continue
        h, w = bottom - top, right - left
        assert area[0] * height * width <= h * w <= area[1] * height * width
        assert floor(h * 3 / 4) <= w <= ceil(h * 4 / 3)


def test_nothing_fits_a_strip_so_it_is_taken_whole() -> None:
    rng = np.random.default_rng(0)
    assert augment.inception_box(1000, 3, AREA, rng) == (0, 0, 3, 1000)


CROPS: list[Crop] = [InceptionCrop(), PadCrop(2), ResizeCrop(), WholeImage()]
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
        evaluation_view(pixels, preprocess),
        training_view(pixels, Augment(crop), preprocess, np.random.default_rng(0)),
    ):
        assert view.shape == (*resolution, 3)
        assert view.dtype == np.uint8


@pytest.mark.parametrize("crop", CROPS, ids=lambda c: type(c).__name__)
def test_a_training_view_is_a_function_of_the_generator_alone(crop: Crop) -> None:
    preprocess, pixels = Preprocess((16, 16)), noise(40, 50)

    def views(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return np.stack([training_view(pixels, Augment(crop), preprocess, rng) for _ in range(8)])

    first = views(0)
    assert np.array_equal(views(0), first)
    assert not np.array_equal(views(1), first)
    assert np.array_equal(pixels, noise(40, 50))  # and the picture is left alone


def test_the_evaluation_view_is_the_middle_of_the_resized_image() -> None:
    pixels = noise(300, 400)
    got = evaluation_view(pixels, Preprocess((224, 224), CentreCrop(0.875)))
    small = Image.fromarray(pixels).resize((341, 256), Image.Resampling.BILINEAR)  # the shorter side to 256
    assert np.array_equal(got, np.asarray(small)[16:240, 58:282])
    assert np.array_equal(got, evaluation_view(pixels, Preprocess((224, 224), CentreCrop(0.875))))


def test_the_square_view_keeps_everything_and_not_the_aspect() -> None:
    pixels = noise(30, 50)
    expected = np.asarray(Image.fromarray(pixels).resize((20, 20), Image.Resampling.BILINEAR))
    assert np.array_equal(evaluation_view(pixels, Preprocess((20, 20), SquareResize())), expected)


def test_half_of_the_views_are_flipped() -> None:
    pixels, preprocess = noise(8, 8), Preprocess((8, 8), SquareResize())
    config = Augment(WholeImage())
    rng = np.random.default_rng(0)
    flipped = 0
    for _ in range(2000):
        view = training_view(pixels, config, preprocess, rng)
        assert np.array_equal(view, pixels) or np.array_equal(view, pixels[:, ::-1])
        flipped += np.array_equal(view, pixels[:, ::-1])
    assert abs(flipped - 1000) < 4 * np.sqrt(500)
    kept = [training_view(pixels, replace(config, flip=False), preprocess, rng) for _ in range(20)]
    assert all(np.array_equal(view, pixels) for view in kept)


def test_pad_crop_shifts_by_up_to_the_padding() -> None:
    pixels = noise(8, 8)
    rng = np.random.default_rng(0)
    padded = np.pad(pixels, ((2, 2), (2, 2), (0, 0)), mode="reflect")
    windows = {padded[y : y + 8, x : x + 8].tobytes() for y in range(5) for x in range(5)}
    seen = {augment.pad_crop(pixels, 2, rng).tobytes() for _ in range(500)}
    assert seen == windows
