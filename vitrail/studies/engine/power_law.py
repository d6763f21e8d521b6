"""Power laws through a few points, y = a · x^b: their intervals, and the x of one law against that of another.

Fitted in the logarithm of y, where the errors of a law are even, robustly (Huber): a run that went wrong does not bend
the law. Intervals are by the bootstrap of residuals, each widened for its leverage, and widened again as Student's t is
against the normal: with five or six points that is what brings 95 % to 95 % (tests/studies/engine/test_power_law.py).
A law may have a floor, y = floor + a · x^b: floor.py says when and how.

n points · r redraws
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64
from scipy.stats import norm
from scipy.stats import t as student

from vitrail.core.errors import BadInput
from vitrail.core.estimate import Estimate

HUBER = 1.345  # of the deviation: beyond it a residual counts less; 95 % as good as least squares without outliers
ROUNDS = 12  # of reweighting
Numbers = Sequence[float] | Float64[np.ndarray, " n"]


@dataclass(frozen=True)
class PowerLaw:
    """y = floor + scale · x^exponent, fitted to points from x = `span[0]` to `span[1]`."""

    scale: float
    exponent: Estimate
    span: tuple[float, float]
    reach: tuple[float, float]  # the law's own values at the ends of the span
    deviation: float  # of the residuals, in the logarithm of y
    freedom: int  # points less numbers fitted
    redraws: Float64[np.ndarray, "r 3"] = field(repr=False)  # log scale, exponent, floor
    floor: Estimate | None = None  # None: 0

    def at(self, x: float) -> Estimate:
        """The law's value with its interval."""
        value = float(_at(self._numbers, x)[0])
        low, high = interval_of(np.log(value), np.log(_at(self.redraws, x)), self.freedom)
        return Estimate(value, (float(np.exp(low)), float(np.exp(high))))

    def where(self, y: float) -> float:
        """The x at which the law reaches y; infinite for one at or below its floor."""
        return float(np.exp(_log_where(self._numbers, y)[0]))

    @property
    def _numbers(self) -> Float64[np.ndarray, "1 3"]:
        floor = 0.0 if self.floor is None else self.floor.value
        return np.array([[np.log(self.scale), self.exponent.value, floor]])


def power_law(x: Numbers, y: Numbers, *, redraws: int = 400) -> PowerLaw:
    """Fits the law to points (x, y), all above zero.

    Raises:
        BadInput: fewer than three points, the same x for all, or a number that is not above zero.
    """
    log_x, log_y = logarithms(x, y)
    log_scale, exponent = _robust_line(log_x, log_y[None])[0].tolist()
    expected = log_scale + exponent * log_x
    residuals = (log_y - expected) / np.sqrt(np.clip(1 - _leverage(log_x), 0.1, None))
    residuals -= residuals.mean()
    drawn = expected + np.random.default_rng(0).choice(residuals, size=(redraws, len(x)))
    again = _robust_line(log_x, drawn)
    freedom = len(x) - 2
    low, high = float(log_x.min()), float(log_x.max())
    return PowerLaw(
        scale=float(np.exp(log_scale)),
        exponent=Estimate(exponent, interval_of(exponent, again[:, 1], freedom)),
        span=(float(np.exp(low)), float(np.exp(high))),
        reach=(float(np.exp(log_scale + exponent * low)), float(np.exp(log_scale + exponent * high))),
        deviation=float(np.sqrt(((log_y - expected) ** 2).sum() / max(1, freedom))),
        freedom=freedom,
        redraws=np.concatenate([again, np.zeros((redraws, 1))], axis=1),
    )


def logarithms(x: Numbers, y: Numbers) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """log x and log y of points that a law can be fitted to; raises BadInput as `power_law` does."""
    if len(x) < 3 or len(set(x)) < 2:
        raise BadInput(f"a power law needs 3 points at different x, there are {len(set(x))} in {len(x)} points")
    if min(*x, *y) <= 0:
        raise BadInput(f"a power law needs numbers above zero, one is {min(*x, *y)}")
    return np.log(np.asarray(x, dtype=np.float64)), np.log(np.asarray(y, dtype=np.float64))


def ratio_at_equal(first: PowerLaw, second: PowerLaw) -> Estimate | None:
    """The x that `second` needs in that of `first` for the same y: above 1 where `first` needs less.

    At the middle, in logarithms, of the values that both laws reached; None where they reached none in common. A redraw
    whose floor is above that value never reaches it, and counts as needing more than any number.
    """
    low = max(min(first.reach), min(second.reach))
    high = min(max(first.reach), max(second.reach))
    if low > high:
        return None
    y = float(np.sqrt(low * high))
    ratio = np.log(second.where(y)) - np.log(first.where(y))
    count = min(len(first.redraws), len(second.redraws))
    ends = [_log_where(law.redraws[:count], y) for law in (first, second)]
    with np.errstate(invalid="ignore"):
        drawn = ends[1] - ends[0]  # not a number where neither reaches y
    bounds = interval_of(float(ratio), drawn, min(first.freedom, second.freedom))
    with np.errstate(over="ignore"):
        return Estimate(float(np.exp(ratio)), (float(np.exp(bounds[0])), float(np.exp(bounds[1]))))


def gap_at_equal(first: PowerLaw, second: PowerLaw) -> tuple[float, Estimate] | None:
    """An x, and by how much the y of `second` is above that of `first` there.

    At the middle, in logarithms, of the x that both span, where laws are known best; None where there is none.
    """
    low, high = max(first.span[0], second.span[0]), min(first.span[1], second.span[1])
    if low > high:
        return None
    x = float(np.sqrt(low * high))
    gap = second.at(x).value - first.at(x).value
    count = min(len(first.redraws), len(second.redraws))
    drawn = _at(second.redraws[:count], x) - _at(first.redraws[:count], x)
    return x, Estimate(gap, interval_of(gap, drawn, min(first.freedom, second.freedom)))


def exponents(factors: Sequence[Numbers], y: Numbers) -> list[Estimate]:
    """The exponents b of y = a · x1^b1 · x2^b2 ..., by least squares in logarithms, with Student's intervals.

    Raises:
        BadInput: too few points, factors that do not vary by themselves, or a number that is not above zero.
    """
    if min(map(min, (*factors, y)), default=0.0) <= 0:
        raise BadInput("exponents need numbers above zero")
    log_y, *columns = (np.log(np.asarray(one, dtype=np.float64)) for one in (y, *factors))
    design = np.stack([np.ones(len(y)), *columns], axis=1)
    freedom = len(y) - design.shape[1]
    if freedom < 1 or np.linalg.matrix_rank(design) < design.shape[1]:
        raise BadInput(f"{len(factors)} exponents cannot be told from {len(y)} points")
    inverse = np.linalg.inv(design.T @ design)
    found = inverse @ design.T @ log_y
    variance = float(((log_y - design @ found) ** 2).sum()) / freedom
    half = student.ppf(0.975, freedom) * np.sqrt(variance * np.diag(inverse))
    pairs = zip(found[1:].tolist(), half[1:].tolist(), strict=True)
    return [Estimate(value, (value - width, value + width)) for value, width in pairs]


def _at(laws: Float64[np.ndarray, "r 3"], x: float) -> Float64[np.ndarray, " r"]:
    return laws[:, 2] + np.exp(laws[:, 0] + laws[:, 1] * np.log(x))


def _log_where(laws: Float64[np.ndarray, "r 3"], y: float) -> Float64[np.ndarray, " r"]:
    """log x at which each law reaches y; infinite for a law without slope, and for y at or below its floor."""
    above = y - laws[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (np.log(np.maximum(above, 0)) - laws[:, 0]) / laws[:, 1]
    return np.where((above <= 0) | np.isnan(found), np.inf, found)


def _robust_line(log_x: Float64[np.ndarray, " n"], log_y: Float64[np.ndarray, "r n"]) -> Float64[np.ndarray, "r 2"]:
    """Intercept and slope of each row of log_y, by reweighted least squares (Huber)."""
    weights = np.ones_like(log_y)
    line = _line(log_x, log_y, weights)
    for _ in range(ROUNDS):
        errors = np.abs(log_y - line[:, :1] - line[:, 1:] * log_x)
        scale = np.maximum(1.4826 * np.median(errors, axis=1, keepdims=True), 1e-12)
        line = _line(log_x, log_y, np.minimum(1.0, HUBER * scale / np.maximum(errors, 1e-300)))
    return line


def _line(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    total = weights.sum(axis=1, keepdims=True)
    centre_x = (weights * x).sum(axis=1, keepdims=True) / total
    centre_y = (weights * y).sum(axis=1, keepdims=True) / total
    off = x - centre_x
    slope = (weights * off * (y - centre_y)).sum(axis=1, keepdims=True) / (weights * off**2).sum(axis=1, keepdims=True)
    return np.concatenate([centre_y - slope * centre_x, slope], axis=1)


def _leverage(log_x: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """The share of each point in its own fitted value."""
    off = log_x - log_x.mean()
    return 1 / len(log_x) + off**2 / (off**2).sum()


def interval_of(value: float, drawn: Float64[np.ndarray, " r"], freedom: int) -> tuple[float, float]:
    """95 %: the spread of the redraws about the value, wider by Student's t over the normal.

    A redraw that is infinite counts; one that is not a number counts as beyond either end.
    """
    wider = float(student.ppf(0.975, max(1, freedom)) / norm.ppf(0.975))
    unknown = np.isnan(drawn)
    low = _quantile(np.where(unknown, -np.inf, drawn), 0.025)
    high = _quantile(np.where(unknown, np.inf, drawn), 0.975)
    return float(value + wider * (low - value)), float(value + wider * (high - value))


def _quantile(drawn: Float64[np.ndarray, " r"], share: float) -> float:
    """Infinite where an infinite one takes part in it."""
    ordered, place = np.sort(drawn), share * (len(drawn) - 1)
    below, above = float(ordered[int(np.floor(place))]), float(ordered[int(np.ceil(place))])
    if not np.isfinite(below) or not np.isfinite(above):
        return below if share < 0.5 else above
    return below + (place - np.floor(place)) * (above - below)
