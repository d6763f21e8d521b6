"""Logistic regression on frozen features: softmax, L2, L-BFGS in float64; its strength by images split off train.

    sum over images of -log softmax(x W + b)[label]  +  strength / 2 · |W|²

over standardised features; the bias is free. scikit-learn's `LogisticRegression(C=1 / strength)` minimises the same, in
0.6 of the time for 20,000 images and 0.4 for 100,000, as it stays in float32, with the same answers. But it copies all
features: 132 and 659 MiB, so about 8 GiB for ImageNet, where this takes 226 and 335 MiB, block by block of a file
(benchmarks/linear_probes.py). So this stays, for features that memory does not hold.

N images · D features · K classes
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int, Integer
from scipy.optimize import minimize
from scipy.special import expit, log_softmax

from vitrail.core.errors import BadInput
from vitrail.core.seeds import generator
from vitrail.evals.average_precision import Ranked, average_precision
from vitrail.evals.fewshot import Linear

Labels = Int[np.ndarray, " n"] | Integer[np.ndarray, "n k"]  # classes, or a one for each that an image has
STRENGTHS = tuple(10.0**power for power in range(4, -5, -1))  # scikit-learn's range of C, strong ones first
USUAL = 1.0  # where there are too few images to choose by
HELD_OUT = 0.2  # of each class, for the choice
STEPS = 1000  # of L-BFGS, at most
ROWS = 16_384  # images whose probabilities are held at a time


class Chosen(NamedTuple):
    """A classifier, the strength it was fitted with, and whether that was chosen (False: too few images)."""

    fit: Linear
    strength: float
    chosen: bool


def logistic_regression(
    train: Float[np.ndarray, "n d"],
    labels: Labels,
    classes: int,
    *,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
) -> Chosen:
    """The strength of the best accuracy on a fifth of each class, then a fit on all of `train`.

    Where a class has a single image, nothing can be split off, and the strength is `USUAL`. Of equally accurate
    strengths the one of the lower loss is taken. Of several classes an image it is a yes-or-no question for each class,
    and the strength is that of the best mean average precision.

    Raises:
        BadInput: a class without an image, or a strength that is not above 0.
    """
    if not strengths or min(strengths) <= 0:
        raise BadInput(f"the strengths of logistic regression are {tuple(strengths)}, expected numbers above 0")
    several = labels.ndim == 2
    members = labels.sum(axis=0) if several else np.bincount(labels, minlength=classes)
    if members.min() < 1:
        raise BadInput(f"class number {int(members.argmin())} has no training image")
    path = sorted(strengths, reverse=True)  # each starts from the stronger one before it
    if len(path) == 1 or members.min() < 2:
        strength = path[0] if len(path) == 1 else USUAL
        return Chosen(fit_logistic(train, labels, classes, strength), strength, False)
    held = held_out(labels, classes, seed)
    fitted, judged = train[~held], train[held]
    scores, start = [], None
    for strength in path:
        start = fit_logistic(fitted, labels[~held], classes, strength, start)
        if several:
            found = start.scores(judged)
            scores.append((_mean_average_precision(labels[held], found), -_loss(found, labels[held])[0], strength))
            continue
        shares = log_softmax(start.scores(judged), axis=1)
        right = (shares.argmax(axis=1) == labels[held]).mean()
        scores.append((right, shares[np.arange(len(shares)), labels[held]].mean(), strength))
    best = max(scores)[2]
    return Chosen(fit_logistic(train, labels, classes, best, start), best, True)


def held_out(labels: Labels, classes: int, seed: int) -> np.ndarray:
    """Draws the images that are split off: a fifth of each class, at least one. Returns bool [N].

    Of several classes an image it is a fifth of the images.
    """
    rng, held = generator(seed, "held out"), np.zeros(len(labels), bool)
    if labels.ndim == 2:
        held[rng.permutation(len(labels))[: max(1, round(HELD_OUT * len(labels)))]] = True
        return held
    for label in range(classes):
        places = rng.permutation(np.flatnonzero(labels == label))
        held[places[: max(1, round(HELD_OUT * len(places)))]] = True
    return held


def fit_logistic(
    train: Float[np.ndarray, "n d"],
    labels: Labels,
    classes: int,
    strength: float,
    start: Linear | None = None,
    *,
    tolerance: float = 1e-5,
) -> Linear:
    """The minimum for one strength; the gradient of the mean loss ends below `tolerance`, or there were STEPS.

    `start`: another fit to start from, such as that of a neighbouring strength.
    """
    labels = np.asarray(labels, np.int64)
    mean, deviation = _scale(train)
    count, width = len(train), train.shape[1]
    parameters = np.zeros((width + 1, classes))
    if start is not None:
        parameters[:width] = start.weights * deviation[:, None]
        parameters[width] = start.bias + mean @ start.weights

    def objective(flat: Float64[np.ndarray, " p"]) -> tuple[float, Float64[np.ndarray, " p"]]:
        weights, bias = flat.reshape(width + 1, classes)[:width], flat.reshape(width + 1, classes)[width]
        gradient = np.empty((width + 1, classes))
        gradient[:width], gradient[width] = strength * weights, 0
        value = strength / 2 * float((weights * weights).sum())
        for i in range(0, count, ROWS):
            x = (train[i : i + ROWS].astype(np.float64) - mean) / deviation
            loss, slope = _loss(x @ weights + bias, labels[i : i + ROWS])
            value += loss
            gradient[:width] += x.T @ slope
            gradient[width] += slope.sum(axis=0)
        return value / count, gradient.ravel() / count

    options = {"maxiter": STEPS, "maxfun": 2 * STEPS, "gtol": tolerance, "ftol": 1e-14, "maxcor": 20}
    best = minimize(objective, parameters.ravel(), jac=True, method="L-BFGS-B", options=options).x
    weights = best.reshape(width + 1, classes)[:width] / deviation[:, None]
    return Linear(weights, best.reshape(width + 1, classes)[width] - mean @ weights)


def _mean_average_precision(labels: Integer[np.ndarray, "n k"], scores: Float64[np.ndarray, "n k"]) -> float:
    """Over the classes that have an image; 0 where none has."""
    found = [average_precision(Ranked.of(labels[:, k] == 1, scores[:, k]))[0] for k in range(labels.shape[1])]
    known = [value for value in found if np.isfinite(value)]
    return float(np.mean(known)) if known else 0.0


def _loss(scores: Float64[np.ndarray, "n k"], labels: np.ndarray) -> tuple[float, Float64[np.ndarray, "n k"]]:
    """The sum of the losses, and its derivative by the scores; of sets of classes [N, K] the sigmoid loss."""
    if labels.ndim == 2:
        return float((np.logaddexp(0, scores) - labels * scores).sum()), expit(scores) - labels
    shares, rows = log_softmax(scores, axis=1), np.arange(len(labels))
    loss = -float(shares[rows, labels].sum())
    slope = np.exp(shares)
    slope[rows, labels] -= 1
    return loss, slope


def _scale(train: Float[np.ndarray, "n d"]) -> tuple[Float64[np.ndarray, " d"], Float64[np.ndarray, " d"]]:
    """Mean and deviation of each feature; a dead one keeps its scale."""
    blocks = range(0, len(train), ROWS)
    mean = sum(train[i : i + ROWS].astype(np.float64).sum(axis=0) for i in blocks) / len(train)
    square = sum(((train[i : i + ROWS].astype(np.float64) - mean) ** 2).sum(axis=0) for i in blocks) / len(train)
    deviation = np.sqrt(square)
    return mean, np.where(deviation > 1e-8, deviation, 1.0)
