"""Losses against NumPy, learning rates against the official formula."""

from math import cos, exp, log, log1p, pi

import numpy as np
import pytest
import torch

from vitrail.train.loss import Sigmoid, Softmax, head_bias, loss
from vitrail.train.schedule import Cosine, Linear, ScheduleConfig, learning_rate

LOGITS = np.random.default_rng(0).normal(size=(6, 5)) * 3
TARGETS = np.array([0, 4, 2, 2, 1, 3])


def value(config: Softmax | Sigmoid, logits: np.ndarray = LOGITS, targets: np.ndarray = TARGETS) -> float:
    return float(loss(torch.from_numpy(logits), torch.from_numpy(targets), config))


def smoothed(smoothing: float) -> np.ndarray:
    return np.eye(5)[TARGETS] * (1 - smoothing) + smoothing / 5


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_softmax_against_numpy(smoothing: float) -> None:
    logs = LOGITS - np.log(np.exp(LOGITS).sum(axis=1, keepdims=True))
    expected = -(smoothed(smoothing) * logs).sum(axis=1).mean()
    assert value(Softmax(smoothing)) == pytest.approx(expected, rel=1e-6)  # float32; measured 1e-7


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_sigmoid_against_numpy_sums_over_classes(smoothing: float) -> None:
    yes, no = -np.log1p(np.exp(-LOGITS)), -np.log1p(np.exp(LOGITS))
    soft = smoothed(smoothing)
    expected = -(soft * yes + (1 - soft) * no).sum(axis=1).mean()
    assert value(Sigmoid(smoothing)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("config", [Softmax(), Sigmoid()])
def test_soft_targets_agree_with_class_numbers(config: Softmax | Sigmoid) -> None:
    hard = value(config)
    soft = loss(torch.from_numpy(LOGITS), torch.eye(5)[torch.from_numpy(TARGETS)], config)
    assert float(soft) == pytest.approx(hard, rel=1e-6)


def test_the_official_start_of_sigmoid_pretraining() -> None:
    """K = 21,843 and a bias of -10: 10 for the right class and 0.99 for all others."""
    logits = torch.full((2, 21_843), -10.0)
    got = float(loss(logits, torch.tensor([0, 21_842]), Sigmoid()))
    assert got == pytest.approx(10.99, abs=0.005)
    assert got == pytest.approx(log1p(exp(10)) + 21_842 * log1p(exp(-10)), rel=1e-5)  # measured 3.1e-7


def test_losses_are_float32_whatever_the_precision() -> None:
    assert loss(torch.zeros(2, 5, dtype=torch.bfloat16), torch.tensor([0, 1]), Softmax()).dtype == torch.float32


def test_the_head_bias_is_the_official_one() -> None:
    assert head_bias(Softmax(), 1000) == 0
    assert head_bias(Sigmoid(), 21_843) == head_bias(Sigmoid(), 18_291) == -10
    assert head_bias(Sigmoid(), 1000) == pytest.approx(-6.9, abs=0.01) == -log(1000)


BASE, STEPS, WARMUP = 8e-4, 1000, 100


@pytest.mark.parametrize("schedule", [Linear(WARMUP), Cosine(WARMUP)])
def test_the_rate_starts_at_zero_and_reaches_the_base_at_the_end_of_the_warmup(schedule: ScheduleConfig) -> None:
    rates = [learning_rate(schedule, BASE, step, STEPS) for step in range(STEPS + 1)]
    assert rates[0] == 0
    assert rates[WARMUP] == pytest.approx(BASE, rel=1e-12)
    assert rates[WARMUP // 2] == pytest.approx(BASE / 2, rel=1e-12)
    assert max(rates) == rates[WARMUP]
    assert all(a > b for a, b in zip(rates[WARMUP:], rates[WARMUP + 1 :], strict=False))


def test_linear_ends_at_a_hundred_thousandth() -> None:
    schedule = Linear(WARMUP)
    assert learning_rate(schedule, BASE, STEPS, STEPS) == pytest.approx(1e-5, rel=1e-12)
    middle = learning_rate(schedule, BASE, (STEPS + WARMUP) // 2, STEPS)
    assert middle == pytest.approx((BASE + 1e-5) / 2, rel=1e-12)


def test_cosine_ends_at_zero() -> None:
    schedule = Cosine(WARMUP)
    assert learning_rate(schedule, BASE, STEPS, STEPS) == pytest.approx(0, abs=1e-18)
    for step in (150, 325, 999):
        expected = BASE * 0.5 * (1 + cos(pi * (step - WARMUP) / (STEPS - WARMUP)))
        assert learning_rate(schedule, BASE, step, STEPS) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("schedule", [Linear(), Cosine()])
def test_without_a_warmup_the_first_rate_is_the_base(schedule: ScheduleConfig) -> None:
    assert learning_rate(schedule, BASE, 0, STEPS) == BASE


def test_a_warmup_as_long_as_the_run_divides_by_nothing() -> None:
    assert learning_rate(Cosine(10), 1.0, 9, 10) == pytest.approx(0.9)
