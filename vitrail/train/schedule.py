"""Learning rates over a run, after a linear warm-up from zero: Tables 3 and 4, "Scaling Vision Transformers", BiT."""

from dataclasses import dataclass
from math import cos, pi, sqrt

from vitrail.core.errors import BadInput


@dataclass(frozen=True)
class Linear:
    """Straight down from the base rate to `end`."""

    warmup: int = 0  # steps
    end: float = 1e-5


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from the base rate to zero."""

    warmup: int = 0  # steps


@dataclass(frozen=True)
class Rsqrt:
    """Down with the inverse square root of the steps, and linearly to zero at the end ("Scaling Vision Transformers").

    But for the cooldown it does not depend on the length of the run, so one run can be cooled down at several lengths.
    """

    warmup: int = 0  # steps; g/14: 10,000
    timescale: int = 10_000  # steps after the warm-up until the rate is 1 / sqrt(2) of the base
    cooldown: int = 0  # the last so many steps; g/14: 50,000 of a million

    def check(self) -> None:
        """Raises BadInput for lengths that mean nothing."""
        if self.timescale < 1 or self.cooldown < 0:
            raise BadInput(f"a timescale is at least one step, a cooldown none: {self}")


@dataclass(frozen=True)
class Steps:
    """Down to a tenth at each of some shares of the run: BiT. The defaults are those of its longer fine-tuning.

    Its code: a warm-up of 500 steps of 10,000 or 20,000; of 500 steps 100, and `at` is 0.4, 0.6, 0.8. Pre-training:
    5,000 steps, and the rate falls at 30, 60 and 80 of 90 epochs.
    """

    warmup: int = 0  # steps
    at: tuple[float, ...] = (0.3, 0.6, 0.9)  # of all steps, the warm-up included
    factor: float = 0.1

    def check(self) -> None:
        """Raises BadInput for places outside of the run."""
        if not all(0 < share < 1 for share in self.at):
            raise BadInput(f"the rate falls at shares of the run, between 0 and 1, not at {self.at}")


ScheduleConfig = Linear | Cosine | Rsqrt | Steps


def learning_rate(config: ScheduleConfig, base: float, step: int, steps: int) -> float:
    """The rate of the update that follows `step` finished ones, of `steps` in all.

    The official formula: decay runs from the end of the warm-up to the end; the warm-up multiplies it, so the rate at
    step 0 is exactly 0 when there is a warm-up. Raises BadInput for a schedule that means nothing.
    """
    after = max(0, step - config.warmup)
    progress = min(1.0, after / max(1, steps - config.warmup))
    match config:
        case Linear(end=end):
            rate = end + (base - end) * (1 - progress)
        case Cosine():
            rate = base * 0.5 * (1 + cos(pi * progress))
        case Rsqrt(timescale=timescale, cooldown=cooldown):
            config.check()
            rate = base / sqrt(1 + after / timescale)
            if cooldown:
                rate *= min(1.0, max(0, steps - step) / cooldown)
        case Steps(at=at, factor=factor):
            config.check()
            rate = base * factor ** sum(step >= round(share * steps) for share in at)
    return rate * min(1.0, step / config.warmup) if config.warmup else rate
