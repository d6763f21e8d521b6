"""Power laws with a floor, y = floor + a · x^-b: an error that no amount of x brings below the floor.

Three numbers from a few points are easily found where there are two, so a floor has to be shown: laws have one only
where a 95 % interval of it leaves out zero. That interval has the floors whose best law fits the points, in the
logarithm of y, no worse than the F test allows (a profile). On 400 draws of 5, 6, 7 and 10 points that had no floor,
with errors of 3 %, the rule took one in 2, 2, 2 and 5 % of cases (LOG.md has its power, and what other rules did).

Least squares, not robust: of five points and three numbers no point can be said to lie off the law.

n points · r rows of them · k exponents that are tried
"""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float64
from scipy.stats import f as f_distribution

from vitrail.core.errors import BadInput
from vitrail.core.estimate import Estimate, Interval
from vitrail.studies.engine.power_law import Numbers, PowerLaw, interval_of, logarithms, power_law

LEAST = 5  # points: three numbers, and two degrees of freedom for the noise
EXPONENTS = np.geomspace(0.01, 4.0, 24)  # that are tried first; then STEPS about the best, again and again
STEPS, FINER, FINER_REDRAWS = 9, 8, 5  # the exponent of the points within 1e-5 of itself, those of redraws within 1e-4
ROUNDS = 3  # of Gauss and Newton
FLOORS, NARROWER = 17, 4  # that are tried for an end of the interval, and how often between the nearest two
EXACT = 1e-6  # an error of y, as a share, that counts as none


def laws_alike(families: Mapping[str, tuple[Numbers, Numbers]]) -> dict[str, PowerLaw]:
    """The law of each family of points (x, y); of one kind, so that they can be compared.

    With floors where the points of any family show one, else without. A family of fewer than LEAST points can show none
    and gets none, one of too few for a plain law has no law.
    """
    floored = {name: law for name, points in families.items() if (law := _or_none(law_with_floor, *points)) is not None}
    if not any(shows_floor(law) for law in floored.values()):
        floored = {}
    plain = {name: _or_none(power_law, *points) for name, points in families.items() if name not in floored}
    return {name: law for name in families if (law := floored.get(name) or plain.get(name)) is not None}


def shows_floor(law: PowerLaw) -> bool:
    """True where the interval of the law's floor leaves out zero."""
    return law.floor is not None and law.floor.low is not None and law.floor.low > 0


def _or_none(fit: Callable[[Numbers, Numbers], PowerLaw], x: Numbers, y: Numbers) -> PowerLaw | None:
    try:
        return fit(x, y)
    except BadInput:
        return None


def law_with_floor(x: Numbers, y: Numbers, *, redraws: int = 400) -> PowerLaw:
    """Fits y = floor + a · x^-b with a floor from zero on to points (x, y), all above zero.

    The interval of the floor is the profile's, those of all else are from redraws of the residuals, as of `power_law`.

    Raises:
        BadInput: fewer than LEAST points at different x, or a number that is not above zero.
    """
    if len(set(x)) < LEAST:
        raise BadInput(f"a power law with a floor needs {LEAST} points at different x, there are {len(set(x))}")
    log_x, log_y = logarithms(x, y)
    laws, squares = _fits(log_x, log_y[None], FINER)
    expected = np.log(_values(laws, log_x)[0])
    freedom = len(x) - 3
    spread = np.sqrt(np.clip(1 - _leverage(laws[0], log_x), 0.1, None))
    residuals = (log_y - expected) / spread
    residuals -= residuals.mean()
    drawn = expected + np.random.default_rng(0).choice(residuals, size=(redraws, len(x)))
    again, _ = _fits(log_x, drawn, FINER_REDRAWS)
    log_scale, exponent, floor = laws[0].tolist()
    low, high = float(log_x.min()), float(log_x.max())
    ends = _values(laws, np.array([low, high]))[0]
    return PowerLaw(
        scale=float(np.exp(log_scale)),
        exponent=Estimate(exponent, interval_of(exponent, again[:, 1], freedom)),
        span=(float(np.exp(low)), float(np.exp(high))),
        reach=(float(ends[0]), float(ends[1])),
        deviation=float(np.sqrt(squares[0] / freedom)),
        freedom=freedom,
        redraws=again,
        floor=Estimate(floor, _profile(log_x, log_y, floor, float(squares[0]))),
    )


def _profile(
    log_x: Float64[np.ndarray, " n"], log_y: Float64[np.ndarray, " n"], floor: float, least: float
) -> Interval:
    """The floors from 0 to the largest y that the F test does not refuse; `least`: squares at the best floor."""
    count, freedom = len(log_x), len(log_x) - 3
    allowed = max(least, count * EXACT**2) * (1 + float(f_distribution.ppf(0.95, 1, freedom)) / freedom)

    def last_allowed(inside: float, end: float) -> float:
        for _ in range(NARROWER):
            tried = np.linspace(inside, end, FLOORS)
            refused = _fits(log_x, np.tile(log_y, (FLOORS, 1)), FINER, tried[:, None])[1] > allowed
            if not refused[1:].any():
                return end
            first = 1 + int(refused[1:].argmax())
            inside, end = float(tried[first - 1]), float(tried[first])
        return inside

    return last_allowed(floor, 0.0), last_allowed(floor, float(np.exp(log_y.max())))


def _fits(
    log_x: Float64[np.ndarray, " n"],
    log_y: Float64[np.ndarray, "r n"],
    finer: int,
    floor: Float64[np.ndarray, "r 1"] | None = None,
) -> tuple[Float64[np.ndarray, "r 3"], Float64[np.ndarray, " r"]]:
    """Log scale, exponent and floor of the best law of each row, or of that with a given floor, and its squares.

    Of each exponent that is tried scale and floor are a linear problem, but for the logarithm, which Gauss and Newton
    meet. A scale that is not above zero is refused, a floor below zero is zero.
    """
    middle, rows = float(log_x.mean()), np.arange(len(log_y))
    tried = np.broadcast_to(EXPONENTS, (len(log_y), len(EXPONENTS)))
    for _ in range(1 + finer):
        powers_rkn = np.exp(-tried[..., None] * (log_x - middle))
        scales, floors, squares = _linear(powers_rkn, log_y[:, None], floor)
        best = squares.argmin(axis=1)
        first, last = tried[rows, np.maximum(best - 1, 0)], tried[rows, np.minimum(best + 1, tried.shape[1] - 1)]
        exponents, tried = tried[rows, best], np.geomspace(first, last, STEPS, axis=1)
    log_scales = np.log(scales[rows, best]) + exponents * middle
    return np.stack([log_scales, -exponents, floors[rows, best]], axis=1), squares[rows, best]


def _linear(
    powers: Float64[np.ndarray, "r k n"], log_y: Float64[np.ndarray, "r 1 n"], floor: Float64[np.ndarray, "r 1"] | None
) -> tuple[Float64[np.ndarray, "r k"], Float64[np.ndarray, "r k"], Float64[np.ndarray, "r k"]]:
    """Scale, floor and squares of the residuals of log y, for given powers of x."""
    log_values = np.broadcast_to(log_y, powers.shape)
    for _ in range(ROUNDS):
        one = np.exp(-log_values)
        power, target = powers * one, 1 + log_y - log_values
        one_one, one_power, power_power = (one * one).sum(-1), (one * power).sum(-1), (power * power).sum(-1)
        one_target, power_target = (one * target).sum(-1), (power * target).sum(-1)
        if floor is None:
            alone = np.maximum(one_one * power_power - one_power**2, 1e-300)
            floors = np.maximum((one_target * power_power - power_target * one_power) / alone, 0.0)
        else:
            floors = np.broadcast_to(floor, one_one.shape)
        scales = np.maximum((power_target - floors * one_power) / power_power, 1e-12 * np.exp(log_y.min()))
        log_values = np.log(floors[..., None] + scales[..., None] * powers)
    return scales, floors, ((log_y - log_values) ** 2).sum(-1)


def _values(laws: Float64[np.ndarray, "r 3"], log_x: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, "r n"]:
    return laws[:, 2:] + np.exp(laws[:, :1] + laws[:, 1:2] * log_x)


def _leverage(law: Float64[np.ndarray, "3"], log_x: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """The share of each point in its own fitted value, near the best law."""
    powers = np.exp(law[0] + law[1] * log_x)
    slopes = np.stack([powers, powers * log_x, np.ones_like(powers)], axis=1) / (law[2] + powers)[:, None]
    orthogonal = np.linalg.qr(slopes)[0]
    return (orthogonal**2).sum(axis=1)
