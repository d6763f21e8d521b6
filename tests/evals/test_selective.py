"""Accuracy against the share answered, against a slow loop; thresholds that keep what they promise."""

import numpy as np
import pytest

from vitrail.evals.selective import answered, selective, threshold


def some(count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Confidences with ties, right as often as they say."""
    rng = np.random.default_rng(0)
    confidence = np.round(rng.uniform(0.3, 1, count), 2).astype(np.float32)
    return confidence, rng.random(count) < confidence


def test_the_curve_is_that_of_a_slow_loop() -> None:
    confidence, right = some(80)
    rows, area, before = selective(confidence, right), 0.0, 0.0
    expected = {}
    for least in sorted(set(confidence.tolist()), reverse=True):
        given = confidence >= np.float32(least)
        share, accuracy = given.mean(), right[given].mean()
        area += (share - before) * accuracy
        expected[round(share, 9)], before = accuracy, share
    assert rows.area == pytest.approx(area, rel=1e-12)
    for row in rows.curve:
        assert row.accuracy == pytest.approx(expected[round(row.share, 9)])
        assert row.interval[0] <= row.accuracy <= row.interval[1] + 1e-12  # of all right it rounds below 1
    assert rows.curve[-1].share == 1
    assert rows.curve[-1].accuracy == right.mean()
    assert right.mean() < rows.area < rows.ideal


def test_a_model_that_knows_reaches_the_ideal_and_one_without_a_clue_gains_nothing() -> None:
    right = np.arange(200) % 4 > 0
    knows = selective(np.where(right, 0.9, 0.3) + np.linspace(0, 0.01, 200), right)
    assert knows.area == pytest.approx(knows.ideal)
    clueless = selective(np.full(200, 0.5), right)
    assert clueless.area == pytest.approx(right.mean())
    assert len(clueless.curve) == 1


@pytest.mark.parametrize("target", [0.99, 0.95, 0.9, 0.5])
def test_a_threshold_answers_as_many_as_it_can(target: float) -> None:
    confidence, right = some()
    least = threshold(confidence, right, target)
    assert least is not None
    chosen = answered(confidence, right, target, least)
    assert chosen.accuracy >= target
    for other in set(confidence.tolist()):
        if other < least:
            assert right[confidence >= np.float32(other)].mean() < target
    assert chosen.share == pytest.approx((confidence >= np.float32(least)).mean())


def test_what_cannot_be_promised_is_none() -> None:
    wrong = np.zeros(10, bool)
    assert threshold(np.linspace(0.5, 1, 10), wrong, 0.9) is None
    nothing = answered(np.linspace(0.5, 1, 10), wrong, 0.9, None)
    assert (nothing.share, nothing.accuracy, nothing.confidence) == (0.0, None, None)
