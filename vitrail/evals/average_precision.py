"""Average precision, and the threshold of a class: what scores for yes-or-no questions are worth.

n images · draws resamples, each image counting as often as its weight · K classes
"""

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
