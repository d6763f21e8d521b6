"""Intervals against SciPy, calibration against a slow loop."""

import numpy as np
import pytest
from scipy import stats

from vitrail.core.estimate import over_seeds, p_above, wilson
from vitrail.evals.calibration import calibration


@pytest.mark.parametrize(("correct", "count"), [(0, 10), (10, 10), (1, 1), (7, 13), (950, 1000), (1, 10_000), (5, 10)])
def test_wilson_is_that_of_scipy(correct: int, count: int) -> None:
    expected = stats.binomtest(correct, count).proportion_ci(method="wilson")
    assert wilson(correct, count) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_nothing_is_everything() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("count", [20, 100, 447])
def test_wilson_covers_the_truth_nineteen_times_in_twenty(count: int) -> None:
    """Averaged over true accuracies; exact, by the binomial probabilities of every outcome."""
    truths = np.linspace(0.02, 0.98, 97)
    low, high = np.array([wilson(k, count) for k in range(count + 1)]).T
    covered = [
        stats.binom.pmf(np.arange(count + 1), count, p)[(low <= p) & (p <= high)].sum()  # type: ignore[index]
        for p in truths
    ]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.01)  # measured 0.9498 to 0.9532
    assert min(covered) > 0.8
    rng = np.random.default_rng(0)
    draws = rng.binomial(count, 0.9, 4000)
    assert np.mean((low[draws] <= 0.9) & (high[draws] >= 0.9)) == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize("count", [2, 3, 5, 10, 17, 18, 30, 100])
def test_the_interval_over_seeds_is_students(count: int) -> None:
    values = np.random.default_rng(count).normal(0.7, 0.05, count).tolist()
    expected = stats.t.interval(0.95, count - 1, np.mean(values), stats.sem(values))
    got = over_seeds(values)
    assert got is not None
    assert (got[0] + got[1]) / 2 == pytest.approx(np.mean(values), rel=1e-12)
    # the table has four digits (measured 2e-4); beyond 17 values an approximation (measured 4e-3)
    assert got[1] - got[0] == pytest.approx(expected[1] - expected[0], rel=5e-4 if count <= 17 else 5e-3)


def test_one_seed_has_no_interval() -> None:
    assert over_seeds([0.5]) is None


@pytest.mark.parametrize("count", [2, 5, 30])
@pytest.mark.parametrize("bar", [0.65, 0.7, 0.75])
def test_the_mean_above_a_bar_is_tested_one_sided(count: int, bar: float) -> None:
    values = np.random.default_rng(count).normal(0.7, 0.05, count).tolist()
    expected = stats.ttest_1samp(values, bar, alternative="greater").pvalue
    assert p_above(values, bar) == pytest.approx(expected, rel=1e-9)


def test_without_noise_nothing_is_tested() -> None:
    assert p_above([0.9], 0.5) is None
    assert p_above([0.9, 0.9, 0.9], 0.5) is None


def test_calibration_equals_a_slow_loop() -> None:
    rng = np.random.default_rng(0)
    confidence = np.concatenate([rng.random(500), np.linspace(0, 1, 16)])  # the edges themselves too
    correct = rng.random(516) < confidence**2
    ece, rows = 0.0, calibration(confidence, correct).bins
    for i in range(15):
        low, high = i / 15, (i + 1) / 15
        members = [j for j, c in enumerate(confidence) if (low < c <= high + 1e-15) or (i == 0 and c == 0)]
        sure, right = np.mean(confidence[members]), np.mean(correct[members])
        ece += len(members) / 516 * abs(sure - right)
        assert rows[i].count == len(members)
        assert rows[i].confidence == pytest.approx(sure)
        assert rows[i].accuracy == pytest.approx(right)
    assert calibration(confidence, correct).ece == pytest.approx(ece, rel=1e-12)
    assert ece > 0.05


def test_perfect_and_hopeless_calibration() -> None:
    assert calibration(np.ones(10), np.ones(10, dtype=bool)).ece == 0
    assert calibration(np.ones(10), np.zeros(10, dtype=bool)).ece == 1
    empty = calibration(np.ones(10), np.ones(10, dtype=bool)).bins[0]
    assert (empty.count, empty.confidence, empty.accuracy) == (0, None, None)
