"""Findings in words: a difference with its interval, a comparison with the noise, what is still missing."""

from collections.abc import Sequence

import numpy as np

from vitrail.core.estimate import Estimate
from vitrail.studies.engine.results import Results, Row


def points(value: float) -> str:
    """A difference of two shares: 0.0413 -> "4.1"."""
    return f"{round(100 * value, 1) + 0.0:.1f}"  # never "-0.0"


def differs(gap: Estimate, more: str, less: str) -> str:
    """ "4.1 points lower (95 % interval 2.0 to 6.2)"; a gap below zero is called `less` and turned round."""
    word, sign = (more, 1.0) if gap.value >= 0 else (less, -1.0)
    ends = sorted(sign * end for end in (gap.low, gap.high) if end is not None)
    within = f" (95 % interval {points(ends[0])} to {points(ends[1])})" if ends else " (noise not known)"
    if ends and ends[0] <= 0:
        within = f"{within[:-1]}: it may be chance)"
    return f"{points(sign * gap.value)} points {word}{within}"


def no_more_than_noise(results: Results, names: Sequence[str], measure: str) -> str:
    """Says by how much runs differ, and how often equal runs differ as much."""
    means = [float(np.mean(results.row(name).values[measure])) for name in names]
    spread = f"these differ by {points(max(means) - min(means))} points"
    p = results.alike(names, measure)
    if p is None:
        return f"{spread}, noise not known"
    if p >= 0.05:
        return f"{spread}, no more than the noise (p = {p:.2g})"
    best, worst = names[int(np.argmax(means))], names[int(np.argmin(means))]
    return f"{spread}, more than the noise (p = {p:.2g}), from {worst} (worst) to {best} (best)"


def unfinished(results: Results) -> str:
    """The sentence in place of a finding while runs are missing; it counts them."""
    done = f"{results.complete_rows} of {len(results.rows)} runs"
    return f"Unfinished: {done} have their values; the same command goes on."


def percent(estimate: Estimate) -> str:
    """ "41.2 % (39.8 to 42.6)", never broken before the sign."""
    within = f" ({' to '.join(map(points, estimate.interval))})" if estimate.interval else ""
    return f"{points(estimate.value)}\u00a0%{within}"


def shown(results: Results, row: Row, measure: str) -> str:
    """The value of a row for people: an accuracy in per cent, any other number as it is."""
    estimate = results.value(row, measure)
    return percent(estimate) if results.is_share(measure) else f"{estimate.value:,.4g}"


def middle(results: Results) -> str:
    """The measure that the finding is about: of several numbers of shots the middle one."""
    names = results.measure_names
    return names[len(names) // 2]
