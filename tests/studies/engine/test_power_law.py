"""Power laws: exponents of synthetic data are recovered within their intervals, and 95 % are about 95 %."""

import numpy as np
import pytest

from vitrail.core.errors import BadInput
from vitrail.studies.engine.power_law import exponents, gap_at_equal, power_law, ratio_at_equal

X = np.geomspace(1.0, 100.0, 6)


def noisy(rng: np.random.Generator, x: np.ndarray, noise: float, *, times: float = 1.0) -> np.ndarray:
    """0.9 · (x / times)^-0.25, with an even error of its logarithm."""
    return 0.9 * (x / times) ** -0.25 * np.exp(noise * rng.normal(size=len(x)))


def test_a_law_without_noise_is_found_again() -> None:
    law = power_law(X, 0.9 * X**-0.25)
    assert law.exponent.value == pytest.approx(-0.25, abs=1e-9)
    assert law.scale == pytest.approx(0.9)
    assert law.where(0.45) == pytest.approx(16.0)
    assert law.at(16.0).value == pytest.approx(0.45)


def test_95_percent_of_the_intervals_hold_the_exponent_and_the_ratio() -> None:
    """200 draws of six points. Of 400 draws of 5, 7, 12 points 94, 95, 96 % held the exponent, 98, 97, 95 the ratio."""
    rng = np.random.default_rng(1)
    exponent = ratio = 0
    for _ in range(200):
        law = power_law(X, noisy(rng, X, 0.05), redraws=200)
        other = power_law(X, noisy(rng, X, 0.05, times=3.0), redraws=200)
        found = ratio_at_equal(law, other)
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        assert law.exponent.low is not None
        assert law.exponent.high is not None
        exponent += law.exponent.low <= -0.25 <= law.exponent.high
        ratio += found.low <= 3.0 <= found.high
    assert 0.90 <= exponent / 200 <= 0.995
    assert 0.90 <= ratio / 200 <= 0.995


def test_one_run_that_went_wrong_bends_the_law_little() -> None:
    """The fourth point is half again as large as it should be; least squares would move the exponent by 0.011 more."""
    x = np.geomspace(1.0, 100.0, 8)
    y = noisy(np.random.default_rng(3), x, 0.01)
    y[1] *= 1.5
    robust = power_law(x, y).exponent.value
    plain = float(np.polyfit(np.log(x), np.log(y), 1)[0])
    assert abs(robust + 0.25) < 0.5 * abs(plain + 0.25)
    assert robust == pytest.approx(-0.25, abs=0.01)


def test_without_noise_it_is_the_line_of_polyfit() -> None:
    y = 2.0 * X**0.7
    assert power_law(X, y).exponent.value == pytest.approx(float(np.polyfit(np.log(X), np.log(y), 1)[0]))


def test_laws_that_reach_nothing_in_common_have_no_ratio() -> None:
    low, high = power_law(X, 0.1 * X**-0.1), power_law(X, 10.0 * X**-0.1)
    assert ratio_at_equal(low, high) is None


def test_95_percent_of_the_intervals_hold_the_gap_where_laws_are_flat() -> None:
    """200 draws of five points of two such laws, 0.05 apart. Of 400 draws of 4, 5, 7 points 97, 96, 96 % held it."""
    rng = np.random.default_rng(2)
    x, other_x = np.geomspace(1.0, 50.0, 5), np.geomspace(2.0, 100.0, 5)
    held = open_ratios = 0
    for _ in range(200):
        first = power_law(x, 0.65 * np.exp(0.02 * rng.normal(size=5)), redraws=200)
        second = power_law(other_x, 0.60 * np.exp(0.02 * rng.normal(size=5)), redraws=200)
        found = gap_at_equal(second, first)
        assert found is not None
        assert found[0] == pytest.approx(10.0)
        assert found[1].interval is not None
        held += found[1].interval[0] <= 0.05 <= found[1].interval[1]
        ratio = ratio_at_equal(first, second)
        open_ratios += ratio is None or ratio.interval is None or ratio.interval[1] > 10 * ratio.interval[0]
    assert 0.90 <= held / 200 <= 0.995
    assert open_ratios > 190  # why the gap is asked for


def test_laws_without_x_in_common_have_no_gap() -> None:
    assert gap_at_equal(power_law(X, X**-0.1), power_law(1000 * X, X**-0.1)) is None


def test_two_exponents_are_told_apart_and_95_percent_of_their_intervals_hold_them() -> None:
    """Eleven points as of the study of scaling: five sizes, the smallest three with two and four times the images."""
    rng = np.random.default_rng(4)
    size = np.array([1, 3, 7, 23, 52, 1, 3, 7, 1, 3, 7], dtype=float)
    images = np.array([1] * 5 + [2] * 3 + [4] * 3, dtype=float)
    exact = 0.7 * size**-0.02 * images**-0.1
    assert [found.value for found in exponents([size, images], exact)] == pytest.approx([-0.02, -0.1])
    held = 0
    for _ in range(400):
        (first, second) = exponents([size, images], exact * np.exp(0.02 * rng.normal(size=11)))
        assert first.interval is not None
        assert second.interval is not None
        held += (first.interval[0] <= -0.02 <= first.interval[1]) + (second.interval[0] <= -0.1 <= second.interval[1])
    assert 0.93 <= held / 800 <= 0.97
    with pytest.raises(BadInput, match="2 exponents cannot be told from 5 points"):
        exponents([size[:5], images[:5]], exact[:5])


def test_an_interval_is_wider_with_more_noise() -> None:
    def width(noise: float) -> float:
        found = power_law(X, noisy(np.random.default_rng(5), X, noise)).exponent
        assert found.low is not None
        assert found.high is not None
        return found.high - found.low

    assert width(0.1) > 3 * width(0.01)


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        ([1.0, 2.0], [1.0, 2.0], "needs 3 points"),
        ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0], "different x"),
        ([1.0, 2.0, 4.0], [1.0, 0.0, 1.0], "above zero"),
    ],
)
def test_too_little_is_said(x: list[float], y: list[float], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        power_law(x, y)
