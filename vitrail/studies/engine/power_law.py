"""Power laws through a few points: y = a · x^b, or a · x^b + c; their intervals, and x of one against x of another.

Fitted in the logarithm of y, where the errors of a law are even, robustly (Huber): a run that went wrong does not bend
the law. Intervals are by the bootstrap of residuals, each widened for its leverage, and widened again as Student's t is
against the normal: with five or six points that is what brings 95 % to 95 % (tests/studies/engine/test_power_law.py).

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

FLOORS = np.concatenate([[0.0], 1 - np.geomspace(1.0, 0.01, 60)[1:]])  # c that are tried, as shares of the least y


@dataclass(frozen=True)
class PowerLaw:
    """y = scale · x^exponent + floor, fitted to points from x = `span[0]` to `span[1]`."""

    scale: float
    exponent: Estimate
    floor: Estimate
    span: tuple[float, float]
    reach: tuple[float, float]  # the law's own values at the ends of the span
    deviation: float  # of the residuals, in the logarithm of y
    freedom: int  # points less numbers fitted
    redraws: Float64[np.ndarray, "r 3"] = field(repr=False)  # log scale, exponent, floor

    def at(self, x: float) -> Estimate:
        """The law's value with its interval."""
        value = self.scale * x**self.exponent.value + self.floor.value
        drawn = np.log(np.exp(self.redraws[:, 0]) * x ** self.redraws[:, 1] + self.redraws[:, 2])
        low, high = _interval(np.log(value), drawn, self.freedom)
        return Estimate(value, (float(np.exp(low)), float(np.exp(high))))

    def where(self, y: float) -> float:
        """The x at which the law reaches y; infinite where it never does."""
        law = np.array([[np.log(self.scale), self.exponent.value, self.floor.value]])
        return float(np.exp(_log_where(law, y)[0]))


def power_law(x: Numbers, y: Numbers, *, floor: bool = False, redraws: int = 400) -> PowerLaw:
    """The law through points (x, y), all above zero.

    Args:
        floor: whether y falls to a limit c of its own; needs more points, and c is then hardly known from few.

    Raises:
        BadInput: fewer points than numbers to fit and one more, the same x for all, or a number that is not above zero.
    """
    least = 4 if floor else 3
    if len(x) < least or len(set(x)) < least - 1:
        raise BadInput(f"a power law needs {least} points at different x, there are {len(set(x))} in {len(x)} points")
    if min(*x, *y) <= 0:
        raise BadInput(f"a power law needs numbers above zero, one is {min(*x, *y)}")
    log_x, log_y = np.log(np.asarray(x, dtype=np.float64)), np.log(np.asarray(y, dtype=np.float64))
    fitted = _fit(log_x, log_y[None], floor)
    expected = _log_law(fitted, log_x)[0]
    leverage = _leverage(log_x, fitted[0])
    residuals = (log_y - expected) / np.sqrt(np.clip(1 - leverage, 0.1, None))
    residuals -= residuals.mean()
    drawn = expected + np.random.default_rng(0).choice(residuals, size=(redraws, len(x)))
    again = _fit(log_x, drawn, floor)
    freedom = len(x) - (3 if floor else 2)
    log_scale, exponent, bottom = fitted[0].tolist()
    ends = (float(np.exp(log_x.min())), float(np.exp(log_x.max())))
    return PowerLaw(
        scale=float(np.exp(log_scale)),
        exponent=Estimate(exponent, _interval(exponent, again[:, 1], freedom)),
        floor=Estimate(bottom, _interval(bottom, again[:, 2], freedom) if floor else (0.0, 0.0)),
        span=ends,
        reach=(
            float(np.exp(_log_law(fitted, np.log(ends[:1]))[0, 0])),
            float(np.exp(_log_law(fitted, np.log(ends[1:]))[0, 0])),
        ),
        deviation=float(np.sqrt(((log_y - expected) ** 2).sum() / max(1, freedom))),
        freedom=freedom,
        redraws=again,
    )


def ratio_at_equal(first: PowerLaw, second: PowerLaw) -> Estimate | None:
    """How many times the x of `first` the second law needs for the same y: above 1 where `first` needs less.

    At the middle, in logarithms, of the values that both laws reached; None where they reached none in common.
    """
    low = max(min(first.reach), min(second.reach))
    high = min(max(first.reach), max(second.reach))
    if low > high:
        return None
    y = float(np.sqrt(low * high))
    ratio = np.log(second.where(y)) - np.log(first.where(y))
    count = min(len(first.redraws), len(second.redraws))
    ends = [_log_where(law.redraws[:count], y) for law in (first, second)]
    bounds = _interval(float(ratio), ends[1] - ends[0], min(first.freedom, second.freedom))
    return Estimate(float(np.exp(ratio)), (float(np.exp(bounds[0])), float(np.exp(bounds[1]))))


def _log_law(laws: Float64[np.ndarray, "r 3"], log_x: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, "r n"]:
    return np.log(np.exp(laws[:, :1] + laws[:, 1:2] * log_x) + laws[:, 2:])


def _log_where(laws: Float64[np.ndarray, "r 3"], y: float) -> Float64[np.ndarray, " r"]:
    """log x of y = scale · x^exponent + floor; infinite where the floor lies above."""
    log_scale, exponent, floor = laws.T
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (np.log(np.maximum(y - floor, 0.0)) - log_scale) / exponent
    return np.nan_to_num(found, nan=np.inf)


def _fit(
    log_x: Float64[np.ndarray, " n"], log_y: Float64[np.ndarray, "r n"], floor: bool
) -> Float64[np.ndarray, "r 3"]:
    """Each row of log_y by itself: the floor is the best of many, the rest is a robust line."""
    best = np.full((len(log_y), 3), np.nan)
    least = np.full(len(log_y), np.inf)
    for share in FLOORS if floor else FLOORS[:1]:
        bottom = share * np.exp(log_y.min(axis=1, keepdims=True))
        above = np.log(np.exp(log_y) - bottom)
        # an error of log y is that of log(y - c), times this
        slack = 1 - bottom * np.exp(-log_y)
        line, loss = _robust_line(log_x, above, slack)
        better = loss < least
        least[better] = loss[better]
        best[better] = np.concatenate([line, bottom], axis=1)[better]
    return best


def _robust_line(log_x: np.ndarray, above: np.ndarray, slack: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Intercept and slope [r, 2] by reweighted least squares, and Huber's loss [r]."""
    weights = slack**2
    line = _line(log_x, above, weights)
    for _ in range(ROUNDS):
        errors = np.abs((above - line[:, :1] - line[:, 1:] * log_x) * slack)
        scale = np.maximum(1.4826 * np.median(errors, axis=1, keepdims=True), 1e-12)
        line = _line(log_x, above, weights * np.minimum(1.0, HUBER * scale / np.maximum(errors, 1e-300)))
    errors = np.abs((above - line[:, :1] - line[:, 1:] * log_x) * slack)
    cut = HUBER * np.maximum(1.4826 * np.median(errors, axis=1, keepdims=True), 1e-12)
    return line, np.where(errors <= cut, errors**2 / 2, cut * (errors - cut / 2)).sum(axis=1)


def _line(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    total = weights.sum(axis=1, keepdims=True)
    centre_x = (weights * x).sum(axis=1, keepdims=True) / total
    centre_y = (weights * y).sum(axis=1, keepdims=True) / total
    off = x - centre_x
    slope = (weights * off * (y - centre_y)).sum(axis=1, keepdims=True) / (weights * off**2).sum(axis=1, keepdims=True)
    return np.concatenate([centre_y - slope * centre_x, slope], axis=1)


def _leverage(log_x: Float64[np.ndarray, " n"], law: Float64[np.ndarray, " 3"]) -> Float64[np.ndarray, " n"]:
    """The share of each point in its own fitted value."""
    power = np.exp(law[0] + law[1] * log_x)
    share = power / (power + law[2])
    columns = [share, share * log_x]
    if law[2] > 0:
        columns.append(1 / (power + law[2]))
    q, _ = np.linalg.qr(np.stack(columns, axis=1))
    return (q**2).sum(axis=1)


def _interval(value: float, drawn: np.ndarray, freedom: int) -> tuple[float, float]:
    """95 %: the spread of the redraws about the value, wider by Student's t over the normal."""
    wider = float(student.ppf(0.975, max(1, freedom)) / norm.ppf(0.975))
    finite = drawn[np.isfinite(drawn)]
    low, high = np.quantile(finite, [0.025, 0.975]) if len(finite) else (-np.inf, np.inf)
    return value + wider * float(low - value), value + wider * float(high - value)
