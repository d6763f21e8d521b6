"""How far an accuracy may be off: 95 % intervals."""

from math import sqrt

import numpy as np

Z = 1.959963984540054  # two-sided 95 % of a normal

# Two-sided 95 % of Student's t by degrees of freedom; beyond the table the normal is close enough to print.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120)


def wilson(correct: int, count: int) -> tuple[float, float]:
    """Wilson's interval of a share, right also for few images and near 0 and 1 (Wilson 1927)."""
    if count == 0:
        return 0.0, 1.0
    share = correct / count
    centre = share + Z**2 / (2 * count)
    spread = Z * sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    scale = 1 + Z**2 / count
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def over_seeds(values: list[float]) -> tuple[float, float] | None:
    """Student's interval of the mean over seeds; None for a single one."""
    if len(values) < 2:
        return None
    freedom = len(values) - 1
    t = _T[freedom - 1] if freedom <= len(_T) else Z + 2.4 / freedom
    spread = t * float(np.std(values, ddof=1)) / sqrt(len(values))
    mean = float(np.mean(values))
    return mean - spread, mean + spread
