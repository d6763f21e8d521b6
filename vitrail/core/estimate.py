"""A number with its 95 % interval: of a share, of a mean over seeds; and whether a mean is above a bar."""

from math import sqrt
from typing import NamedTuple

Z = 1.959963984540054  # two-sided 95 % of a normal


Interval = tuple[float, float]


class Estimate(NamedTuple):
    """A share, a difference of shares, or any number, and its 95 % interval where one is known."""

    value: float
    interval: Interval | None = None

    @property
    def low(self) -> float | None:
        """The lower end."""
        return None if self.interval is None else self.interval[0]

    @property
    def high(self) -> float | None:
        """The upper end."""
        return None if self.interval is None else self.interval[1]


def wilson(correct: float | int, count: float | int) -> Interval:
    """Wilson's interval of a share, right also for few images and near 0 and 1 (Wilson 1927)."""
    if count == 0:
        return 0.0, 1.0
    share = correct / count
    centre = share + Z**2 / (2 * count)
    spread = Z * sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    scale = 1 + Z**2 / count
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def over_seeds(values: list[float]) -> Interval | None:
    """Student's interval of the mean over seeds; None for a single one."""
    if len(values) < 2:
        return None
    import numpy as np
    from scipy.special import stdtrit  # takes a fifth of a second, and reports, which need Wilson's alone, do without

    spread = float(stdtrit(len(values) - 1, 0.975)) * float(np.std(values, ddof=1)) / sqrt(len(values))
    mean = float(np.mean(values))
    return mean - spread, mean + spread


def p_above(values: list[float], bar: float) -> float | None:
    """The p value of Student's one-sided t-test that the mean over seeds is above `bar`.

    None for a single seed, and where all are equal: their noise is not known.
    """
    if len(values) < 2:
        return None
    import numpy as np
    from scipy.special import stdtr

    error = float(np.std(values, ddof=1)) / sqrt(len(values))
    if max(values) == min(values):
        return None
    return float(stdtr(len(values) - 1, (bar - float(np.mean(values))) / error))
