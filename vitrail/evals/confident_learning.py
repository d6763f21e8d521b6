"""Confident learning (Northcutt et al. 2021, arXiv 1911.00068): which labels are probably wrong.

N images · D features · K classes
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64
from scipy.special import softmax

from vitrail.core.seeds import generator
from vitrail.evals.fewshot import Linear
from vitrail.evals.logistic import fit_logistic, logistic_regression

FOLDS = 5
SLACK = 1e-6  # numbers that differ by less are equal, as in the authors' library


class Doubted(NamedTuple):
    """Images whose label is probably wrong, the most doubtful first: their places, and the class they rather are."""

    places: Int64[np.ndarray, " m"]
    rather: Int64[np.ndarray, " m"]


def label_errors(labels: Int64[np.ndarray, " n"], shares: Float[np.ndarray, "n k"]) -> Doubted:
    """The off-diagonal of the confident joint: images that are as likely of another class as its own images are.

    A class counts for an image where its probability is at least the mean of that class over the images that are
    labelled so; of several such classes the likeliest one of all. The most doubtful have the lowest probability of
    their label. The authors' cleanlab says the same by `filter_by="confident_learning"` and `self_confidence`.

    Args:
        shares: probabilities of classifiers that did not learn from the image (`out_of_fold`).
    """
    classes = shares.shape[1]
    counts = np.bincount(labels, minlength=classes)
    own = shares[np.arange(len(labels)), labels]
    sums = np.bincount(labels, weights=own.astype(np.float64), minlength=classes)
    enough = np.maximum(np.where(counts > 0, sums / np.maximum(counts, 1), np.inf), 2 * SLACK)
    confident: Bool[np.ndarray, "n k"] = shares >= enough - SLACK
    number, likeliest = confident.sum(axis=1), shares.argmax(axis=1)
    rather = np.where(number > 1, likeliest, confident.argmax(axis=1))
    surest = shares.max(axis=1)
    doubted = np.flatnonzero((number > 0) & (rather != labels) & (own + SLACK < surest))
    places = doubted[np.argsort(own[doubted], kind="stable")]
    return Doubted(places, rather[places])


def out_of_fold(
    values: Float[np.ndarray, "n d"], labels: Int64[np.ndarray, " n"], classes: int, seed: int = 0
) -> Float64[np.ndarray, "n k"]:
    """The probabilities of each image by logistic regression on the frozen features of the other four fifths.

    Every class must have two images. The strength is chosen within the first part, and serves for all.
    """
    rng, fold, start = generator(seed, "folds"), np.zeros(len(labels), np.int64), 0
    for label in range(classes):
        members = rng.permutation(np.flatnonzero(labels == label))
        fold[members] = (start + np.arange(len(members))) % FOLDS
        start += len(members)
    shares = np.zeros((len(labels), classes))
    before: Linear | None = None
    strength = 0.0
    for i in range(FOLDS):
        held = fold == i
        if not held.any():
            continue
        if before is None:
            first = logistic_regression(values[~held], labels[~held], classes)
            before, strength = first.fit, first.strength
        else:
            before = fit_logistic(values[~held], labels[~held], classes, strength, before)
        shares[held] = softmax(before.scores(values[held]), axis=1)
    return shares
