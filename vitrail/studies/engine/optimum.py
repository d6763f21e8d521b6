"""Where a curve is highest, from its values at some places, with an interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from vitrail.core.estimate import Estimate
from vitrail.core.seeds import generator
from vitrail.studies.engine.crossing import DRAWS, values_and_errors

FEWEST = 4  # places, for a top and how sure it is


@dataclass(frozen=True)
class Optimum:
    """The place of the highest value; -inf and inf stand for: before the first place, beyond the last one."""

    place: float
    interval: tuple[float, float]  # that holds it in 95 % of cases


def optimum(places: Sequence[float], values: Sequence[Estimate]) -> Optimum | None:
    """The top of a parabola over the logarithm of the places; None from fewer than FEWEST of them, or of unknown noise.

    Errors are taken as normal and independent (a half width of an interval is 1.96 of them); the interval is that of
    DRAWS draws. A draw that is hollow, or whose top is not between the first and the last place, has its top beyond
    the higher end.

    Args:
        places: above zero, different.
        values: one of each place.
    """
    if len(places) < FEWEST or any(value.interval is None for value in values):
        return None
    at = np.log(np.asarray(places, np.float64))
    means, errors = values_and_errors(values)
    draws = generator(0, "optimum").normal(means, errors, (DRAWS, len(means)))
    tops = np.sort(_tops(at, draws, errors))
    low, high = (float(tops[int(q * (DRAWS - 1))]) for q in (0.025, 0.975))
    return Optimum(float(_tops(at, means[None], errors)[0]), (low, high))


def _tops(at: np.ndarray, rows: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """The place of the top of each row's parabola, fitted with weights by the errors."""
    middle = float(at.mean())
    curve, slope, _ = np.polyfit(at - middle, rows.T, 2, w=1 / np.maximum(errors, 1e-12))
    with np.errstate(divide="ignore", invalid="ignore"):
        top = middle - slope / (2 * curve)
    inside = (curve < 0) & (top >= at.min()) & (top <= at.max())
    ends = [np.polyval([curve, slope, np.zeros_like(curve)], end - middle) for end in (at.min(), at.max())]
    return np.where(inside, np.exp(np.where(inside, top, 0.0)), np.where(ends[1] > ends[0], inf, -inf))


def optimum_words(found: Optimum | None, places: Sequence[float]) -> str:
    """ "4.2 (95 % interval 3.1 to beyond 8)"."""
    if found is None:
        return "not known"

    def said(place: float) -> str:
        return (
            f"beyond {max(places):g}" if place == inf else f"below {min(places):g}" if place == -inf else f"{place:.2g}"
        )

    ends = [said(end) for end in found.interval]
    where = "all of the 95 % interval" if set(ends) == {said(found.place)} else f"95 % interval {' to '.join(ends)}"
    return f"{said(found.place)} ({where})"
