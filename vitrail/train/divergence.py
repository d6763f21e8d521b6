"""Whether training is still going well: a loss that is no number, or that jumps, is caught at the step that had it."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from statistics import median

from vitrail.core.errors import BadInput

REMEMBERED = 100  # steps whose losses say what is usual
JUDGED_FROM = 50  # steps after which there is a usual
SPIKE = 4.0  # a loss above this multiple of the median, plus one nat, has jumped
SKIPS = 2  # batches that a run may leave out
ADVICE = "Lower the learning rate, lengthen the warm-up, or set clip to 1"


class Diverged(BadInput):
    """A run that cannot go on: its loss or its weights are no numbers any more, however often it went back."""


class LossSpike(Exception):
    """The update that followed `step` finished ones broke the training; `keys` are the images of this process."""

    def __init__(self, step: int, reason: str, keys: Sequence[str]):
        super().__init__(f"step {step}: {reason}")
        self.step, self.reason, self.keys = step, reason, list(keys)


def no_losses() -> deque[float]:
    """What a run remembers of its losses, at its start."""
    return deque(maxlen=REMEMBERED)


@dataclass
class SpikeDetector:
    """Looks at every loss and gradient norm; `usual` are the last losses."""

    usual: deque[float] = field(default_factory=no_losses)

    def check(self, step: int, loss: float, gradient_norm: float, keys: Sequence[str]) -> None:
        """Raises BadStep; all processes must see the same numbers."""
        if not isfinite(loss):
            raise LossSpike(step, f"the loss is {loss}", keys)
        if not isfinite(gradient_norm):
            raise LossSpike(step, f"the norm of the gradient is {gradient_norm}", keys)
        if len(self.usual) >= JUDGED_FROM:
            middle = median(self.usual)
            if loss > SPIKE * middle + 1:
                raise LossSpike(step, f"the loss jumped to {loss:.4g} from about {middle:.4g}", keys)
        self.usual.append(loss)


def limit_skips(skipped: Sequence[int], bad: LossSpike, evidence: str) -> None:
    """Raises Diverged when a run has already left out as many batches as it may."""
    if len(skipped) >= SKIPS:
        raise Diverged(
            f"at step {bad.step} {bad.reason}, after the batches of steps {', '.join(map(str, skipped))} had been left "
            f"out; the evidence is in {evidence}, the last checkpoint is whole. "
            f"{ADVICE}"
        )
