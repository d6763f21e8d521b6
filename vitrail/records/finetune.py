"""Fine-tuning by the protocol (`vitrail finetune` with a sweep, repeats or a budget).

A run for each rate, judged on held-out images; then runs of the best rate on all training images, tested once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vitrail.core.estimate import Interval
from vitrail.records.images import UnreadableImage
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


@dataclass(frozen=True)
class AutoPlan:
    """What `finetune auto` is going to do."""

    candidates: tuple[str, ...]  # names; none: the linear judge is the model
    folds: int  # 1: one part is held out; more: each image is held out once; 0: none is
    steps: int  # of the final run; after the trials it is settled by the time that is left
    trial_steps: int
    batch: int  # images a step
    classes: int
    train_images: int
    judged_images: int
    test_images: int
    budget_seconds: float
    timed: bool  # False: the steps were given
    seconds_per_step: float
    judge_seconds: float  # an image
    seconds: float  # of everything
    why: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class AutoPlanFile(Record):
    """Of `finetune auto`: written before anything is computed, followed after a restart."""

    format: int = 1
    plan: AutoPlan


# What trials may be chosen by in place of accuracy, with its name: the first that is known.
CHOSEN_BY = {"mean_average_precision": "mean average precision", "balanced_accuracy": "mean over classes"}


def chosen_by(row: Mapping[str, Any]) -> str:
    """The field that a trial is chosen by: accuracy, or what takes its place for such images and such an aim."""
    return next((name for name in CHOSEN_BY if row.get(name) is not None), "accuracy")


def score_of(row: Mapping[str, Any]) -> Any:
    """The value of that field; None for a trial that failed."""
    return row[chosen_by(row)]


@dataclass(frozen=True, kw_only=True)
class Trial(Record):
    """A run of the sweep, judged on held-out images; of `finetune auto` also the linear judge, without a folder."""

    folder: str | None
    learning_rate: float | None
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
    mean_average_precision: float | None = optional()  # (several classes an image) on the held-out images
    name: str | None = optional()  # this and what follows of finetune auto: what was tried
    temperature: float | None = optional()  # fitted on the held-out images, for the loss
    wall: float | None = optional()  # seconds that it took, with reading and judging
    step: float | None = optional()  # seconds
    start: float | None = optional()  # seconds of a run besides its steps
    balanced_accuracy: float | None = optional()  # mean over the classes, where the aim is that they count alike
    adjustment: float | None = optional()  # so much of the log share of each class is taken from the logits then
    cut: str | None = optional()  # why it was cut short; null where it was not

    @property
    def score(self) -> float | None:
        """What it is chosen by."""
        return score_of(vars(self))


@dataclass(frozen=True, kw_only=True)
class FinalRun(Record):
    """A run on all training images, tested once."""

    folder: str | None  # null, as the rate, where the linear judge is the model
    learning_rate: float | None
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
    images_per_second: float | None
    memory_gib: float | None  # most of all runs, GiB
    learning_rate: float | None
    rule: str  # by which a trial is chosen
    chosen: Trial | None
    trials: Sequence[Trial]
    runs: Sequence[FinalRun]
    broken: Sequence[UnreadableImage]
    restarts: int  # of all runs
    weights_sha256: str
    recipe: str | None = optional()  # "auto"
    failed: str | None = optional()  # (finetune auto) why the final run has no model
    mean_average_precision: float | None = optional()  # (finetune auto, several classes an image)
    balanced_accuracy: float | None = optional()  # (finetune auto, where the aim is that classes count alike)


@dataclass(frozen=True, kw_only=True)
class TuningRow(Record):
    """One choice of what is trained."""

    name: str  # as --compare names it: "head", "lora-8"
    tuned: Mapping[str, Any]  # config of it
    folder: str
    learning_rate: float | None
    runs: int  # final runs
    accuracy: float | None
    interval: Interval | None
    spread: float | None  # standard deviation of the final runs
    count: int | None  # test images
    seconds: float  # of all training
    memory_gib: float | None  # most held, GiB
    parameters: int
    trained_parameters: int
    images_per_second: float | None


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


@dataclass(frozen=True, kw_only=True)
class DoubtfulLabel(Record):
    """A training image whose label the linear judge doubts."""

    key: str
    index: int  # place in the training data
    label: str
    probability: float  # of the label, by a judge that did not learn from the image
    rather: str  # the class that it rather is
    rather_probability: float
    picture: int | None  # number in doubtful.npz


@dataclass(frozen=True, kw_only=True)
class DoubtfulLabels(Record):
    """Confident learning on the held-out images of `finetune auto`."""

    judged: int  # images that were held out
    count: int  # of these, labels that are doubted
    rows: Sequence[DoubtfulLabel]  # the most doubtful first, at most 10


FILES: Files = {
    "config.json": "as of a run; `steps` and `batch` of 0 are scaled to the data",
    "plan.json": (PlanFile, AutoPlanFile),
    "transfer.json": Sweep,
    "trials/lr-0.003/": "a run that is judged on held-out images; finished, it keeps no checkpoints",
    "trials/lr-0.003/failed.json": FailedTrial,
    "judge.npz": "of `finetune auto`: `weights` [folds + 1, D, K], `bias` [folds + 1, K]; the last of all images",
    "judge.json": "how the linear judge was judged",
    "doubtful.json": DoubtfulLabels,
    "doubtful.npz": "their pictures, uint8 [H, W, 3] each",
    "trials/NAME/judged.json": "how a trial of `finetune auto` was judged",
    "trials/NAME/race.json": "the losses of the held-out images on its way, and why it was cut short",
    "final.json": "what `finetune auto` chose, and the steps of its final run",
    "final/seed-0/": "a run on all training images, tested once",
    "bundle/": "the model of the first final run",
    "result.json": FinetuneResult,
    "tunings.json": TuningComparison,
}
