"""A recipe's proof (`python -m vitrail.recipes.reference_run RUN`), in `vitrail/recipes/proofs/`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vitrail.core.estimate import Interval
from vitrail.records.record import Files, Record

Job = Literal["pretrain", "finetune"]


@dataclass(frozen=True)
class On(Record):
    """Where the run was made."""

    processor: str
    device: str
    precision: str
    threads: int


@dataclass(frozen=True)
class Curve(Record):
    """The curves of a run."""

    train: tuple[tuple[int, float], ...]  # step, mean loss since the point before; at most 200
    validation: tuple[tuple[int, float, float], ...]  # step, loss, accuracy; empty where nothing is named (mae)


@dataclass(frozen=True)
class Proof(Record):
    """What a recipe reached when it was run here."""

    recipe: str
    job: Job
    config: Mapping[str, Any]  # the resolved config
    machine: On
    vitrail: str  # version
    date: str  # YYYY-MM-DD, when the run was last started
    seconds: float  # of training
    accuracy: float | None  # null where nothing was judged
    interval: Interval | None
    count: int | None  # images of the final evaluation
    weights_sha256: str
    curve: Curve


FILES: Files = {"pretrain-digits.json": Proof}
