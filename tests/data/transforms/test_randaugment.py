"""RandAugment of big_vision and of timm: every operation against a slow reference, and what is drawn how often."""

import cmath
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from itertools import product
from math import floor, radians
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from scipy import stats

from tests.data.pictures import noise, smooth
from tests.parity.live.foreign import require
from vitrail.core.config import from_json, to_json
from vitrail.core.errors import BadInput
from vitrail.data.transforms import randaugment
from vitrail.data.transforms.randaugment import (
    BIG_VISION,
    TIMM,
    RandAugment,
    big_vision_operation,
    rand_augment,
    timm_operation,
)

FILL = (124, 116, 104)
SIGNED = {"Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY"}
ENHANCING = {"Color", "Contrast", "Brightness", "Sharpness"}


def dull(height: int, width: int) -> np.ndarray:
    """Noise from 30 to 217, other in each channel: what AutoContrast and Equalize have something to do with."""
    return (noise(height, width) // np.array([2, 3, 4]) + np.array([90, 30, 60])).astype(np.uint8)


class Scripted(np.random.Generator):
    """A generator that says what it is told: numbers in [0, 1) first, then whole numbers."""

    def __init__(self, numbers: tuple[float, ...] = (), integers: tuple[int, ...] = ()):
        super().__init__(np.random.PCG64(0))
        self.numbers, self.whole = list(numbers), list(integers)

    def random(self, *_: Any, **__: Any) -> Any:
        return self.numbers.pop(0)

    def integers(self, *_: Any, **__: Any) -> Any:
        return self.whole.pop(0)


def assert_truncated(got: np.ndarray, exact: np.ndarray) -> None:
    """`got` is `exact`, cut to 0 … 255 and truncated; next to a whole number, float32 may fall on either side."""
    clear = np.abs(exact - np.round(exact)) > 1e-3
    exact = np.clip(exact, 0, 255)
    assert np.array_equal(got[clear], np.floor(exact[clear]))
    assert (np.abs(got - exact) <= 1).all()
    assert clear.mean() > 0.4  # or it would be no test


# slow references of big_vision's operations: (pixels, level, sign) -> exact values


def each(function: Callable[[int], int]) -> Callable[..., np.ndarray]:
    """A reference that looks at every value by itself."""
    return lambda pixels, *_: np.array([function(int(v)) for v in pixels.flatten()]).reshape(pixels.shape)


def slow_posterize(bits: int) -> Callable[..., np.ndarray]:
    return each(lambda v: int(f"{v:08b}"[:bits].ljust(8, "0"), 2))


def slow_solarize(threshold: int) -> Callable[..., np.ndarray]:
    return each(lambda v: v if v < threshold else 255 - v)


def slow_add(amount: int) -> Callable[..., np.ndarray]:
    return each(lambda v: min(255, v + amount) if v < 128 else v)


def slow_equalize(pixels: np.ndarray, *_: Any) -> np.ndarray:
    result = pixels.astype(int)
    for c in range(3):
        channel = pixels[:, :, c]
        step = (channel.size - (channel == channel.max()).sum()) // 255
        if step:
            for v in range(256):
                result[:, :, c][channel == v] = min(255, ((channel < v).sum() + step // 2) // step)
    return result


def slow_smooth(pixels: np.ndarray) -> np.ndarray:
    """A ninth-and-a-bit of every pixel's surroundings, the middle five times; borders stay."""
    result = pixels.astype(int)
    for y, x in product(range(1, pixels.shape[0] - 1), range(1, pixels.shape[1] - 1)):
        around = pixels[y - 1 : y + 2, x - 1 : x + 2].astype(int)
        result[y, x] = (around.sum((0, 1)) + 4 * around[1, 1]) // 13
    return result


def slow_grey(pixels: np.ndarray) -> np.ndarray:
    """TensorFlow's rgb_to_grayscale of uint8: to [0, 1], the weighted sum, times 255.5, truncated."""
    grey = (pixels / 255 @ np.array([0.2989, 0.5870, 0.1140]) * 255.5).astype(int)
    return np.repeat(grey[:, :, None], 3, axis=2)


def slow_enhance(name: str, pixels: np.ndarray, level: float) -> np.ndarray:
    height, width = pixels.shape[:2]
    start = {
        "Color": lambda: slow_grey(pixels),
        "Contrast": lambda: np.full_like(pixels, min(255, max(224, height) * max(224, width) // 256)).astype(int),
        "Brightness": lambda: np.zeros_like(pixels, dtype=int),
        "Sharpness": lambda: slow_smooth(pixels),
    }[name]()
    return start + (0.1 + 1.8 * level) * (pixels.astype(int) - start)


def slow_source(name: str, level: float, sign: int, height: int, width: int) -> Callable[[int, int], complex]:
    """Where what lies at (x, y) comes from, as x + iy; pixels lie at whole numbers."""
    if name == "Rotate":
        middle = complex(width - 1, height - 1) / 2
        return lambda x, y: middle + (complex(x, y) - middle) * cmath.exp(1j * radians(sign * 30 * level))
    across, down = 100 * level * min(1, width / 224), 100 * level * min(1, height / 224)
    return {
        "ShearX": lambda x, y: complex(x + sign * 0.3 * level * y, y),
        "ShearY": lambda x, y: complex(x, y + sign * 0.3 * level * x),
        "TranslateX": lambda x, y: complex(x + sign * across, y),
        "TranslateY": lambda x, y: complex(x, y + sign * down),
    }[name]


def assert_nearest(got: np.ndarray, pixels: np.ndarray, source: Callable[[int, int], complex]) -> None:
    """Every pixel is the nearest of its source, or grey; next to halfway, either of two."""
    height, width = pixels.shape[:2]
    clear = 0
    for y, x in product(range(height), range(width)):
        point = source(x, y)
        if max(abs(part % 1 - 0.5) for part in (point.real, point.imag)) > 0.5 - 1e-9:
            point = complex(round(point.real, 6), round(point.imag, 6))
        if min(abs(part % 1 - 0.5) for part in (point.real, point.imag)) < 0.005:
            continue
        clear += 1
        column, row = floor(point.real + 0.5), floor(point.imag + 0.5)
        inside = 0 <= column < width and 0 <= row < height
        assert got[y, x].tolist() == (pixels[row, column].tolist() if inside else [128] * 3), (x, y, point)
    assert clear > 0.9 * height * width


LEVELS = (0.0, 0.3, 1.0, 1.5, 2.0)


@pytest.mark.parametrize("name", ["Equalize", "Invert", "Posterize", "Solarize", "SolarizeAdd"])
@pytest.mark.parametrize("level", LEVELS)
def test_big_vision_maps_values_as_the_slow_reference(name: str, level: float) -> None:
    slow = {
        "Equalize": slow_equalize,
        "Invert": each(lambda v: 255 - v),
        "Posterize": slow_posterize({0.0: 1, 0.3: 1, 1.0: 4, 1.5: 6, 2.0: 8}[level]),
        "Solarize": slow_solarize({0.0: 0, 0.3: 76, 1.0: 0, 1.5: 128, 2.0: 0}[level]),  # 256 is 0 in 8 bits
        "SolarizeAdd": slow_add({0.0: 0, 0.3: 33, 1.0: 110, 1.5: 165, 2.0: 220}[level]),
    }[name]
    for pixels in (noise(40, 50), dull(40, 50), np.full((4, 5, 3), 77, np.uint8)):
        assert np.array_equal(big_vision_operation(name, pixels, level, Scripted()), slow(pixels))


def test_autocontrast_stretches_every_channel_from_0_to_255() -> None:
    pixels = dull(23, 31)
    low, high = pixels.min((0, 1)).astype(int), pixels.max((0, 1)).astype(int)
    exact = (pixels - low) * 255 / (high - low)
    for got in (
        big_vision_operation("AutoContrast", pixels, 1.0, Scripted()),
        timm_operation("AutoContrast", pixels, 1.0, Scripted(), FILL, increasing=False),
    ):
        assert_truncated(got, exact)
        assert got.max() == 255 or got.max() == 254  # Pillow's sum for the largest value may fall just below
    flat = np.full((4, 5, 3), 77, np.uint8)
    assert np.array_equal(big_vision_operation("AutoContrast", flat, 1.0, Scripted()), flat)


@pytest.mark.parametrize("name", sorted(ENHANCING))
@pytest.mark.parametrize("level", LEVELS)
def test_big_vision_enhances_as_the_slow_reference(name: str, level: float) -> None:
    for pixels in (dull(23, 31), noise(30, 300)):
        got = big_vision_operation(name, pixels, level, Scripted())
        assert_truncated(got, slow_enhance(name, pixels, level))


@pytest.mark.parametrize("name", sorted(SIGNED))
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("sign", [1, -1])
def test_big_vision_moves_pixels_as_the_slow_reference(name: str, level: float, sign: int) -> None:
    pixels = noise(23, 31)
    got = big_vision_operation(name, pixels, level, Scripted((0.2 if sign > 0 else 0.7,)))
    assert_nearest(got, pixels, slow_source(name, level, sign, 23, 31))


@pytest.mark.parametrize(("name", "shape"), [("TranslateX", (9, 240)), ("TranslateY", (300, 7))])
def test_translations_are_official_from_224_pixels_on(name: str, shape: tuple[int, int]) -> None:
    pixels, axis = noise(*shape), 1 if name == "TranslateX" else 0
    got = big_vision_operation(name, pixels, 0.9, Scripted((0.2,)))
    moved = np.full_like(pixels, 128)
    if axis:
        moved[:, :-90] = pixels[:, 90:]
    else:
        moved[:-90] = pixels[90:]
    assert np.array_equal(got, moved)


def test_what_lies_halfway_goes_up() -> None:
    pixels = noise(16, 30)
    right = big_vision_operation("ShearX", pixels, 1.0, Scripted((0.2,)))
    left = big_vision_operation("ShearX", pixels, 1.0, Scripted((0.7,)))
    assert np.array_equal(right[5, :-2], pixels[5, 2:])  # 0.3 · 5 = 1.5
    assert np.array_equal(left[15, 4:], pixels[15, :-4])  # x - 4.5 is nearest to x - 4, as to x - 5


@pytest.mark.parametrize(
    ("shape", "half"), [((240, 260), (40, 40)), ((112, 240), (20, 40)), ((32, 32), (6, 6)), ((1, 1), (0, 0))]
)
def test_cutout_greys_a_square_about_its_middle(shape: tuple[int, int], half: tuple[int, int]) -> None:
    pixels = dull(*shape)
    for y, x in {(0, 0), (shape[0] // 2, shape[1] // 2), (shape[0] - 1, shape[1] // 3)}:
        got = big_vision_operation("Cutout", pixels, 1.0, Scripted((), (y, x)))
        for row, column in product(range(shape[0]), range(shape[1])):
            cut = -half[0] <= row - y < half[0] and -half[1] <= column - x < half[1]
            assert got[row, column].tolist() == ([128] * 3 if cut else pixels[row, column].tolist())


def test_the_middle_of_cutout_is_uniform() -> None:
    rng = np.random.default_rng(0)
    pixels = np.zeros((1, 280, 3), np.uint8)  # a half height of round(40 / 224) = 0 would cut nothing
    pixels = pixels.repeat(3, axis=0)
    counts = np.zeros((3, 280))
    for _ in range(4000):
        cut = big_vision_operation("Cutout", pixels, 1.0, rng)[:, :, 0] == 128
        rows, columns = np.flatnonzero(cut.any(1)), np.flatnonzero(cut.any(0))
        left = columns[0] if columns[0] else columns[-1] - 79  # where it is cut at the left, the right end tells
        counts[{(0, 1): 1, (0,): 0, (1, 2): 2}[tuple(rows.tolist())], left + 40] += 1
    assert stats.chisquare(counts.sum(1)).pvalue > 1e-3
    assert stats.chisquare(counts.sum(0).reshape(28, 10).sum(1)).pvalue > 1e-3


# what magnitude 0 does

UNCHANGED_AT_0 = {"Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY", "SolarizeAdd"}


def test_magnitude_0_of_big_vision_is_not_nothing() -> None:
    pixels = dull(23, 31)
    rng = np.random.default_rng(0)
    unchanged = {name for name in BIG_VISION if np.array_equal(big_vision_operation(name, pixels, 0.0, rng), pixels)}
    assert unchanged == UNCHANGED_AT_0 | {"Cutout"}
    assert np.array_equal(big_vision_operation("Solarize", pixels, 0.0, rng), 255 - pixels)
    assert set(np.unique(big_vision_operation("Posterize", pixels, 0.0, rng))) == {0, 128}


@pytest.mark.parametrize("increasing", [False, True])
def test_magnitude_0_of_timm_is_nothing_where_it_increases(increasing: bool) -> None:
    pixels, rng = dull(23, 31), np.random.default_rng(0)

    def at_0(name: str) -> np.ndarray:
        return timm_operation(name, pixels, 0.0, rng, FILL, increasing=increasing)

    unchanged = {name for name in TIMM if np.abs(at_0(name).astype(int) - pixels).max() == 0}
    assert unchanged == UNCHANGED_AT_0 | ({"Solarize"} | ENHANCING if increasing else set())
    bits = 4 if increasing else 0
    assert np.array_equal(at_0("Posterize"), slow_posterize(bits)(pixels))


# timm's operations, whose definition is Pillow's


@pytest.mark.parametrize("increasing", [False, True])
@pytest.mark.parametrize("level", [0.0, 0.33, 0.9, 1.0])
def test_timm_maps_and_enhances_as_pillow(level: float, increasing: bool) -> None:
    pixels = dull(23, 31)
    image = Image.fromarray(pixels)

    def operation(name: str, *numbers: float) -> np.ndarray:
        return timm_operation(name, pixels, level, Scripted(numbers), FILL, increasing=increasing)

    bits, threshold = int(4 * level), int(256 * level)
    if increasing:
        bits, threshold = 4 - bits, 256 - threshold
    assert np.array_equal(operation("Equalize"), np.asarray(ImageOps.equalize(image)))
    assert np.array_equal(operation("Invert"), np.asarray(ImageOps.invert(image)))
    assert np.array_equal(operation("Posterize"), slow_posterize(bits)(pixels))
    assert np.array_equal(operation("Solarize"), np.asarray(ImageOps.solarize(image, threshold)))
    assert np.array_equal(operation("SolarizeAdd"), slow_add(int(110 * level))(pixels))
    for name in ENHANCING:
        enhancer = getattr(ImageEnhance, name)(image)
        if increasing:
            up, down = 1 + 0.9 * level, 1 - 0.9 * level
            assert np.array_equal(operation(name, 0.2), np.asarray(enhancer.enhance(up)))
            assert np.array_equal(operation(name, 0.8), np.asarray(enhancer.enhance(down)))
        else:
            assert np.array_equal(operation(name), np.asarray(enhancer.enhance(0.1 + 1.8 * level)))


def slow_interpolate(pixels: np.ndarray, source: Callable[[float, float], complex], cubic: bool) -> np.ndarray:
    """Bilinear or bicubic (a = -1) values at the sources of all pixels' middles; the fill outside of the image."""

    def weight(t: float) -> float:
        t = abs(t)
        if not cubic:
            return max(0.0, 1 - t)
        return t**3 - 2 * t**2 + 1 if t < 1 else max(0, 2 - t) * (t - 2) * (1 - t) * -1 if t < 2 else 0.0

    height, width = pixels.shape[:2]
    result = np.empty(pixels.shape)
    for y, x in product(range(height), range(width)):
        point = source(x + 0.5, y + 0.5)
        if not (0 <= point.real < width and 0 <= point.imag < height):
            result[y, x] = FILL
            continue
        column, row = point.real - 0.5, point.imag - 0.5
        total = np.zeros(3)
        for j, i in product(range(floor(row) - 1, floor(row) + 3), range(floor(column) - 1, floor(column) + 3)):
            inside = pixels[min(max(j, 0), height - 1), min(max(i, 0), width - 1)]
            total += weight(j - row) * weight(i - column) * inside
        result[y, x] = total
    return result


@pytest.mark.parametrize("name", sorted(SIGNED))
@pytest.mark.parametrize("cubic", [False, True], ids=["bilinear", "bicubic"])
@pytest.mark.parametrize("sign", [1, -1])
def test_timm_interpolates_as_the_slow_reference(name: str, cubic: bool, sign: int) -> None:
    pixels, level = noise(11, 17), 0.7
    middle = complex(17, 11) / 2
    source = {
        "Rotate": lambda x, y: middle + (complex(x, y) - middle) * cmath.exp(1j * radians(sign * 30 * level)),
        "ShearX": lambda x, y: complex(x + sign * 0.3 * level * y, y),
        "ShearY": lambda x, y: complex(x, y + sign * 0.3 * level * x),
        "TranslateX": lambda x, y: complex(x + sign * 0.45 * level * 17, y),
        "TranslateY": lambda x, y: complex(x, y + sign * 0.45 * level * 11),
    }[name]
    numbers = (0.2 if sign > 0 else 0.7, 0.7 if cubic else 0.2)
    got = timm_operation(name, pixels, level, Scripted(numbers), FILL, increasing=False)
    exact = slow_interpolate(pixels, source, cubic)
    assert np.abs(got - np.clip(exact, 0, 255)).max() <= 1.01  # Pillow truncates bilinear values, and rounds inside
    assert (got == FILL).all(-1).sum() == (exact == FILL).all(-1).sum() > 0


# what is drawn


def possible(names: list[str], operation: Callable[[str, Scripted], np.ndarray]) -> dict[bytes, str]:
    """Every result of one layer but Cutout's, with the name that leads to it, signed."""
    results: dict[bytes, str] = {}
    for name in names:
        for first, second in product((0.2, 0.7), repeat=2):
            if name != "Cutout":
                results.setdefault(operation(name, Scripted((first, second))).tobytes(), f"{name} {first} {second}")
    return results


def test_big_vision_draws_16_operations_alike_and_both_signs() -> None:
    pixels = dull(20, 24)
    names = possible(BIG_VISION, lambda name, rng: big_vision_operation(name, pixels, 0.7, rng))
    rng, config = np.random.default_rng(0), RandAugment(layers=1, magnitude=7.0)
    counts: dict[str, int] = {}
    for _ in range(8000):
        drawn = names.get(rand_augment(pixels, config, rng).tobytes(), "Cutout")
        counts[drawn] = counts.get(drawn, 0) + 1
    of_name = [sum(n for drawn, n in counts.items() if drawn.split()[0] == name) for name in BIG_VISION]
    assert stats.chisquare(of_name).pvalue > 1e-3
    for name in SIGNED:
        both = [n for drawn, n in counts.items() if drawn.split()[0] == name]
        assert len(both) == 2
        assert stats.chisquare(both).pvalue > 1e-3


def test_timm_draws_15_operations_alike_both_signs_and_both_filters() -> None:
    pixels = dull(20, 24)
    names = possible(TIMM, lambda name, rng: timm_operation(name, pixels, 0.7, rng, (128, 128, 128), increasing=True))
    names[pixels.tobytes()] = "nothing"
    rng = np.random.default_rng(0)
    config = RandAugment(layers=1, magnitude=7.0, kind="timm", probability=0.8, increasing=True)
    counts: dict[str, int] = {}
    for _ in range(10_000):
        drawn = names[rand_augment(pixels, config, rng).tobytes()]
        counts[drawn] = counts.get(drawn, 0) + 1
    assert abs(counts["nothing"] - 2000) < 4 * np.sqrt(1600)
    of_name = [sum(n for drawn, n in counts.items() if drawn.split()[0] == name) for name in TIMM]
    assert stats.chisquare(of_name).pvalue > 1e-3
    for name in SIGNED | ENHANCING:
        ways = [n for drawn, n in counts.items() if drawn.split()[0] == name]
        assert len(ways) == (4 if name in SIGNED else 2)
        assert stats.chisquare(ways).pvalue > 1e-3


def test_layers_follow_each_other_at_the_given_magnitude(monkeypatch: pytest.MonkeyPatch) -> None:
    done = []

    def record(name: str, pixels: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
        done.append((name, level))
        return pixels + np.uint8(1)

    monkeypatch.setattr(randaugment, "big_vision_operation", record)
    pixels, rng = np.zeros((2, 2, 3), np.uint8), np.random.default_rng(0)
    for layers in (0, 1, 2, 3):
        config = RandAugment(layers=layers, magnitude=15.0)
        for _ in range(200):
            assert (rand_augment(pixels, config, rng) == layers).all()
    assert {level for _, level in done} == {1.5}
    pairs = done[200:600]  # with replacement: one in 16 pairs is twice the same
    twice = sum(pairs[i][0] == pairs[i + 1][0] for i in range(0, 400, 2))
    assert 2 <= twice <= 30


@pytest.mark.parametrize(
    ("magnitude", "std", "distribution"),
    [(9.0, 0.0, None), (15.0, 0.0, None), (5.0, 1.0, stats.norm(0.5, 0.1)), (6.0, 101.0, stats.uniform(0, 0.6))],
)
def test_timm_draws_magnitudes(
    magnitude: float, std: float, distribution: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels: list[float] = []

    def record(name: str, pixels: np.ndarray, level: float, *_: Any, **__: Any) -> np.ndarray:
        levels.append(level)
        return pixels

    monkeypatch.setattr(randaugment, "timm_operation", record)
    config = RandAugment(1, magnitude, "timm", magnitude_std=std, probability=1.0)
    rng = np.random.default_rng(0)
    for _ in range(2000):
        rand_augment(np.zeros((2, 2, 3), np.uint8), config, rng)
    if distribution is None:
        assert set(levels) == {min(magnitude, 10) / 10}
    else:
        assert stats.kstest(levels, distribution.cdf).pvalue > 1e-3


def test_timm_keeps_magnitudes_between_0_and_10(monkeypatch: pytest.MonkeyPatch) -> None:
    levels: list[float] = []
    monkeypatch.setattr(randaugment, "timm_operation", lambda _, p, level, *__, **___: levels.append(level) or p)
    rng = np.random.default_rng(0)
    for magnitude in (1.0, 9.0):
        config = RandAugment(1, magnitude, "timm", magnitude_std=3.0, probability=1.0)
        for _ in range(500):
            rand_augment(np.zeros((2, 2, 3), np.uint8), config, rng)
    assert min(levels) == 0
    assert max(levels) == 1


def test_timm_fills_with_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(randaugment, "TIMM", ["TranslateX"])
    config = RandAugment(1, 10.0, "timm", probability=1.0)
    pixels = np.zeros((20, 20, 3), np.uint8)
    got = rand_augment(pixels, config, np.random.default_rng(0), (0.485, 0.456, 0.406))
    assert {tuple(colour) for colour in got.reshape(-1, 3).tolist()} == {(0, 0, 0), FILL}
    assert (got == FILL).all(-1).sum() == 9 * 20
    grey = rand_augment(pixels, config, np.random.default_rng(0))
    assert set(np.unique(grey)) == {0, 128}


@pytest.mark.parametrize("kind", ["big_vision", "timm"])
def test_the_same_generator_gives_the_same_pixels(kind: Any) -> None:
    config, pixels = RandAugment(kind=kind, magnitude_std=0.5 if kind == "timm" else 0.0), smooth(20, 24)

    def views(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return np.stack([rand_augment(pixels, config, rng) for _ in range(60)])

    first = views(0)
    assert first.dtype == np.uint8
    assert first.shape == (60, 20, 24, 3)
    assert np.array_equal(views(0), first)
    assert not np.array_equal(views(1), first)
    assert np.array_equal(pixels, smooth(20, 24))  # and the picture is left alone


@pytest.mark.parametrize("kind", ["big_vision", "timm"])
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (1, 40), (33, 7)])
def test_small_and_flipped_images_work_too(kind: Any, shape: tuple[int, int]) -> None:
    pixels = noise(*shape)
    flipped = noise(*shape)[:, ::-1]
    for config in (RandAugment(kind=kind), RandAugment(layers=3, magnitude=0.0, kind=kind)):
        for seed in range(60):
            rng = np.random.default_rng(seed)
            got = rand_augment(flipped, config, rng)
            assert got.shape == (*shape, 3)
            assert np.array_equal(got, rand_augment(flipped.copy(), config, np.random.default_rng(seed)))
    assert np.array_equal(flipped[:, ::-1], pixels)


def test_an_unknown_operation_is_an_error() -> None:
    with pytest.raises(ValueError, match="'Blur' is no operation of big_vision's"):
        big_vision_operation("Blur", noise(3, 3), 1.0, Scripted())
    with pytest.raises(ValueError, match="'Cutout' is no operation of timm's"):
        timm_operation("Cutout", noise(3, 3), 1.0, Scripted(), FILL, increasing=False)


def test_configs_are_checked_and_read_back() -> None:
    deit = RandAugment(2, 9.0, "timm", magnitude_std=0.5, increasing=True)
    for config in (RandAugment(), deit):
        config.check()
        assert from_json(RandAugment, to_json(config)) == config
    assert from_json(RandAugment, {"layers": 2, "magnitude": 15}) == RandAugment(2, 15.0)
    with pytest.raises(BadInput, match="kind is 'tim'"):
        from_json(RandAugment, {"kind": "tim"})
    with pytest.raises(BadInput, match="are timm's, not big_vision's"):
        replace(deit, kind="big_vision").check()
    for wrong in (RandAugment(layers=-1), RandAugment(magnitude=-1.0), replace(deit, probability=1.1)):
        with pytest.raises(BadInput, match="at least 0"):
            wrong.check()


@pytest.mark.slow
@pytest.mark.parametrize("increasing", [False, True])
@pytest.mark.parametrize("name", TIMM)
def test_timm_itself_computes_the_same(name: str, increasing: bool) -> None:
    require("timm")
    timm = import_module("timm.data.auto_augment")
    signed = name in SIGNED or (increasing and name in ENHANCING)
    theirs = {"TranslateX": "TranslateXRel", "TranslateY": "TranslateYRel"}.get(name, name)
    if increasing and name in {"Posterize", "Solarize"} | ENHANCING:
        theirs += "Increasing"
    for pixels, magnitude, sign, cubic in product(
        (smooth(224, 224), noise(31, 45)), (1, 3, 5.5, 9), (1, -1) if signed else (1,), (False, True)
    ):
        if name == "Posterize" and magnitude == 1:
            continue  # no bits, or all of four; recent versions of Pillow refuse to keep none
        resampling = Image.Resampling.BICUBIC if cubic else Image.Resampling.BILINEAR
        operation = timm.AugmentOp(theirs, 1.0, magnitude, {"img_mean": FILL, "interpolation": resampling})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(timm, "_randomly_negate", lambda v, sign=sign: sign * v)
            expected = np.asarray(operation(Image.fromarray(pixels)))
        numbers = (*((0.2 if sign > 0 else 0.7,) if signed else ()), 0.7 if cubic else 0.2)
        got = timm_operation(name, pixels, magnitude / 10, Scripted(numbers), FILL, increasing=increasing)
        assert np.array_equal(got, expected), (magnitude, sign, cubic)
