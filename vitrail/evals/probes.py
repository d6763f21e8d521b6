"""Probes: what can be told from frozen features, judged by a classifier that is fitted on some and tested on others.

N training images · M test images · D features
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Integer

from vitrail.core.errors import BadInput
from vitrail.core.estimate import Interval, wilson
from vitrail.evals.average_precision import MeanPrecision, Ranked
from vitrail.evals.fewshot import RIDGE, few_shot_fits
from vitrail.evals.intervals import bootstrap, draws_for
from vitrail.evals.knn import majority_votes, nearest, weighted_votes
from vitrail.evals.logistic import STRENGTHS, Labels, logistic_regression
from vitrail.records.linear import ChosenStrength


@dataclass(frozen=True)
class Ridge:
    """The closed form of section 4.1, onto -1 and 1."""

    strength: float = RIDGE


@dataclass(frozen=True)
class Neighbours:
    """The nearest training images by cosine, each with a vote of exp(cosine / temperature)."""

    count: int = 20
    temperature: float = 0.07


@dataclass(frozen=True)
class Majority:
    """The nearest training images by cosine, each with one vote."""

    count: int = 20


@dataclass(frozen=True)
class Logistic:
    """Logistic regression; its strength by a fifth of the training images, never by the test images."""

    strengths: tuple[float, ...] = STRENGTHS
    seed: int = 0


Judge = Ridge | Neighbours | Majority | Logistic


class ProbeResult(NamedTuple):
    """The correct test images, their number, the number of training images, and the chosen hyper-parameters."""

    correct: int
    tested: int
    learned: int
    chosen: ChosenStrength | None
    precision: float | None = None  # of several classes an image: the mean average precision, in place of the accuracy
    precision_interval: Interval | None = None

    @property
    def accuracy(self) -> float:
        """The share; of several classes an image the mean average precision."""
        return self.correct / self.tested if self.precision is None else self.precision

    @property
    def interval(self) -> Interval:
        """95 %: Wilson's, or of a mean average precision by the bootstrap."""
        return self.precision_interval or wilson(self.correct, self.tested)


def check_probe(judge: Judge) -> None:
    """Raises BadInput for numbers that mean nothing."""
    match judge:
        case Ridge(strength) if not 0 < strength < np.inf:
            raise BadInput(f"the ridge is {strength:g}, expected a number above 0, such as {RIDGE:g}")
        case Neighbours(count) | Majority(count) if count < 1:
            raise BadInput(f"{count} neighbours asked for, expected at least 1")
        case Neighbours(_, temperature) if not 0 < temperature < np.inf:
            raise BadInput(f"the temperature of the votes is {temperature:g}, expected a number above 0, such as 0.07")


def probe(
    judge: Judge,
    train: Float[np.ndarray, "n d"],
    labels: Labels,
    test: Float[np.ndarray, "m d"],
    test_labels: Int[np.ndarray, " m"] | Integer[np.ndarray, "m k"],
    classes: int,
) -> ProbeResult:
    """Fits the judge on `train` and asks it for the classes of `test`; both may lie in a file."""
    chosen = None
    if labels.ndim == 2 and not isinstance(judge, Logistic):
        raise BadInput("of several classes an image logistic regression is the judge: --judge logistic --shots all")
    match judge:
        case Ridge(strength):
            (fit,) = few_shot_fits(train, labels, classes, (strength,))
            scores = fit.scores(test)
        case Neighbours(count, temperature):
            scores = weighted_votes(nearest(train, test, count), labels, classes, temperature)
        case Majority(count):
            scores = majority_votes(nearest(train, test, count), labels, classes)
        case Logistic(strengths, seed):
            result = logistic_regression(train, labels, classes, strengths=strengths, seed=seed)
            chosen = ChosenStrength(strength=result.strength, by_held_out=result.chosen)
            scores = result.fit.scores(test)
    if labels.ndim == 2:
        table = MeanPrecision([Ranked.of(test_labels[:, k] == 1, scores[:, k]) for k in range(classes)])
        mean = float(table(np.ones((1, len(scores))))[0])
        ends = bootstrap({"mean": table}, len(scores), draws=draws_for(len(scores) * classes))["mean"]
        right = int(test_labels[np.arange(len(scores)), scores.argmax(axis=1)].sum())
        return ProbeResult(right, len(scores), len(labels), chosen, mean, ends)
    return ProbeResult(int((scores.argmax(axis=1) == test_labels).sum()), len(test_labels), len(labels), chosen)
