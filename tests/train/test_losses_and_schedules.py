"""Losses against NumPy, learning rates against the official formulas."""

from bisect import bisect
from math import cos, exp, log, log1p, pi, sqrt

import numpy as np
import pytest
import torch

from vitrail.core.errors import BadInput
from vitrail.train.loss import LogitAdjusted, Sigmoid, Softmax, class_priors, class_weights, head_bias, loss
from vitrail.train.schedule import Cosine, Linear, Rsqrt, ScheduleConfig, Steps, learning_rate

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(6, 5)) * 3
TARGETS = np.array([0, 4, 2, 2, 1, 3])
SHARES = RNG.dirichlet(np.full(5, 0.5), size=6).astype(np.float32)  # of each class
WEIGHTS = np.array([0.3, 2.0, 0.5, 1.2, 4.0], dtype=np.float32)


def value(
    config: Softmax | Sigmoid,
    targets: np.ndarray = TARGETS,
    weights: np.ndarray | None = None,
    logits: np.ndarray = LOGITS,
) -> float:
    of_classes = None if weights is None else torch.from_numpy(weights)
    return float(loss(torch.from_numpy(logits), torch.from_numpy(targets), config, of_classes))


def shares_of(targets: np.ndarray) -> np.ndarray:
    return targets.astype(np.float64) if targets.ndim == 2 else np.eye(5)[targets]


KINDS = pytest.mark.parametrize("targets", [TARGETS, SHARES], ids=["classes", "shares"])
WEIGHED = pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])


@KINDS
@WEIGHED
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_softmax_against_numpy(smoothing: float, targets: np.ndarray, weights: np.ndarray | None) -> None:
    total = 0.0
    for z, shares in zip(LOGITS, shares_of(targets), strict=True):
        logs = z - np.log(np.exp(z).sum())
        nats = -sum((share * (1 - smoothing) + smoothing / 5) * k for share, k in zip(shares, logs, strict=True))
        total += nats * (1.0 if weights is None else sum(shares * weights))
    assert value(Softmax(smoothing), targets, weights) == pytest.approx(total / 6, rel=1e-6)  # measured 1e-7


@KINDS
@WEIGHED
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_sigmoid_against_numpy_sums_over_classes(
    smoothing: float, targets: np.ndarray, weights: np.ndarray | None
) -> None:
    yes, no = -np.log1p(np.exp(-LOGITS)), -np.log1p(np.exp(LOGITS))
    soft = shares_of(targets) * (1 - smoothing) + smoothing / 5
    nats = -(soft * yes + (1 - soft) * no) * (1.0 if weights is None else weights)
    assert value(Sigmoid(smoothing), targets, weights) == pytest.approx(nats.sum() / 6, rel=1e-6)


def test_a_threshold_makes_every_class_of_a_mixture_true() -> None:
    mixed = np.array([[0.5, 0.5, 0, 0, 0], [0, 0.1, 0.9, 0, 0]], dtype=np.float32)
    yes, no = -np.log1p(np.exp(-LOGITS[:2])), -np.log1p(np.exp(LOGITS[:2]))
    for threshold, true in ((0.0, [(0, 0), (0, 1), (1, 1), (1, 2)]), (0.2, [(0, 0), (0, 1), (1, 2)])):
        picked = np.zeros((2, 5), dtype=bool)
        for place in true:
            picked[place] = True
        expected = -np.where(picked, yes, no).sum() / 2
        assert value(Sigmoid(threshold=threshold), mixed, logits=LOGITS[:2]) == pytest.approx(expected, rel=1e-6)


@KINDS
@WEIGHED
@pytest.mark.parametrize("config", [Softmax(0.1), Sigmoid(0.1)])
def test_the_loss_of_a_batch_is_the_mean_over_its_parts(
    config: Softmax | Sigmoid, targets: np.ndarray, weights: np.ndarray | None
) -> None:
    parts = [value(config, targets[i], weights, LOGITS[i]) * 2 / 6 for i in (slice(0, 2), slice(2, 4), slice(4, 6))]
    assert sum(parts) == pytest.approx(value(config, targets, weights), rel=1e-6)


@pytest.mark.parametrize("config", [Softmax(0.1), Sigmoid(0.1)])
def test_weights_of_one_change_nothing(config: Softmax | Sigmoid) -> None:
    assert value(config, weights=np.ones(5, dtype=np.float32)) == pytest.approx(value(config), rel=1e-6)


COUNTS = np.array([1000, 10, 0, 90])


@pytest.mark.parametrize("kind", ["balanced", "sqrt"])
def test_weights_of_classes_have_the_mean_1_over_the_examples(kind: str) -> None:
    weights = class_weights(COUNTS, kind).numpy()  # type: ignore[arg-type]
    per_example = np.repeat(weights, COUNTS)
    assert per_example.mean() == pytest.approx(1, rel=1e-6)
    assert weights.dtype == np.float32


def test_balanced_classes_weigh_the_same_in_sum_and_sqrt_is_halfway() -> None:
    balanced, root = class_weights(COUNTS, "balanced").numpy(), class_weights(COUNTS, "sqrt").numpy()
    assert (balanced * COUNTS)[[0, 1, 3]] == pytest.approx(1100 / 3, rel=1e-6)
    assert root[1] / root[0] == pytest.approx(10, rel=1e-6)
    assert balanced[1] / balanced[0] == pytest.approx(100, rel=1e-6)
    assert balanced[2] == pytest.approx(balanced[1] * 10, rel=1e-6)  # as a class with one example


def test_no_examples_have_no_weights() -> None:
    with pytest.raises(ValueError, match="no examples"):
        class_weights(np.zeros(3, dtype=np.int64), "balanced")


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


@pytest.mark.parametrize("schedule", [Linear(WARMUP), Cosine(WARMUP), Rsqrt(WARMUP, 50)])
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


@pytest.mark.parametrize("schedule", [Linear(), Cosine(), Rsqrt(), Steps()])
def test_without_a_warmup_the_first_rate_is_the_base(schedule: ScheduleConfig) -> None:
    assert learning_rate(schedule, BASE, 0, STEPS) == BASE


@pytest.mark.parametrize("schedule", [Cosine(10), Linear(10), Rsqrt(10), Steps(10, at=())])
def test_a_warmup_as_long_as_the_run_divides_by_nothing(schedule: ScheduleConfig) -> None:
    assert learning_rate(schedule, 1.0, 9, 10) == pytest.approx(0.9)


@pytest.mark.parametrize("cooldown", [0, 300])
def test_the_inverse_square_root_against_the_official_formula(cooldown: int) -> None:
    """As written for g/14: a shift makes the decay start at the base, whatever the warm-up."""
    timescale, shift = 40, 40 - WARMUP
    for step in range(STEPS + 1):
        rate = BASE / sqrt((step + shift) / timescale) if step > WARMUP else BASE
        rate *= min(1, step / WARMUP)
        if cooldown:
            rate *= min(1, (STEPS - step) / cooldown)
        got = learning_rate(Rsqrt(WARMUP, timescale, cooldown), BASE, step, STEPS)
        assert got == pytest.approx(rate, rel=1e-12, abs=1e-18)


def test_the_inverse_square_root_knows_the_end_only_by_its_cooldown() -> None:
    long, short = ([learning_rate(Rsqrt(10, 20, 50), 1.0, s, n) for s in range(101)] for n in (1000, 100))
    assert short[:51] == long[:51]
    assert short[51] < long[51]
    assert short[100] == 0
    assert learning_rate(Rsqrt(10, 20), 1.0, 30, 100) == pytest.approx(1 / sqrt(2))


@pytest.mark.parametrize("schedule", [[100, 200, 300, 400, 500], [500, 3000, 6000, 9000, 10_000]])
def test_steps_against_the_hyper_rule(schedule: list[int]) -> None:
    """BiT's warm-up, three places where the rate falls to a tenth, and the end; 0.3, 0.6, 0.9 but for the first."""
    warmup, *at, steps = schedule
    config = Steps(warmup, tuple(place / steps for place in at))
    for step in range(steps):
        # one step earlier than BiT's code, where the update after the place is the first with the new rate
        expected = 0.003 * step / warmup if step < warmup else 0.003 / 10 ** bisect(at, step)
        assert learning_rate(config, 0.003, step, steps) == pytest.approx(expected, rel=1e-12)


def test_steps_fall_by_default_where_the_hyper_rule_says() -> None:
    rates = [learning_rate(Steps(500), 1.0, step, 10_000) for step in range(10_000)]
    assert [step for step in range(501, 10_000) if rates[step] != rates[step - 1]] == [3000, 6000, 9000]
    assert rates[-1] == pytest.approx(1e-3)
    assert learning_rate(Steps(at=(0.55,), factor=0.5), 1.0, 55, 100) == 0.5  # 0.55 · 100 is above 55 in floating point


@pytest.mark.parametrize("schedule", [Rsqrt(timescale=0), Rsqrt(cooldown=-1)])
def test_lengths_that_mean_nothing_are_refused(schedule: Rsqrt) -> None:
    with pytest.raises(BadInput, match="timescale"):
        learning_rate(schedule, 1.0, 0, 100)


@pytest.mark.parametrize("at", [(30.0, 60.0), (0.0,), (0.5, 1.0)])
def test_places_outside_of_the_run_are_refused(at: tuple[float, ...]) -> None:
    with pytest.raises(BadInput, match="between 0 and 1"):
        learning_rate(Steps(at=at), 1.0, 0, 100)


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_logit_adjustment_is_equation_10_of_its_paper(tau: float) -> None:
    """-log( exp(f_y + tau log pi_y) / sum exp(f_k + tau log pi_k) ), arXiv 2007.07314; with 1 the balanced softmax."""
    rng = np.random.default_rng(0)
    counts = np.array([900, 90, 10])
    logits, labels = rng.normal(size=(50, 3)), rng.integers(0, 3, 50)
    weighted = np.exp(logits) * (counts / 1000) ** tau  # the balanced softmax of arXiv 2007.10740 has exponent 1
    expected = -np.log(weighted[np.arange(50), labels] / weighted.sum(axis=1)).mean()
    scores, truth = torch.from_numpy(logits).float(), torch.from_numpy(labels)
    found = loss(scores, truth, LogitAdjusted(tau=tau), priors=class_priors(counts))
    assert float(found) == pytest.approx(expected, rel=1e-5)
    soft = torch.nn.functional.one_hot(truth, 3).float()
    assert float(loss(scores, soft, LogitAdjusted(tau=tau), priors=class_priors(counts))) == pytest.approx(float(found))
    plain = loss(scores, truth, Softmax())
    assert float(loss(scores, truth, LogitAdjusted(tau=0.0), priors=class_priors(counts))) == float(plain)


def test_a_logit_adjusted_classifier_is_right_in_the_mean_over_classes() -> None:
    """Two Gaussians, one with 50 times as many images: the best cut for the mean accuracy of both is halfway."""
    rng = np.random.default_rng(0)
    counts = np.array([5000, 100])
    labels = np.repeat([0, 1], counts)
    x = torch.from_numpy(rng.normal(size=5100) + 2.0 * labels).float()
    truth = torch.from_numpy(labels)
    cuts = {}
    for config in (Softmax(), LogitAdjusted()):
        slope, bias = torch.zeros(2, requires_grad=True), torch.zeros(2, requires_grad=True)
        optimizer = torch.optim.LBFGS([slope, bias], max_iter=100)

        def closure(config=config, slope=slope, bias=bias, optimizer=optimizer) -> torch.Tensor:
            optimizer.zero_grad()
            found = loss(x[:, None] * slope + bias, truth, config, priors=class_priors(counts))
            found.backward()
            return found

        optimizer.step(closure)
        cuts[type(config)] = float(((bias[0] - bias[1]) / (slope[1] - slope[0])).detach())
    assert cuts[LogitAdjusted] == pytest.approx(1.0, abs=0.25)
    assert cuts[Softmax] == pytest.approx(1.0 + np.log(50) / 2, abs=0.25), "where the posteriors are equal"


def test_a_class_without_examples_has_a_prior_all_the_same() -> None:
    assert torch.isfinite(class_priors(np.array([10, 0, 5]))).all()
