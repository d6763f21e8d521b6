"""A study (`vitrail study NAME --out`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vitrail.core.estimate import Interval
from vitrail.core.figures import Figure
from vitrail.records.linear import LinearRow
from vitrail.records.record import Files, Record, optional

State = Literal["finished", "unfinished", "missing", "failed"]


@dataclass(frozen=True, kw_only=True)
class Measured(Record):
    """What was measured of a run."""

    measure: Mapping[str, Any]  # its type under "type"
    values: Mapping[str, float | None]  # name -> value
    count: int | None  # test images
    rows: Sequence[LinearRow] | None = optional()  # (few-shot accuracy)
    folder: str | None = optional()  # (fine-tuning) of its run
    seconds: float | None = optional()


@dataclass(frozen=True, kw_only=True)
class FailedRun(Record):
    """Why a run ended; removed when it is finished."""

    said: str
    trace: str


@dataclass(frozen=True, kw_only=True)
class OtherResults(Record):
    """Where the same run was made with other results, found by `--merge`; those beside it count."""

    said: Mapping[str, str]  # folder -> the numbers of both, and by which machines


@dataclass(frozen=True, kw_only=True)
class StudyMeasure(Record):
    """What is measured of every run."""

    name: str
    noise: str  # what the intervals are of
    share: bool  # an accuracy from 0 to 1, not a plain number


@dataclass(frozen=True, kw_only=True)
class StudyBase(Record):
    """The run from which the others depart."""

    name: str
    config: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class StudyValue(Record):
    """A measure of a row."""

    values: Sequence[float]  # one a seed
    mean: float
    interval: Interval | None


@dataclass(frozen=True, kw_only=True)
class StudyRunState(Record):
    """A run with one of its seeds."""

    folder: str
    seed: int
    state: State
    failure: str | None  # why it failed
    differs: Sequence[str] | None = optional()  # where it was made with other results, a sentence each


@dataclass(frozen=True, kw_only=True)
class StudyRow(Record):
    """A run with all its seeds."""

    name: str
    change: str  # what is other than in the base
    at: Mapping[str, float | int | str]  # where it stands in the figures
    values: Mapping[str, StudyValue]  # by the name of the measure
    parameters: float | None  # this and below: means over the seeds
    flops_per_image: float | None  # of training
    total_flops: float | None
    seconds: float | None  # of training
    runs: Sequence[StudyRunState]


@dataclass(frozen=True, kw_only=True)
class StudyCost(Record):
    """What all runs took together."""

    runs: int
    seconds: float  # of training
    measuring_seconds: float
    total_flops: int | float
    machines: Mapping[str, int]  # a machine -> runs made there


@dataclass(frozen=True, kw_only=True)
class StudyResult(Record):
    """What a study found so far."""

    study: str  # name
    question: str
    source: str  # place in the paper
    scale: str  # "smoke", "small", "medium", "paper"
    seeds: int
    finding: str
    complete: bool  # whether every run has a value of every measure
    paper: str  # what the paper found
    remarks: Sequence[str]
    measures: Sequence[StudyMeasure]
    measured: Sequence[Mapping[str, Any]]  # configs of the measures
    base: StudyBase
    rows: Sequence[StudyRow]
    figures: Sequence[Figure]
    cost: StudyCost
    command: Sequence[str] | None = optional()  # words that make it again


@dataclass(frozen=True, kw_only=True)
class ThroughputResult(Record):
    """How many images a second a model takes: a run of the study `cost`."""

    job: Literal["speed"] = "speed"
    seconds: float
    parameters: int
    macs_per_image: int  # multiply-adds of a forward pass
    training_flops_per_image: int
    images_per_second: float  # of the fastest batch size
    training_images_per_second: float  # of the fastest batch size
    training_over_inference: float | None  # in time
    by_batch: Mapping[str, float]  # batch size -> images a second
    training_by_batch: Mapping[str, float]
    largest_batch: int | None  # null where memory is not known
    largest_training_batch: int | None
    reckoned: bool  # whether these two are by arithmetic, as on a CPU
    attention: str | None = optional()  # kernel in inference, as environment.json has it of training


FILES: Files = {
    "STUDY/study.json": StudyResult,
    "STUDY/report.html": "the page",
    "runs/STUDY-RUN-sSEED-DIGEST/": "a run, shared by all studies that ask for its config; `runs/....log`: what it "
    "said where it had a process of its own",
    "runs/.../measured/DIGEST.json": Measured,
    "runs/....failed.json": FailedRun,
    "runs/....differs.json": OtherResults,
    "runs/.../result.json` of `cost": ThroughputResult,
}
