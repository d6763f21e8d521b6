"""Means over several tasks and differences of two models, with intervals that follow from those of each task.

The interval of a mean of T accuracies is that of MOVER (Zou and Donner, Statistics in Medicine 27, 2008):
with a_t the accuracies and l_t, u_t their 95 % limits,

    lower = mean - (1/T) sqrt(sum (a_t - l_t)²)        upper = mean + (1/T) sqrt(sum (u_t - a_t)²)

It is exact for normal errors, keeps the asymmetry of Wilson's limits, and takes the tasks as given: what it says is how
far the mean may be off with other test images (or other seeds) of the same tasks, not with other tasks.
"""

from collections.abc import Sequence
from math import sqrt

import numpy as np
from jaxtyping import Bool

from vitrail.core.estimate import Estimate, over_seeds
from vitrail.evals.comparison import difference_interval


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of independent estimates. Without the interval of one there is none of the mean.

    Raises:
        ValueError: no estimate.
    """
    if not estimates:
        raise ValueError("a mean of no estimates")
    count = len(estimates)
    mean = sum(e.value for e in estimates) / count
    if any(e.interval is None for e in estimates):
        return Estimate(mean)
    below = sqrt(sum((e.value - e.interval[0]) ** 2 for e in estimates if e.interval)) / count
    above = sqrt(sum((e.interval[1] - e.value) ** 2 for e in estimates if e.interval)) / count
    return Estimate(mean, (mean - below, mean + above))


def unpaired(first: Estimate, second: Estimate) -> Estimate:
    """`first` less `second`, judged independently: Newcombe's interval (1998, method 10), which is MOVER of two."""
    value = first.value - second.value
    if first.interval is None or second.interval is None:
        return Estimate(value)
    below = sqrt((first.value - first.interval[0]) ** 2 + (second.interval[1] - second.value) ** 2)
    above = sqrt((first.interval[1] - first.value) ** 2 + (second.value - second.interval[0]) ** 2)
    return Estimate(value, (value - below, value + above))


def over_draws(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """`first` less `second` over the same draws or seeds: Student's interval of the mean difference.

    Raises:
        ValueError: not the same number of draws.
    """
    pairs = [a - b for a, b in zip(first, second, strict=True)]
    return Estimate(float(np.mean(pairs)), over_seeds(pairs))


def over_images(first: Bool[np.ndarray, " n"], second: Bool[np.ndarray, " n"]) -> Estimate:
    """The accuracy of `first` less that of `second` on the same images, each right or wrong (comparison's interval)."""
    alone, other, count = int((first & ~second).sum()), int((second & ~first).sum()), len(first)
    return Estimate((alone - other) / count, difference_interval(alone, other, count))
