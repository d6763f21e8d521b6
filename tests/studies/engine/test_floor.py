"""Power laws with a floor: a known floor is found, none is taken where there is none, too few points are refused."""

from dataclasses import replace

import numpy as np
import pytest

from vitrail.core.errors import BadInput
from vitrail.studies.engine.floor import law_with_floor, laws_alike, shows_floor
from vitrail.studies.engine.power_law import PowerLaw, power_law, ratio_at_equal

X = np.geomspace(1.0, 50.0, 6)


def noisy(rng: np.random.Generator, x: np.ndarray, noise: float, *, floor: float, times: float = 1.0) -> np.ndarray:
    """floor + (0.8 - floor) · (x / times)^-0.5, with an even error of its logarithm."""
    return (floor + (0.8 - floor) * (x / times) ** -0.5) * np.exp(noise * rng.normal(size=len(x)))


@pytest.mark.parametrize("floor", [0.0, 0.02, 0.3])
def test_a_law_without_noise_is_found_again(floor: float) -> None:
    law = law_with_floor(X, floor + 0.6 * X**-0.7)
    assert law.floor is not None
    assert law.floor.value == pytest.approx(floor, abs=1e-5)
    assert law.exponent.value == pytest.approx(-0.7, abs=1e-4)
    assert law.scale == pytest.approx(0.6, rel=1e-4)
    assert law.where(floor + 0.3) == pytest.approx(2 ** (1 / 0.7), rel=1e-3)
    assert law.at(4.0).value == pytest.approx(floor + 0.6 * 4**-0.7)
    assert shows_floor(law) == (floor > 0)


def test_an_accuracy_at_the_floor_is_never_reached() -> None:
    law = law_with_floor(X, 0.3 + 0.6 * X**-0.7)
    assert law.where(0.29) == np.inf


@pytest.mark.parametrize("count", [5, 8])
def test_95_percent_of_the_intervals_hold_the_floor_the_exponent_and_the_ratio(count: int) -> None:
    """30 draws with errors of 1.5 %. With 5, 6, 8 points 93, 95, 97 % held the floor, 85, 95, 100 % showed it."""
    rng = np.random.default_rng(1)
    x = np.geomspace(1.0, 50.0, count)
    floor = exponent = ratio = shown = 0
    for _ in range(30):
        law = law_with_floor(x, noisy(rng, x, 0.015, floor=0.15), redraws=100)
        other = law_with_floor(x, noisy(rng, x, 0.015, floor=0.15, times=2.5), redraws=100)
        found = ratio_at_equal(law, other)
        assert found is not None
        assert law.floor is not None
        floor += holds(law.floor.interval, 0.15)
        exponent += holds(law.exponent.interval, -0.5)
        ratio += holds(found.interval, 2.5)
        shown += shows_floor(law)
    assert all(share >= 0.85 for share in (floor / 30, exponent / 30, ratio / 30))
    assert shown / 30 >= 0.75


def holds(interval: tuple[float, float] | None, value: float) -> bool:
    assert interval is not None
    return interval[0] <= value <= interval[1]


def test_points_without_a_floor_seldom_get_one() -> None:
    """100 draws of six points with errors of 3 %; two get a floor. By leave-one-out errors a fifth would."""
    rng = np.random.default_rng(2)
    laws = [law_with_floor(X, noisy(rng, X, 0.03, floor=0.0), redraws=1) for _ in range(100)]
    assert sum(shows_floor(law) for law in laws) <= 6
    points = noisy(rng, X, 0.03, floor=0.0)
    assert laws_alike({"one": (X, points)})["one"].exponent == power_law(X, points).exponent


def test_a_law_that_rises_has_no_floor() -> None:
    law = laws_alike({"one": (X, 0.1 * X**0.3)})["one"]
    assert law.floor is None
    assert law.exponent.value == pytest.approx(0.3)


def test_families_are_compared_by_laws_of_one_kind() -> None:
    """The first family, with errors of 5 %, shows no floor alone; beside one that does it is fitted with one."""
    rng = np.random.default_rng(3)
    shows = (X, noisy(rng, X, 0.005, floor=0.2))
    unclear = (X, noisy(rng, X, 0.05, floor=0.1))
    few = (X[:4], noisy(rng, X[:4], 0.005, floor=0.2))
    assert laws_alike({"unclear": unclear})["unclear"].floor is None
    laws = laws_alike({"unclear": unclear, "few": few, "shows": shows, "none": (X[:2], X[:2])})
    assert list(laws) == ["unclear", "few", "shows"]
    assert shows_floor(laws["shows"])
    assert laws["unclear"].floor is not None
    assert not shows_floor(laws["unclear"])
    assert laws["few"].floor is None


def test_redraws_that_never_reach_the_value_open_the_interval_of_the_ratio() -> None:
    """One in ten of a law's redraws ends above the value at which laws are compared; one in a hundred is too few."""
    rng = np.random.default_rng(5)
    first, second = (law_with_floor(X, noisy(rng, X, 0.01, floor=0.2, times=times)) for times in (1.0, 2.5))

    def ends(first: PowerLaw, second: PowerLaw) -> tuple[float, float]:
        found = ratio_at_equal(first, second)
        assert found is not None
        assert found.interval is not None
        assert found.value == pytest.approx(2.5, rel=0.15)
        return found.interval

    low, high = ends(first, second)
    assert 0 < low < 2.5 < high < np.inf
    assert ends(first, ends_high(second, 100))[1] < np.inf
    assert ends(first, ends_high(second, 10))[0] > 0
    assert ends(first, ends_high(second, 10))[1] == np.inf
    assert ends(ends_high(first, 10), second)[0] == 0
    assert ends(ends_high(first, 10), ends_high(second, 10)) == (0, np.inf)  # neither: nothing is known


def ends_high(law: PowerLaw, every: int) -> PowerLaw:
    redraws = law.redraws.copy()
    redraws[::every, 2] = 0.7
    return replace(law, redraws=redraws)


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        ([1.0, 2.0, 4.0, 8.0], [4.0, 3.0, 2.5, 2.2], "needs 5 points at different x, there are 4"),
        ([1.0, 1.0, 2.0, 4.0, 8.0], [4.0, 4.1, 3.0, 2.5, 2.2], "needs 5 points at different x, there are 4"),
        ([1.0, 2.0, 4.0, 8.0, 16.0], [4.0, 3.0, 0.0, 2.2, 2.0], "above zero"),
    ],
)
def test_too_little_is_said(x: list[float], y: list[float], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        law_with_floor(x, y)
