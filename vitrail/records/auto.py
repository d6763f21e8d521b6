"""Pre-training by a budget (`vitrail pretrain auto`).

What is planned lies in the run's own folder, which is otherwise that of any run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vitrail.core.estimate import Interval
from vitrail.records.record import Files, Record, optional


@dataclass(frozen=True, kw_only=True)
class HalfPilot(Record):
    """The same run at half the steps: what compute buys on these data."""

    steps: int
    flops: float  # of training
    accuracy: float  # of the held-out images of the pilot


@dataclass(frozen=True, kw_only=True)
class PilotResult(Record):
    """The short run before the plan: what the data are like. It never saw an image mirrored."""

    depth: int
    steps: int
    flops: float  # of training
    seconds: float  # all it took
    slower: float  # than foretold, in time: above 1 where a step took longer
    accuracy: float  # of the held-out images
    mirrored: float  # of the same images mirrored
    count: int  # held-out images
    half: HalfPilot | None = optional()  # null: it would have too few steps to say anything


@dataclass(frozen=True, kw_only=True)
class PretrainPlan(Record):
    """What `pretrain auto` decided, before the first step of its run."""

    format: int = 1
    job: str = "pretrain"  # with these, `vitrail pretrain --config OUT/plan.json` starts the run elsewhere
    recipe: str = "auto"
    depth: int
    width: int
    steps: int
    batch: int
    epochs: float
    flops: float  # of training
    seconds: float | None  # that the run is to take, from its start to its end; null: not measured
    budget_seconds: float | None
    best_depth: float  # by the law, not rounded
    pilot: PilotResult | None  # null: there was no room for one
    expected: float | None  # accuracy of images like the training images
    interval: Interval | None  # that holds what is reached in 95 % of cases
    why: Sequence[str]  # sentences: what was decided by what, and what is assumed
    asked: Any  # the options that were given
    config: Any  # of the run


@dataclass(frozen=True, kw_only=True)
class Foretold(Record):
    """What came of the plan: written last."""

    expected: float | None
    interval: Interval | None
    reached: float
    count: int  # images that were judged
    inside: bool | None = optional()  # the interval, widened by that of the judged images
    seconds: float  # from the command to here, in this session
    budget_seconds: float | None


FILES: Files = {
    "plan.json": PretrainPlan,
    "pilot/": "a run, judged on held-out images; `half/` in it is the same at half the steps",
    "foretold.json": Foretold,
}
