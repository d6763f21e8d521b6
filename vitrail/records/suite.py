"""A suite (`vitrail suite --out`). How intervals are made: [suites.md](suites.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vitrail.core.estimate import Interval
from vitrail.records.record import Files, Record, optional

State = Literal["done", "failed", "absent", "waiting"]
How = Literal["paired by images", "paired by draws", "paired by seeds", "unpaired"]


@dataclass(frozen=True, kw_only=True)
class ValueWithInterval(Record):
    """A number with its interval."""

    value: float
    interval: Interval | None  # null where it is not known


@dataclass(frozen=True, kw_only=True)
class SuiteDifference(Record):
    """The model less the other one."""

    value: float
    interval: Interval | None
    how: How


@dataclass(frozen=True, kw_only=True)
class OtherAccuracy(Record):
    """What the other model reaches."""

    accuracy: float
    interval: Interval | None


@dataclass(frozen=True, kw_only=True)
class SuiteScore(Record):
    """What was reached on a task."""

    of: str  # "fine-tuned", "5 shots"
    accuracy: float | None  # null where only the other model has one
    interval: Interval | None
    count: int | None = optional()  # test images
    against: OtherAccuracy | None = optional()
    difference: SuiteDifference | None = optional()


@dataclass(frozen=True, kw_only=True)
class PublishedAccuracy(Record):
    """What others published."""

    model: str
    accuracy: float
    source: str


@dataclass(frozen=True, kw_only=True)
class SuiteTask(Record):
    """A task."""

    name: str
    group: str
    in_means: bool  # whether it counts in the means
    state: State
    sentence: str  # why it failed or is absent
    train: str | None  # DATA
    test: str | None  # DATA
    counts: Mapping[str, int | None]  # "train", "test", "classes"
    layout: str  # how its data are provided
    scores: Sequence[SuiteScore]
    published: Sequence[PublishedAccuracy]
    seconds: float  # of work, over all sessions
    folder: str


@dataclass(frozen=True, kw_only=True)
class PublishedMean(Record):
    """The mean of what others published, of the same tasks."""

    model: str
    accuracy: float
    tasks: int


@dataclass(frozen=True, kw_only=True)
class SuiteMean(Record):
    """The mean of a group of tasks."""

    of: str  # "fine-tuned", "5 shots"
    group: str  # or "all tasks"
    tasks: int  # that the mean is of
    expected: int  # tasks of the group
    mean: ValueWithInterval | None = optional()
    difference: ValueWithInterval | None = optional()
    compared: int | None = optional()  # tasks that both models have
    against: ValueWithInterval | None = optional()
    published: Sequence[PublishedMean]


@dataclass(frozen=True, kw_only=True)
class TriedSetting(Record):
    """A learning rate and a number of steps, on the held-out parts."""

    lr: float
    steps: int
    mean: float  # accuracy over the tasks
    interval: Interval | None


@dataclass(frozen=True, kw_only=True)
class ChosenSetting(Record):
    """The setting of all tasks."""

    lr: float
    steps: int


@dataclass(frozen=True, kw_only=True)
class SuiteChoice(Record):
    """By what one setting was chosen for all tasks."""

    tasks: Sequence[str]  # names
    settings: Sequence[TriedSetting]
    chosen: ChosenSetting


@dataclass(frozen=True, kw_only=True)
class SuiteResult(Record):
    """The table, written anew after every task."""

    format: int = 1
    suite: str  # name
    about: str
    groups: Sequence[str]
    model: str  # MODEL
    against: str | None  # MODEL
    method: Mapping[str, Any]  # its type, "FineTuned" or "FewShot", under "type"
    finished: bool  # whether every task was tried
    sentence: str  # what the table says
    headline: str | None  # the score that the sentence is about
    choice: SuiteChoice | None
    tasks: Sequence[SuiteTask]
    means: Sequence[SuiteMean]
    definitions: Mapping[str, Any]  # name of a task -> its definition
    seconds: float


@dataclass(frozen=True, kw_only=True)
class RidgeGrid(Record):
    """(few shots, older variant) The accuracy of every strength of the ridge."""

    accuracies: Mapping[str, Sequence[float]]  # shots -> one a strength, 2^-10 to 2^19
    count: int  # test images


FILES: Files = {
    "config.json": 'as of a run, of the job "suite", without its tasks',
    "suite.json": SuiteResult,
    "model/TASK/": "a run (fine-tuned; of a task that judges another task's model an evaluation), or a few-shot "
    "evaluation",
    "against/TASK/": "(with `--against`) the same of the other model",
    "model/TASK/task.json": "(few shots) what it is of",
    "model/TASK/grid.json": RidgeGrid,
    "choice/lr-0.01-steps-2500/TASK/": "the runs by which one setting is chosen for all tasks",
}
