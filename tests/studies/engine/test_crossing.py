"""Where curves cross: a known place, no crossing, and how often the interval holds the truth."""

from math import inf

import numpy as np
import pytest

from vitrail.core.estimate import Estimate
from vitrail.studies.engine.crossing import crossing, overtaking

PLACES = (500.0, 2000.0, 8000.0, 32000.0, 128000.0, 500000.0)


def differences(values: np.ndarray, error: float) -> list[Estimate]:
    return [Estimate(float(v), (float(v) - 1.96 * error, float(v) + 1.96 * error)) for v in values]


def line(at: float) -> np.ndarray:
    """Rises by 0.02 a doubling through zero at a place."""
    return np.asarray(0.02 * np.log2(np.asarray(PLACES) / at))


def test_a_line_crosses_where_it_does() -> None:
    found = crossing(PLACES, differences(line(20_000), 1e-6))
    assert found is not None
    assert found.place == pytest.approx(20_000)
    assert found.interval == pytest.approx((20_000, 20_000), rel=1e-3)
    assert overtaking("ViTs", found, PLACES, "images").startswith(
        "ViTs overtake at 20,000 images (95 % interval 20,000 to 20,000)"
    )


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng, error, held = np.random.default_rng(0), 0.01, 0
    for _ in range(40):
        found = crossing(PLACES, differences(line(20_000) + rng.normal(0, error, len(PLACES)), error))
        assert found is not None
        held += found.interval[0] <= 20_000 <= found.interval[1]
    assert held >= 34  # 95 % of 40 are 38; fewer than 34 come once in 150 times


def test_curves_that_do_not_cross_are_said_not_to() -> None:
    below = crossing(PLACES, differences(np.full(6, -0.1), 0.01))
    above = crossing(PLACES, differences(np.full(6, 0.1), 0.01))
    assert below is not None
    assert above is not None
    assert (below.place, below.share_beyond, above.place) == (inf, 1.0, -inf)
    assert overtaking("ViTs", below, PLACES, "images") == "ViTs do not overtake between 500 and 500,000 images"
    assert overtaking("ViTs", above, PLACES, "images") == "ViTs are not behind from 500 images on"


def test_what_may_be_chance_has_an_open_end() -> None:
    found = crossing(PLACES, differences(line(400_000), 0.02))
    assert found is not None
    assert found.interval[1] == inf
    assert overtaking("ViTs", found, PLACES, "images").endswith("to beyond 500,000)")
    assert 0.02 < found.share_beyond < 0.6


def test_without_intervals_nothing_is_said_of_the_place() -> None:
    assert crossing(PLACES[:2], [Estimate(-0.1), Estimate(0.1)]) is None
    assert "noise is not known" in overtaking("ViTs", None, PLACES, "images")
