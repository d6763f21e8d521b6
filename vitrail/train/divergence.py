"""Divergence: a loss or a gradient that is NaN or infinite, or a loss that jumps, is caught at its step."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite

from vitrail.core.errors import BadInput

REMEMBERED = 100  # steps whose losses are compared with
CHECKED_FROM = 50  # losses from which on there is something to compare with
USUAL = 0.9  # share of these that lie below what is usual: where some batches are mixed, those have the higher losses
SPIKE = 4.0  # a loss above this multiple of it, plus one nat, has jumped
SKIPS = 2  # batches that a run may skip
ADVICE = (
    "Lower the learning rate, lengthen the warm-up, or set clip to 1 where it is off; where the loss was near 0, the "
    "images learned by heart, raise the optimizer's eps or train for fewer steps"
)


class Diverged(BadInput):
    """A run that cannot go on: its weights are NaN, or a batch broke it again after it went back SKIPS times."""


class LossSpike(Exception):
    """The update after `step` finished ones broke the training; `keys` name the images of its batch in this process."""

    def __init__(self, step: int, reason: str, keys: Sequence[str]):
        super().__init__(f"step {step}: {reason}")
        self.step, self.reason, self.keys = step, reason, list(keys)


def no_losses() -> deque[float]:
    """An empty history of losses."""
    return deque(maxlen=REMEMBERED)


@dataclass
class SpikeDetector:
    """Compares every loss with the last ones, `history`."""

    history: deque[float] = field(default_factory=no_losses)

    def check(self, step: int, loss: float, gradient_norm: float, keys: Sequence[str]) -> None:
        """Raises LossSpike where training broke; `loss` and `gradient_norm` must be the same in all processes."""
        if not isfinite(loss):
            raise LossSpike(step, f"the loss is {loss}", keys)
        if not isfinite(gradient_norm):
            raise LossSpike(step, f"the norm of the gradient is {gradient_norm}", keys)
        if len(self.history) >= CHECKED_FROM:
            usual = sorted(self.history)[int(USUAL * (len(self.history) - 1))]
            if loss > SPIKE * usual + 1:
                raise LossSpike(step, f"the loss jumped to {loss:.4g} from about {usual:.4g}", keys)
        self.history.append(loss)


def limit_skips(skipped: Sequence[int], bad: LossSpike, evidence: str) -> None:
    """Raises Diverged where a run has already skipped as many batches as it may."""
    if len(skipped) >= SKIPS:
        raise Diverged(
            f"at step {bad.step} {bad.reason}, after the batches of steps {', '.join(map(str, skipped))} had been left "
            f"out; the evidence is in {evidence}, the last checkpoint is whole. "
            f"{ADVICE}"
        )
