"""Means over tasks and differences of two models: formulas against other ways to them, intervals by simulation."""

import numpy as np
import pytest
from scipy import stats

from vitrail.core.estimate import Estimate, wilson
from vitrail.evals.paired import mean_of, over_draws, over_images, unpaired


def judged(right: int, count: int) -> Estimate:
    return Estimate(right / count, wilson(right, count))


def test_of_symmetric_intervals_the_mean_has_the_textbook_error() -> None:
    errors = np.array([0.01, 0.02, 0.005])
    estimates = [Estimate(0.5, (0.5 - e, 0.5 + e)) for e in errors]
    value, interval = mean_of(estimates)
    assert interval is not None
    half = np.sqrt((errors**2).sum()) / 3
    assert value == pytest.approx(0.5)
    assert interval == pytest.approx((0.5 - half, 0.5 + half))


def test_the_interval_of_a_mean_holds_the_true_mean_in_95_of_100_cases() -> None:
    """Measured over 2,000 suites of seven tasks: 95.7 %."""
    rng = np.random.default_rng(0)
    shares = np.array([0.05, 0.3, 0.5, 0.72, 0.9, 0.97, 0.995])
    counts = np.array([100, 200, 80, 500, 300, 150, 1000])
    held = 0
    for _ in range(2000):
        right = rng.binomial(counts, shares)
        interval = mean_of([judged(int(r), int(n)) for r, n in zip(right, counts, strict=True)]).interval
        assert interval is not None
        held += interval[0] <= shares.mean() <= interval[1]
    assert 0.93 < held / 2000 < 0.97


def test_one_task_without_an_interval_leaves_the_mean_without_one() -> None:
    assert mean_of([Estimate(0.4, (0.3, 0.5)), Estimate(0.6)]) == (0.5, None)
    assert mean_of([judged(8, 10)]).interval == pytest.approx(wilson(8, 10))
    with pytest.raises(ValueError, match="no estimates"):
        mean_of([])


def test_the_unpaired_difference_is_newcombes() -> None:
    """Newcombe's (1998) own example of method 10: 56/70 less 48/80 is 0.2, with the interval 0.0524 to 0.3339."""
    value, interval = unpaired(judged(56, 70), judged(48, 80))
    assert value == pytest.approx(0.2)
    assert interval == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_paired_draws_are_a_paired_t_interval() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(0.8, 0.02, 5), rng.normal(0.7, 0.02, 5)
    value, interval = over_draws(first.tolist(), second.tolist())
    expected = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert value == pytest.approx((first - second).mean())
    assert interval == pytest.approx((expected.low, expected.high))


def test_pairing_by_images_is_narrower_where_the_models_agree() -> None:
    rng = np.random.default_rng(2)
    first = rng.random(400) < 0.8
    second = first ^ (rng.random(400) < 0.05)
    value, interval = over_images(first, second)
    other = unpaired(judged(int(first.sum()), 400), judged(int(second.sum()), 400)).interval
    assert interval is not None
    assert other is not None
    assert value == pytest.approx(first.mean() - second.mean())
    assert interval[1] - interval[0] < 0.6 * (other[1] - other[0])


def test_the_paired_interval_holds_the_true_difference() -> None:
    """Measured over 2,000 comparisons of 100 to 1,000 images: 95.1 %."""
    rng = np.random.default_rng(3)
    held = 0
    for trial in range(2000):
        count = (100, 300, 1000)[trial % 3]
        alone, other = 0.06, 0.03  # the share that only the one, or only the other, has right
        draw = rng.random(count)
        first = (draw < alone) | (draw > 0.3)
        second = ((draw >= alone) & (draw < alone + other)) | (draw > 0.3)
        interval = over_images(first, second).interval
        assert interval is not None
        held += interval[0] <= alone - other <= interval[1]
    assert 0.93 < held / 2000 < 0.97


def test_equal_models_cannot_be_told_apart() -> None:
    right = np.array([True] * 90 + [False] * 10)
    value, interval = over_images(right, right)
    assert interval is not None
    assert value == 0
    assert interval[0] < 0 < interval[1]
