"""Average precision, and the threshold of a class: what scores for yes-or-no questions are worth.

n images · draws resamples, each image counting as often as its weight · K classes
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64

FEWEST = 5  # images of a class, on either side, from which on it has a threshold of its own
USUAL = 0.5  # the threshold where nothing tells another


class Ranked(NamedTuple):
    """Images from the highest score to the lowest; those of equal scores can only be taken together."""

    order: np.ndarray  # places of the images
    positive: Bool[np.ndarray, " n"]  # in that order
    last: np.ndarray  # where each run of equal scores ends
    scores: np.ndarray  # of these

    @classmethod
    def of(cls, positive: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"]) -> "Ranked":
        """Ranks images; `positive` are those that have the class."""
        order = np.argsort(-scores, kind="stable")
        ranked = scores[order]
        last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
        return cls(order, positive[order], last, ranked[last])

    def counted(self, weights: Float64[np.ndarray, "draws n"] | None) -> tuple[np.ndarray, np.ndarray]:
        """[draws, cuts]: how many positive images, and how many at all, are taken down to each score."""
        counts = np.ones((1, len(self.order))) if weights is None else weights[:, self.order]
        hits = np.cumsum(counts * self.positive, axis=1)[:, self.last]
        return hits, np.cumsum(counts, axis=1)[:, self.last]


def average_precision(ranked: Ranked, weights: Float64[np.ndarray, "draws n"] | None = None) -> np.ndarray:
    """[draws]: Σ (R_i − R_{i−1}) P_i over the distinct scores, as scikit-learn's; NaN without a positive image."""
    hits, taken = ranked.counted(weights)
    total = hits[:, -1]
    gained = np.diff(hits, axis=1, prepend=0)
    precision = np.divide(hits, taken, out=np.zeros_like(hits), where=taken > 0)
    return np.divide((gained * precision).sum(axis=1), total, out=np.full(len(total), np.nan), where=total > 0)


def best_threshold(ranked: Ranked, weights: Float64[np.ndarray, "draws n"] | None = None) -> np.ndarray:
    """[draws]: the threshold of the highest F1, halfway to the next score below; of equal ones the highest."""
    hits, taken = ranked.counted(weights)
    f1 = 2 * hits / np.maximum(taken + hits[:, -1:], 1e-30)
    below = np.append(ranked.scores[1:], 0.0)
    return ((ranked.scores + below) / 2)[f1.argmax(axis=1)].astype(np.float64)


class MeanPrecision:
    """The mean average precision of several classes on resamples, and that of each, computed once a block of them."""

    def __init__(self, ranked: Sequence[Ranked]):
        self.ranked = ranked
        self._block: np.ndarray | None = None
        self._table = np.zeros((0, 0))

    def __call__(self, weights: Float64[np.ndarray, "draws n"]) -> np.ndarray:
        """[draws]: the mean over the classes that have an image there."""
        return np.nanmean(self._of(weights), axis=1)

    def of(self, k: int) -> Callable[[np.ndarray], np.ndarray]:
        """[draws] of one class; a resample without it says nothing, and counts as the class on all images."""
        whole = average_precision(self.ranked[k])[0]
        return lambda weights: np.nan_to_num(self._of(weights)[:, k], nan=whole if np.isfinite(whole) else 0.0)

    def _of(self, weights: np.ndarray) -> np.ndarray:
        if self._block is not weights:
            self._table = np.stack([average_precision(one, weights) for one in self.ranked], axis=1)
            self._block = weights
        return self._table
