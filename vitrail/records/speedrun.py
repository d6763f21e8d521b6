"""A speedrun (`vitrail speedrun TRACK --out DIR`).

One process a seed; `seed-N/` is the folder of its run, too. An entry of the leaderboard is its `speedrun.json`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vitrail.core.estimate import Interval
from vitrail.records.record import Files, Record


@dataclass(frozen=True, kw_only=True)
class Track(Record):
    """What is to be reached, in how long, where."""

    name: str
    data: str  # name of the data set, whose train split is learned from
    test: str  # DATA that the trained model is judged on, once
    device: Literal["cpu", "cuda"]  # two cores of a processor, or one GPU
    bar: float  # accuracy that the mean over seeds has to be above
    seconds: float  # that no seed may go beyond
    recipe: str  # of vitrail pretrain, without its validation and test images


@dataclass(frozen=True, kw_only=True)
class Caches(Record):
    """What was there before the process began; the system's own cache of files is not known."""

    compiler: Literal["cold"] = "cold"  # of torch.compile and Triton: each seed has an empty one
    folder: Literal["warm", "cold"]  # vitrail's cache folder: listings, measured kernels


@dataclass(frozen=True, kw_only=True)
class Attempt(Record):
    """One seed: a model trained in a process of its own, and judged once."""

    seed: int
    accuracy: float  # of the test images
    interval: Interval  # of the test images
    count: int  # test images
    seconds: float  # from the start of the process until the test images were judged
    starting: float  # of these, for the interpreter and its imports
    preparing: float  # for data, the model, and writing its weights
    training: float  # for all steps; what torch.compile takes is in here
    judging: float  # for loading the weights and the test images
    steps: int
    parameters: int
    total_flops: int  # of training
    weights_sha256: str
    caches: Caches
    load: float | None  # processes that wanted to run, on the mean of the minute before; null: not known
    processor: str  # that computed: a GPU's name where one did
    device: str  # cpu, cuda:0
    cores: int  # of the processor that the process could use
    threads: int  # of the processor, for one operation
    precision: str
    compiled: str | None  # what torch.compile made in training
    vitrail: str  # version
    torch: str  # version
    python: str  # version
    commit: str | None  # of the checkout that the package lay in; null: it lay in none
    changed: bool  # whether files of the package were other than in the commit
    started: str  # time in ISO 8601, UTC


@dataclass(frozen=True, kw_only=True)
class SpeedrunResult(Record):
    """All seeds so far, and whether the bar is reached."""

    track: Track
    config: Mapping[str, Any]  # of every seed but for the seed itself
    changes: Sequence[str]  # options by which it is another recipe than the track's
    asked: Sequence[int]  # how many seeds were asked for; several numbers: more were asked for later
    starts: Mapping[str, int]  # seed -> how often it was started: one that was interrupted starts over
    attempts: Sequence[Attempt]
    mean: float | None  # accuracy over the seeds
    interval: Interval | None  # of the mean, Student's
    p: (
        float | None
    )  # one-sided, of Student's t-test that the mean is above the bar; null: the seeds' noise is not known
    seconds: float | None  # mean over the seeds
    slowest: float | None  # seconds
    undecided: Sequence[str]  # why it cannot be said whether the bar is reached
    reached: bool  # decided, p below 0.01, and no seed beyond the limit
    finding: str
    test_time_augmentation: Literal["none"] = "none"
    command: Sequence[str]


FILES: Files = {
    "speedrun.json": SpeedrunResult,
    "seed-0/attempt.json": Attempt,
    "seed-0/": "the run ([above](#a-run-vitrail-pretrain-vitrail-finetune)); `evaluation/` is that of the test images",
    "report.html": "the page",
}
