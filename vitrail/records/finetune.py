"""Fine-tuning by the protocol (`vitrail finetune` with a sweep, repeats or a budget).

A run for each rate, judged on held-out images; then runs of the best rate on all training images, tested once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vitrail.core.estimate import Interval
from vitrail.records.images import BrokenImage
from vitrail.records.record import Files, Record, optional


@dataclass(frozen=True)
class Plan:
    """What is going to be done. Its type is written under "type"."""

    rates: tuple[float, ...]  # a trial each; one rate alone needs none
    seeds: tuple[int, ...]  # a final run each
    steps: int  # of a trial and of a final run
    batch: int
    warmup: int
    held_out: float | None  # share of the training images; null: the validation that the user names
    classes: int
    train_images: int
    trial_images: int  # that trials learn from
    judged_images: int  # that the rate is chosen by
    test_images: int
    seconds_per_step: float  # measured
    seconds: float  # of everything
    memory_gib: float  # by models.cost
    memory_there: float | None  # GiB that are free
    why: tuple[str, ...]  # sentences: the rule, what a budget took away, what was assumed

    @property
    def trials(self) -> int:
        """How many trials there are."""
        return len(self.rates) if len(self.rates) > 1 else 0


@dataclass(frozen=True, kw_only=True)
class PlanFile(Record):
    """Written before the first step, followed after a restart."""

    format: int = 1
    plan: Plan


@dataclass(frozen=True, kw_only=True)
class Trial(Record):
    """A run of the sweep, judged on held-out images."""

    folder: str
    learning_rate: float
    accuracy: float | None  # on the held-out images; this and all below are null where it failed
    interval: Interval | None
    count: int | None  # held-out images
    seconds: float | None  # of training
    memory_gib: float | None  # most held, GiB
    images_per_second: float | None
    weights_sha256: str | None
    restarts: int | None
    loss: float | None  # on the held-out images
    failed: str | None  # why it failed; null where it did not


@dataclass(frozen=True, kw_only=True)
class FinalRun(Record):
    """A run on all training images, tested once."""

    folder: str
    learning_rate: float
    seed: int
    accuracy: float | None  # on the test images; null without any
    interval: Interval | None
    count: int | None  # test images
    seconds: float | None  # of training
    memory_gib: float | None  # most held, GiB
    images_per_second: float | None
    weights_sha256: str | None
    restarts: int | None


@dataclass(frozen=True, kw_only=True)
class Sweep(Record):
    """What is known so far; written anew after every run."""

    format: int = 1
    rule: str  # by which a trial is chosen
    trials: Sequence[Trial]
    chosen: Trial | None
    runs: Sequence[FinalRun]


@dataclass(frozen=True, kw_only=True)
class FailedTrial(Record):
    """Why a trial diverged."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class FinetuneResult(Record):
    """What the protocol reached; written last. Without a remark a number is of the first final run."""

    job: str
    steps: int
    images: int  # seen in training
    parameters: int
    trained_parameters: int
    macs_per_image: int  # multiply-adds of a forward pass
    training_flops_per_image: int
    accuracy: float | None  # mean over the final runs
    interval: Interval | None  # Wilson's of one run, Student's over several
    spread: float | None  # standard deviation of the final runs; null for one
    count: int | None  # test images
    seconds: float  # of all training
    images_per_second: float
    memory_gib: float | None  # most of all runs, GiB
    learning_rate: float
    rule: str  # by which a trial is chosen
    chosen: Trial | None
    trials: Sequence[Trial]
    runs: Sequence[FinalRun]
    broken: Sequence[BrokenImage]
    restarts: int  # of all runs
    weights_sha256: str


@dataclass(frozen=True, kw_only=True)
class TuningRow(Record):
    """One choice of what is trained."""

    name: str  # as --compare names it: "head", "lora-8"
    tuned: Mapping[str, Any]  # config of it
    folder: str
    learning_rate: float
    runs: int  # final runs
    accuracy: float | None
    interval: Interval | None
    spread: float | None  # standard deviation of the final runs
    count: int | None  # test images
    seconds: float  # of all training
    memory_gib: float | None  # most held, GiB
    parameters: int
    trained_parameters: int
    images_per_second: float


@dataclass(frozen=True, kw_only=True)
class TuningComparison(Record):
    """(with `--compare`) A table of the choices, written anew after every one."""

    format: int | None = optional()
    job: str | None = optional()  # "compare", in the output of --json
    train: str  # DATA
    test: str | None  # DATA
    init: str  # MODEL
    wanted: Sequence[str] | None = optional()  # names of all choices
    rows: Sequence[TuningRow]


FILES: Files = {
    "config.json": "as of a run; `steps` and `batch` of 0 are scaled to the data",
    "plan.json": PlanFile,
    "transfer.json": Sweep,
    "trials/lr-0.003/": "a run that is judged on held-out images; finished, it keeps no checkpoints",
    "trials/lr-0.003/failed.json": FailedTrial,
    "final/seed-0/": "a run on all training images, tested once",
    "bundle/": "the model of the first final run",
    "result.json": FinetuneResult,
    "tunings.json": TuningComparison,
}
