"""Random erasing: which rectangles are drawn, what they hold, and that the rest is left alone."""

from dataclasses import replace
from math import log

import numpy as np
import pytest
from scipy import stats

from tests.data.pictures import noise
from vitrail.core.config import from_json, to_json
from vitrail.core.errors import BadInput
from vitrail.data.transforms.random_erasing import RandomErasing, erase, rectangle

ALWAYS = RandomErasing(probability=1.0)


def dark(height: int, width: int) -> np.ndarray:
    """Black: no value that erasing by a constant leaves."""
    return np.zeros((height, width, 3), np.uint8)


def erased_box(got: np.ndarray) -> tuple[int, int, int, int]:
    """Top, left, height and width of what is not black."""
    rows, columns = np.flatnonzero(got.any((1, 2))), np.flatnonzero(got.any((0, 2)))
    return int(rows[0]), int(columns[0]), len(rows), len(columns)


def slow_rectangles(height: int, width: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Heights and widths as the definition has them, without a limit of tries."""
    found = []
    while len(found) < count:
        area = rng.uniform(0.02, 1 / 3) * height * width
        aspect = np.exp(rng.uniform(np.log(0.3), np.log(3.3)))
        sides = np.round([np.sqrt(area * aspect), np.sqrt(area / aspect)])
        if sides[0] < height and sides[1] < width:
            found.append(sides)
    return np.array(found)


def test_a_constant_rectangle_is_mid_grey_and_the_rest_stays() -> None:
    config, rng = replace(ALWAYS, fill="constant"), np.random.default_rng(0)
    for _ in range(100):
        got = erase(dark(40, 60), config, rng)
        top, left, rows, columns = erased_box(got)
        assert (got[top : top + rows, left : left + columns] == 128).all()
        got[top : top + rows, left : left + columns] = 0
        assert not got.any()


def test_the_share_of_erased_images_is_the_probability() -> None:
    pixels, rng = dark(8, 8), np.random.default_rng(0)
    erased = sum(bool(erase(pixels, RandomErasing(fill="constant"), rng).any()) for _ in range(4000))
    assert abs(erased - 1000) < 4 * np.sqrt(750)
    assert not any(erase(pixels, RandomErasing(probability=0.0), rng).any() for _ in range(100))
    assert all(erase(pixels, ALWAYS, rng).any() for _ in range(100))


@pytest.mark.parametrize("shape", [(120, 120), (60, 150)])
def test_rectangles_are_distributed_as_defined(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    drawn = np.array([rectangle(*shape, ALWAYS, rng) for _ in range(8000)])
    slow = slow_rectangles(*shape, 8000, rng)
    for ours, theirs in (
        (drawn[:, 2], slow[:, 0]),
        (drawn[:, 3], slow[:, 1]),
        (drawn[:, 2] * drawn[:, 3], slow[:, 0] * slow[:, 1]),
        (drawn[:, 2] / drawn[:, 3], slow[:, 0] / slow[:, 1]),
    ):
        distance = stats.ks_2samp(ours, theirs).statistic
        assert distance < 0.03  # measured 0.008 to 0.021; a uniform aspect gives 0.27


def test_areas_and_aspects_are_uniform_within_their_ranges() -> None:
    config, rng = replace(ALWAYS, area=(0.05, 0.1), aspect=(0.5, 2.0)), np.random.default_rng(0)
    drawn = np.array([rectangle(1000, 1000, config, rng) for _ in range(4000)])
    area, aspect = drawn[:, 2] * drawn[:, 3] / 1e6, drawn[:, 2] / drawn[:, 3]
    assert stats.kstest(area, stats.uniform(0.05, 0.05).cdf).pvalue > 1e-3
    assert stats.kstest(np.log(aspect), stats.uniform(log(0.5), 2 * log(2)).cdf).pvalue > 1e-3


def test_the_aspect_is_height_over_width_and_no_side_is_as_long_as_the_image() -> None:
    rng = np.random.default_rng(0)
    for aspect, sides in ((0.25, (6, 24)), (1.0, (12, 12)), (4.0, (24, 6))):
        config = replace(ALWAYS, area=(0.144, 0.144), aspect=(aspect, aspect))  # 144 of 25 x 40 pixels
        drawn = {rectangle(25, 40, config, rng)[2:] for _ in range(20)}
        assert drawn == {sides}
        config = replace(ALWAYS, area=(0.25, 0.25), aspect=(aspect, aspect))  # 144 of 24 x 24 pixels
        drawn = {rectangle(24, 24, config, rng)[2:] for _ in range(20)}
        assert drawn == ({sides} if aspect == 1 else {(0, 0)})


def test_places_are_uniform_up_to_the_borders() -> None:
    config, rng = replace(ALWAYS, area=(0.16, 0.16), aspect=(1.0, 1.0)), np.random.default_rng(0)
    drawn = np.array([rectangle(20, 20, config, rng) for _ in range(6000)])
    assert set(drawn[:, 2]) == set(drawn[:, 3]) == {8}
    for side in (0, 1):
        counts = np.bincount(drawn[:, side], minlength=13)
        assert len(counts) == 13
        assert stats.chisquare(counts).pvalue > 1e-3


def test_nothing_fits_so_nothing_is_erased() -> None:
    config, rng = replace(ALWAYS, area=(0.3, 0.3), aspect=(1.0, 1.0)), np.random.default_rng(0)
    assert rectangle(2, 100, config, rng) == (0, 0, 0, 0)
    for pixels in (noise(2, 100), noise(1, 1)):
        assert np.array_equal(erase(pixels, config, rng), pixels)


def test_ten_draws_are_made_before_giving_up() -> None:
    # a square of 93 to 96 % of 30 x 31 pixels fits where its side rounds to 29: below 29.5² pixels
    config, rng = replace(ALWAYS, area=(0.93, 0.96), aspect=(1.0, 1.0)), np.random.default_rng(0)
    fits = (29.5**2 / 930 - 0.93) / 0.03
    empty = sum(rectangle(30, 31, config, rng)[2] == 0 for _ in range(20_000)) / 20_000
    assert empty == pytest.approx((1 - fits) ** 10, rel=0.1)  # 0.12


def test_noise_is_normal_about_grey_in_every_pixel_and_channel() -> None:
    config = replace(ALWAYS, area=(0.9, 0.9), aspect=(1.0, 1.0))
    got = erase(dark(400, 400), config, np.random.default_rng(0))
    top, left, rows, columns = rectangle(400, 400, config, Skipping())
    block = got[top : top + rows, left : left + columns]
    expected = np.diff(stats.norm(128, 58).cdf(np.arange(1, 256) - 0.5), prepend=0.0, append=1.0)
    assert block.mean() == pytest.approx(expected @ np.arange(256), abs=4 * 58 / np.sqrt(block.size))  # 0.35
    assert stats.chisquare(np.bincount(block.flatten(), minlength=256), expected * block.size).pvalue > 1e-3
    flat = block.reshape(-1, 3).astype(float)
    assert np.abs(np.corrcoef(flat.T) - np.eye(3)).max() < 0.02
    assert abs(np.corrcoef(block[:-1].flatten(), block[1:].flatten())[0, 1]) < 0.02


class Skipping(np.random.Generator):
    """The generator of seed 0 after its first number, which says whether to erase."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))
        self.random()


def test_erasing_is_a_function_of_the_generator_and_leaves_its_argument_alone() -> None:
    pixels = noise(30, 40)[:, ::-1]
    first = erase(pixels, ALWAYS, np.random.default_rng(5))
    assert np.array_equal(first, erase(pixels, ALWAYS, np.random.default_rng(5)))
    assert not np.array_equal(first, erase(pixels, ALWAYS, np.random.default_rng(6)))
    assert np.array_equal(pixels, noise(30, 40)[:, ::-1])
    assert first.dtype == np.uint8


def test_configs_are_checked_and_read_back() -> None:
    config = RandomErasing(0.5, (0.1, 0.2), (0.5, 2.0), "constant")
    config.check()
    assert from_json(RandomErasing, to_json(config)) == config
    with pytest.raises(BadInput, match="probability of erasing is 1.5"):
        RandomErasing(1.5).check()
    for wrong in (RandomErasing(area=(0.2, 0.1)), RandomErasing(area=(0.0, 0.1)), RandomErasing(aspect=(2.0, 1.0))):
        with pytest.raises(BadInput, match="from a smaller to a larger"):
            wrong.check()
