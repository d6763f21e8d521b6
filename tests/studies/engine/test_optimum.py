"""The top of a curve: a known one, none inside, and how often the interval holds the truth."""

from math import inf

import numpy as np
import pytest

from vitrail.core.estimate import Estimate
from vitrail.studies.engine.optimum import optimum, optimum_words

DEPTHS = (2.0, 3.0, 4.0, 6.0, 8.0)


def values(means: np.ndarray, error: float) -> list[Estimate]:
    return [Estimate(float(v), (float(v) - 1.96 * error, float(v) + 1.96 * error)) for v in means]


def parabola(top: float, curve: float = 0.1) -> np.ndarray:
    return np.asarray(0.5 - curve * np.log(np.asarray(DEPTHS) / top) ** 2)


def test_a_parabola_has_its_top_where_it_is() -> None:
    found = optimum(DEPTHS, values(parabola(5.0), 1e-6))
    assert found is not None
    assert found.place == pytest.approx(5.0)
    assert found.interval == pytest.approx((5.0, 5.0), rel=1e-3)
    assert optimum_words(found, DEPTHS) == "5 (all of the 95 % interval)"


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng, error, held = np.random.default_rng(0), 0.004, 0
    for _ in range(40):
        found = optimum(DEPTHS, values(parabola(4.0) + rng.normal(0, error, len(DEPTHS)), error))
        assert found is not None
        held += found.interval[0] <= 4.0 <= found.interval[1]
    assert held >= 34  # 95 % of 40 are 38; fewer than 34 come once in 150 times


@pytest.mark.parametrize(("top", "said"), [(30.0, inf), (0.2, -inf)])
def test_a_top_outside_is_said_to_be_there(top: float, said: float) -> None:
    found = optimum(DEPTHS, values(parabola(top), 1e-4))
    assert found is not None
    assert (found.place, found.interval) == (said, (said, said))
    assert optimum_words(found, DEPTHS).startswith("beyond 8" if said > 0 else "below 2")


def test_a_hollow_curve_has_its_top_at_the_higher_end() -> None:
    found = optimum(DEPTHS, values(parabola(3.0, curve=-0.1), 1e-4))
    assert found is not None
    assert found.place == inf


def test_too_few_places_and_unknown_noise_say_nothing() -> None:
    assert optimum(DEPTHS[:3], values(parabola(3.0)[:3], 1e-4)) is None
    assert optimum(DEPTHS, [Estimate(0.5)] * 5) is None
    assert optimum_words(None, DEPTHS) == "not known"
