"""Whether a run follows the curve of its recipe's proof: the rule, as functions of two logs.

A row of a log holds for the steps since the row before. All is compared by the share of training that is done, so that
logs of other intervals, and runs of another length, can be laid over each other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, NamedTuple

import numpy as np

from vitrail.core.numbers import Number

POINTS = (0.01, 0.05, 0.20, 1.0)  # of training
HALF = 0.01  # a window around a point reaches so far to each side, and to the ends of the rows that it meets
NEAR = 0.05  # so far to each side the proof's own spread is measured, around a straight line
SPREADS = 3.0
RELATIVE = 0.15  # of the proof's loss, or of how far it has fallen, whichever is less
FLOOR = 0.02  # of the proof's first loss
# Measured on 4 seeds of digits and 3 of scattered-digits, each against each, with two intervals of the log: all 36
# pairs are on course. The largest difference is 0.94 of what is allowed, at 20 %, where the loss falls fastest, and
# 0.49 elsewhere.

RULE = (
    "At 1, 5, 20 and 100 % of training the mean loss of the steps within 1 % of training around that point is compared "
    f"with the proof's over the same steps. On course is a difference of at most {SPREADS:.0f} times the spread that "
    f"the proof's own mean has there, plus {100 * RELATIVE:.0f} % of that mean (or of how far the loss has fallen, if "
    f"that is less), plus {100 * FLOOR:.0f} % of the proof's first loss. At the end the 95 % intervals of the accuracy "
    "must overlap as well."
).replace(" %", "\u00a0%")

Where = Literal["on course", "above", "below", "no number", "not reached"]


class Piece(NamedTuple):
    """The mean loss from one share of training to another."""

    start: float
    stop: float
    loss: float


@dataclass(frozen=True)
class Point:
    """The comparison at one or more points (those whose windows are the same rows)."""

    at: tuple[float, ...]
    start: float  # the window, in shares of training
    stop: float
    loss: float | None
    proof: float
    tolerance: float
    where: Where


def pieces(rows: Sequence[tuple[Number, Number]], planned: Number) -> list[Piece]:
    """(step, loss) in the order of steps, as what they hold for; a loss that is no number is NaN."""
    made, before = [], 0.0
    for step, loss in rows:
        made.append(Piece(before / planned, step / planned, float(loss) if math.isfinite(loss) else math.nan))
        before = step
    return made


def points(run: Sequence[Piece], proof: Sequence[Piece]) -> list[Point]:
    """The comparison at each of POINTS; raises nothing for an unfinished run, and is empty without a proof's curve."""
    if not proof:
        return []
    found = [_point(at, run, proof) for at in POINTS]
    joined = []
    for _, same in groupby(found, key=lambda point: (point.start, point.stop, point.where == "not reached")):
        alike = list(same)
        joined.append(Point(tuple(p.at[0] for p in alike), *_rest(alike[0])))
    return joined


def _rest(point: Point) -> tuple[float, float, float | None, float, float, Where]:
    return point.start, point.stop, point.loss, point.proof, point.tolerance, point.where


def _point(at: float, run: Sequence[Piece], proof: Sequence[Piece]) -> Point:
    start, stop = max(0.0, at - HALF), min(1.0, at + HALF)
    start, stop = _whole_rows(start, stop, run, proof)
    expected, tolerance = mean(proof, start, stop), allowed(proof, start, stop)
    if not run or run[-1].stop < stop - 1e-9:
        return Point((at,), start, stop, None, expected, tolerance, "not reached")
    loss = mean(run, start, stop)
    if not math.isfinite(loss):
        return Point((at,), start, stop, None, expected, tolerance, "no number")
    off = loss - expected
    where: Where = "on course" if abs(off) <= tolerance else "above" if off > 0 else "below"
    return Point((at,), start, stop, loss, expected, tolerance, where)


def _whole_rows(start: float, stop: float, *logs: Sequence[Piece]) -> tuple[float, float]:
    """The window, widened to the ends of the rows it meets: half a row is not known."""
    for _ in range(3):  # rows of two logs whose intervals divide each other settle at once; others nearly
        for log in logs:
            met = [piece for piece in log if piece.stop > start + 1e-9 and piece.start < stop - 1e-9]
            if met:
                start, stop = min(start, met[0].start), max(stop, met[-1].stop)
    return start, stop


def mean(log: Sequence[Piece], start: float, stop: float) -> float:
    """The mean loss between two shares of training, rows weighted by how much of them lies there; NaN for none."""
    weights = [max(0.0, min(piece.stop, stop) - max(piece.start, start)) for piece in log]
    total = sum(weights)
    met = [weight * piece.loss for weight, piece in zip(weights, log, strict=True) if weight > 0]
    return sum(met) / total if total else math.nan


def allowed(proof: Sequence[Piece], start: float, stop: float) -> float:
    """How far from the proof's mean another run may lie and still be on course."""
    middle = (start + stop) / 2
    near = [piece for piece in proof if abs((piece.start + piece.stop) / 2 - middle) <= NEAR]
    if len(near) < 5:
        near = sorted(sorted(proof, key=lambda piece: abs((piece.start + piece.stop) / 2 - middle))[:5])
    inside = sum(piece.stop > start + 1e-9 and piece.start < stop - 1e-9 for piece in proof)
    spread = _spread(near) / math.sqrt(max(1, inside))
    first, expected = proof[0].loss, mean(proof, start, stop)
    moved = min(abs(expected), abs(first - expected))
    return SPREADS * math.sqrt(2) * spread + RELATIVE * moved + FLOOR * abs(first)


def _spread(near: Sequence[Piece]) -> float:
    """The standard deviation around a straight line; 0 where there are too few rows to tell."""
    if len(near) < 4:
        return 0.0
    x = np.array([(piece.start + piece.stop) / 2 for piece in near])
    y = np.array([piece.loss for piece in near])
    residual = y - np.polyval(np.polyfit(x - x.mean(), y, 1), x - x.mean())
    return float(np.sqrt((residual**2).sum() / (len(near) - 2)))
