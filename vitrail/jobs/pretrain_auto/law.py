"""What a ViT reaches for its depth and its compute: a law fitted to runs, which ship with it in `runs.json`.

    y = a + b · ln C − k · (ln d − p − q · ln C)²

y is the log-odds of the accuracy above chance, C the FLOPs of training, d the depth, to which width, heads and MLP are
in proportion. Of equal compute the depth exp(p + q ln C) reaches most; b is what compute buys there. `a` belongs to the
data: it cancels out of the difference of two runs on the same ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import exp, log
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from vitrail.core.errors import BadInput
from vitrail.core.seeds import generator
from vitrail.records.record import Record, load_record

RUNS = Path(__file__).parent / "runs.json"
BEND = np.linspace(0.0, 1.0, 101)  # of the best depth with compute, q, of which the best fit is taken
REDRAWS = 400
FEWEST = 8  # runs, for five numbers
CERTAIN = 1e-4  # an accuracy above chance is taken to be at least this, and as far below 1


@dataclass(frozen=True, kw_only=True)
class LawRun(Record):
    """A run that a law is fitted to."""

    depth: int
    flops: float  # of training
    accuracy: float  # of images that nothing was chosen by


@dataclass(frozen=True, kw_only=True)
class Carried(Record):
    """A pilot and its run, by which it is known what the law's gain is worth on other data."""

    data: str
    gain: float  # in log-odds, by the law
    reached: float  # in log-odds, by the two
    half: float | None  # the share of the law's gain that was reached from the half pilot to the pilot


@dataclass(frozen=True, kw_only=True)
class LawRuns(Record):
    """The runs that `pretrain auto` plans by: its law is fitted to them wherever it is used."""

    format: int = 1
    study: str  # by which they were made, and that docs/studies shows
    data: str
    classes: int
    command: Sequence[str]  # words that make them again
    machines: Sequence[str]
    runs: Sequence[LawRun]
    carried: Sequence[Carried]  # what the law foretold elsewhere


def log_odds(accuracy: float, classes: int) -> float:
    """Of the accuracy above chance: 0 half-way between guessing and knowing; never infinite."""
    above = (accuracy - 1 / classes) / (1 - 1 / classes)
    above = min(max(above, CERTAIN), 1 - CERTAIN)
    return log(above / (1 - above))


def accuracy_at(odds: float, classes: int) -> float:
    """The accuracy whose log-odds above chance these are."""
    return 1 / classes + (1 - 1 / classes) / (1 + exp(-odds))


@dataclass(frozen=True)
class Law:
    """The fitted law, and the same of REDRAWS draws of its residuals."""

    numbers: Float64[np.ndarray, " 5"]  # a, b, k, p, q
    redraws: Float64[np.ndarray, "r 5"]
    deviation: float  # of the residuals, in log-odds
    compute: tuple[float, float]  # FLOPs, from the least to the most of the runs
    depths: tuple[int, int]

    def odds(self, depth: int, flops: float) -> float:
        """The log-odds of a depth, on the data of the runs."""
        return float(_odds(self.numbers, np.log(flops), np.log(depth)))

    def gain(self, depth: int, flops: float, before: tuple[int, float]) -> tuple[float, float]:
        """What the log-odds gain from (depth, FLOPs) `before` to these, and the standard error of that."""
        first, last = ((np.log(c), np.log(d)) for d, c in (before, (depth, flops)))
        drawn = [_odds(row, *last) - _odds(row, *first) for row in self.redraws]
        return float(_odds(self.numbers, *last) - _odds(self.numbers, *first)), float(np.std(drawn))

    def best_depth(self, flops: float) -> float:
        """The depth that reaches most of this compute, not rounded."""
        *_, p, q = self.numbers
        return exp(p + q * log(flops))

    def compute_of(self, depth: float) -> float:
        """The FLOPs of which this depth is the best one; infinite where the best depth does not grow with compute."""
        *_, p, q = self.numbers
        return exp((log(depth) - p) / q) if q > 0 else float("inf")


def _odds(numbers: np.ndarray, log_flops: float, log_depth: float) -> float:
    """More compute never makes it less: where the parabola of a depth falls again it stays at its top."""
    a, b, k, p, q = numbers
    if k * q > 0:
        log_flops = min(log_flops, float((log_depth - p + b / (2 * k * q)) / q))
    return float(a + b * log_flops - k * (log_depth - p - q * log_flops) ** 2)


def fit_law(runs: Sequence[LawRun], classes: int) -> Law:
    """The law of these runs, by least squares, and of draws of its residuals.

    Raises:
        BadInput: too few runs, or ones that have no best depth: accuracy that does not fall off on both sides of it.
    """
    if len(runs) < FEWEST or len({run.flops for run in runs}) < 2 or len({run.depth for run in runs}) < 3:
        raise BadInput(f"a law needs {FEWEST} runs of 3 depths and 2 amounts of compute, there are {len(runs)} runs")
    u = np.log([run.flops for run in runs])
    v = np.log([float(run.depth) for run in runs])
    y = np.array([log_odds(run.accuracy, classes) for run in runs])
    numbers = _fitted(u, v, y[None])[0]
    if not numbers[2] > 0:
        raise BadInput("the runs have no best depth: take depths on both sides of it")
    expected = np.array([_odds(numbers, *place) for place in zip(u, v, strict=True)])
    residuals = (y - expected) * np.sqrt(len(y) / (len(y) - 5))
    rng = generator(0, "law")
    drawn = _fitted(u, v, expected + rng.choice(residuals, (REDRAWS, len(y))))
    kept = drawn[drawn[:, 2] > 0]
    depths = [run.depth for run in runs]
    span = (float(np.exp(u.min())), float(np.exp(u.max())))
    return Law(numbers, kept, float(np.std(residuals)), span, (min(depths), max(depths)))


def _fitted(
    u: Float64[np.ndarray, " n"], v: Float64[np.ndarray, " n"], y: Float64[np.ndarray, "r n"]
) -> Float64[np.ndarray, "r 5"]:
    """a, b, k, p, q of each row of y: for each q of BEND the rest is linear. k is 0 where no parabola has a top."""
    best, found = np.full(len(y), np.inf), np.zeros((len(y), 5))
    for q in BEND:
        w = v - q * u
        columns = np.stack([np.ones_like(u), u, w, w**2], axis=1)
        (c0, b, c1, c2), *_ = np.linalg.lstsq(columns, y.T, rcond=None)
        off = ((columns @ np.stack([c0, b, c1, c2]) - y.T) ** 2).sum(axis=0)
        better = (off < best) & (c2 < 0)
        top = np.where(better, -c1 / np.where(better, 2 * c2, 1.0), 0.0)
        numbers = np.stack([c0 + c1 * top / 2, b, -c2, top, np.full_like(b, q)], axis=1)
        best, found = np.where(better, off, best), np.where(better[:, None], numbers, found)
    return found


@lru_cache(maxsize=1)
def shipped_law() -> tuple[Law, LawRuns]:
    """The law that `pretrain auto` plans by, and the runs that it is fitted to."""
    runs = load_record(LawRuns, RUNS)
    return fit_law(runs.runs, runs.classes), runs
