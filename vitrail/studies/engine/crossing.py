"""Where one curve overtakes another, from their differences at some places, with an interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from vitrail.core.estimate import Estimate
from vitrail.core.seeds import generator

DRAWS = 20_000


@dataclass(frozen=True)
class Crossing:
    """The place from which on a difference is not below zero, up to the last place that was measured.

    -inf stands for: not below zero anywhere that was measured; inf for: still below zero at the last place.
    """

    place: float  # of the measured differences
    interval: tuple[float, float]  # that holds it in 95 % of cases
    share_beyond: float  # how often it lies beyond the last place


def crossing(places: Sequence[float], differences: Sequence[Estimate]) -> Crossing | None:
    """The crossing by straight lines between the measured places on a logarithmic axis; None where noise is unknown.

    The interval is that of DRAWS draws of all differences from their errors, taken as normal and independent (a
    half width of an interval is 1.96 errors, which is too wide where few seeds made it).
    """
    if len(places) < 2 or any(difference.interval is None for difference in differences):
        return None
    at = np.log(np.asarray(places, np.float64))
    values, errors = values_and_errors(differences)
    draws = generator(0, "crossing").normal(values, errors, (DRAWS, len(values)))
    found = np.sort([_place(at, draw) for draw in draws])
    low, high = (float(found[int(q * (DRAWS - 1))]) for q in (0.025, 0.975))
    return Crossing(_place(at, values), (low, high), float(np.isposinf(found).mean()))


def values_and_errors(estimates: Sequence[Estimate]) -> tuple[np.ndarray, np.ndarray]:
    """The values, and the standard error that each interval stands for where it is a normal's."""
    errors = [(e.interval[1] - e.interval[0]) / 2 / 1.96 for e in estimates if e.interval is not None]
    return np.array([e.value for e in estimates]), np.array(errors)


def _place(at: np.ndarray, values: np.ndarray) -> float:
    """Where the last rise through zero is, in the units of the places."""
    below = np.flatnonzero(values < 0)
    if not len(below):
        return -inf
    last = int(below[-1])
    if last == len(values) - 1:
        return inf
    share = values[last] / (values[last] - values[last + 1])
    return float(np.exp(at[last] + share * (at[last + 1] - at[last])))


def overtaking(who: str, found: Crossing | None, places: Sequence[float], unit: str) -> str:
    """ "ViTs overtake at 12,000 images (95 % interval 4,000 to beyond 500,000)"."""
    if found is None:
        return f"{who} overtake somewhere or not at all: the noise is not known"
    first, last = f"{min(places):,.0f}", f"{max(places):,.0f}"

    def said(place: float) -> str:
        return f"beyond {last}" if place == inf else f"below {first}" if place == -inf else f"{round_to_two(place):,}"

    low, high = found.interval
    within = f"95 % interval {said(low)} to {said(high)}"
    if low == inf:
        return f"{who} do not overtake between {first} and {last} {unit}"
    if high == -inf:
        return f"{who} are not behind from {first} {unit} on"
    if found.place == inf:
        return f"{who} do not overtake between {first} and {last} {unit}, or do so by chance ({within})"
    return f"{who} overtake at {said(found.place)} {unit} ({within})"


def round_to_two(place: float) -> int:
    """12,345 -> 12,000: two digits are as many as such a place has."""
    return int(float(f"{place:.2g}"))
