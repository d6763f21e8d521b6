"""95 % intervals by the bootstrap."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from jaxtyping import Float64

from vitrail.core.estimate import Interval

DRAWS, FEWEST = 1000, 200  # resamples; fewer where there are very many images, but not fewer than that
WORK = 200_000_000  # draws times images up to which there are DRAWS: a second or two
HELD = 2_000_000  # weights that are held at a time

Weights = Float64[np.ndarray, "draws n"]
Figure = Callable[[Weights], Float64[np.ndarray, "draws"]]  # of images that count so often: one number a resample


def bootstrap(
    figures: Mapping[str, Figure], count: int, *, draws: int | None = None, seed: int = 0
) -> dict[str, Interval]:
    """The percentile interval of each figure over resamples of `count` images (Efron 1979).

    All figures are of the same resamples, so that a difference of two of them is paired. The same seed gives the same
    intervals. A figure says what it is of images that count as often as its weights, which are whole numbers.
    """
    draws = draws or draws_for(count)
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in figures}
    for weights in _resamples(count, draws, seed):
        for name, figure in figures.items():
            drawn[name].append(figure(weights))
    intervals = {}
    for name, parts in drawn.items():
        low, high = np.quantile(np.concatenate(parts), [0.025, 0.975])
        intervals[name] = float(low), float(high)
    return intervals


def draws_for(count: int) -> int:
    """The number of resamples for `count` images."""
    return int(np.clip(WORK // max(1, count), FEWEST, DRAWS))


def _resamples(count: int, draws: int, seed: int) -> Iterator[Weights]:
    """Yields how often each image is drawn, for a block of resamples at a time."""
    rng = np.random.default_rng(seed)
    most = max(1, HELD // count)
    for start in range(0, draws, most):
        rows = min(most, draws - start)
        drawn = rng.integers(count, size=(rows, count)) + np.arange(rows)[:, None] * count
        yield np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)


def mean_of(values: np.ndarray) -> Figure:
    """The mean of [n] values."""
    held = values.astype(np.float64)
    return lambda weights: weights @ held / weights.sum(axis=1)


def balanced(labels: np.ndarray, right: np.ndarray) -> Figure:
    """The mean over classes of the share of each that is right; a class that a resample lacks is left out of its mean.

    Args:
        labels: int64 [n], the true classes.
        right: bool [n].
    """
    from scipy.sparse import csr_array  # 0.1 s that a page or a prediction need not wait for

    _, place = np.unique(labels, return_inverse=True)
    every, shape = np.arange(len(labels)), (len(labels), int(place.max()) + 1)
    members = csr_array((np.ones(len(labels)), (every, place)), shape=shape)
    rights = csr_array((right.astype(np.float64), (every, place)), shape=shape)

    def figure(weights: Weights) -> Float64[np.ndarray, "draws"]:
        counts, correct = weights @ members, weights @ rights
        shares = np.divide(correct, counts, out=np.zeros_like(correct), where=counts > 0)
        return shares.sum(axis=1) / (counts > 0).sum(axis=1)

    return figure
