"""A broken step is caught, and nothing that is usual is."""

import numpy as np
import pytest

from vitrail.core.errors import BadInput
from vitrail.train.divergence import CHECKED_FROM, SKIPS, LossSpike, SpikeDetector, limit_skips


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number(loss: float) -> None:
    with pytest.raises(LossSpike, match=r"step 7: the loss is (nan|inf)"):
        SpikeDetector().check(7, loss, 1.0, ["a.jpg"])


def test_a_gradient_that_is_no_number() -> None:
    with pytest.raises(LossSpike, match="the norm of the gradient is inf"):
        SpikeDetector().check(7, 1.0, float("inf"), ["a.jpg"])


def test_a_jump_is_caught_only_once_there_is_something_usual() -> None:
    health = SpikeDetector()
    for step in range(CHECKED_FROM - 1):
        health.check(step, 2.0, 1.0, [])
    health.check(CHECKED_FROM - 1, 50.0, 1.0, [])  # not yet
    with pytest.raises(LossSpike, match=r"the loss jumped to 9\.1 from about 2"):
        health.check(CHECKED_FROM, 9.1, 1.0, ["b.jpg"])
    health.check(CHECKED_FROM, 8.9, 1.0, [])


def test_noise_and_an_ordinary_run_raise_nothing() -> None:
    random = np.random.default_rng(0)
    health = SpikeDetector()
    for step in range(5000):
        usual = 11 * 0.999**step + 0.02
        health.check(step, usual * float(random.lognormal(0, 0.3)), 1.0, [])


def test_batches_that_are_mixed_are_no_jump_among_others() -> None:
    """Half of them by CutMix, at the end of a fine-tuning: 0.1 to 0.3 nats without, 1.5 to 2.3 with."""
    random = np.random.default_rng(0)
    health = SpikeDetector()
    for step in range(2000):
        mixed = random.random() < 0.5
        health.check(step, float(random.uniform(1.5, 2.3) if mixed else random.uniform(0.1, 0.3)), 1.0, [])
    with pytest.raises(LossSpike, match="jumped to 12"):
        health.check(2000, 12.0, 1.0, [])


def test_only_so_many_batches_are_left_out() -> None:
    bad = LossSpike(90, "the loss is nan", [])
    limit_skips([1] * (SKIPS - 1), bad, "failures")
    with pytest.raises(BadInput, match=r"at step 90 the loss is nan, after the batches of steps 3, 50 .* failures"):
        limit_skips([3, 50], bad, "failures")
