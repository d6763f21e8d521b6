"""A trial of `finetune auto` that is clearly behind an earlier one at the same part of its way is cut short there.

Successive halving (arXiv 1502.07943) with a test in place of the halves: so few trials are compared that a half of them
means nothing, and held-out images tell whether a difference may be chance.
"""

from collections.abc import Callable, Sequence
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from vitrail.core.files import read_json, write_json
from vitrail.core.progress import say
from vitrail.jobs.finetune.auto_plan import MARKS
from vitrail.models.build import Model
from vitrail.models.objective import encoder_of
from vitrail.train.callbacks import Callback
from vitrail.train.step import TrainState

FILE = "race.json"  # in the folder of a trial: the loss of each held-out image at each mark, and who it was cut for
Losses = Callable[[Model], Float64[np.ndarray, " m"]]  # of a model, for each held-out image
CLEARLY = 2.0  # standard errors of the mean difference of the losses


class Race(Callback):
    """Looks at the held-out images at each mark but the last, and ends a training that is clearly behind a rival."""

    needs_metrics = False

    def __init__(self, folder: Path, steps: int, rivals: Sequence[Path], judge: Losses):
        self.every, self._steps = max(1, steps // MARKS), steps
        self._folder, self._rivals, self._judge = folder, rivals, judge

    def __call__(self, state: TrainState, metrics: dict[str, float]) -> None:
        if state.step % self.every or state.step >= self.every * MARKS or state.step >= self._steps:
            return
        mark, losses = str(state.step // self.every), self._judge(encoder_of(state.model))
        found = _read(self._folder)
        ahead = next((rival.name for rival in self._rivals if _behind(losses, _read(rival)["losses"].get(mark))), None)
        found["losses"][mark] = losses.tolist()
        if ahead is not None:
            say(f"{self._folder.name} is clearly behind {ahead} after {state.step} of {self._steps} steps: cut short")
            found["cut"] = f"clearly behind {ahead} after {state.step} of {self._steps} steps"
            state.stopped = True
        write_json(self._folder / FILE, found)


def cut_short(folder: Path) -> str | None:
    """Why the trial was, if it was."""
    said: str | None = _read(folder)["cut"]
    return said


def _read(folder: Path) -> dict[str, Any]:
    file = folder / FILE
    return read_json(file) if file.exists() else {"losses": {}, "cut": None}


def _behind(own: np.ndarray, other: list[float] | None) -> bool:
    if other is None:
        return False
    more = own - np.array(other)
    return bool(more.mean() > CLEARLY * more.std(ddof=1) / sqrt(len(more)))
