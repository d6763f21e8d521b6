"""A comparison (`vitrail evaluate --model FOLDER --against FOLDER --out`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vitrail.core.estimate import Interval
from vitrail.records.images import Mistake
from vitrail.records.record import Files, Record

Better = Literal["first", "second"]
Figures = Literal["accuracy", "top5", "balanced_accuracy", "loss"]


@dataclass(frozen=True, kw_only=True)
class McNemar(Record):
    """Probabilities of as many discordant images, were both models equally good."""

    exact: float  # two-sided binomial test
    mid_p: float  # less the half of the probability of what was seen (Fagerland 2013)
    chi2: float  # with Edwards' correction


@dataclass(frozen=True, kw_only=True)
class ComparedFigure(Record):
    """One figure of both models."""

    figure: Figures
    first: float
    second: float
    difference: float  # first less second
    interval: Interval  # of the difference
    better: Better | None  # null where the interval holds 0


@dataclass(frozen=True, kw_only=True)
class ComparedClass(Record):
    """A class in which the two differ."""

    name: str
    count: int  # images
    only_first: int  # that only the first recognises
    only_second: int
    p: float  # McNemar's exact p, times the number of classes (Bonferroni)


@dataclass(frozen=True, kw_only=True)
class OnlyOneRight(Record):
    """Images that only one model recognises, with what the other takes them for; at most 12 each."""

    only_first: Sequence[Mistake]
    only_second: Sequence[Mistake]


@dataclass(frozen=True, kw_only=True)
class Comparison(Record):
    """Two models on the same images."""

    sentence: str  # which is better, by how much, how sure that is
    first: str  # MODEL
    second: str  # MODEL
    names: tuple[str, str]  # their short names
    data: str  # DATA
    count: int  # images that both have judged
    left_out: int  # images that only one has judged
    both: int  # images that both recognise
    only_first: int
    only_second: int
    neither: int
    same_answer: int  # images that both take for the same class
    mcnemar: McNemar
    better: Better | None  # null where the exact p is 0.05 or more
    rows: Sequence[ComparedFigure]
    classes: Sequence[ComparedClass]  # that differ most, first
    examples: OnlyOneRight


FILES: Files = {"comparison.json": Comparison}
