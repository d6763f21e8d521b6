"""Learning rates over a run: linear or cosine decay after a linear warm-up from zero (Tables 3 and 4)."""

from dataclasses import dataclass
from math import cos, pi


@dataclass(frozen=True)
class Linear:
    """Straight down from the base rate to `end`."""

    warmup: int = 0  # steps
    end: float = 1e-5


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from the base rate to zero."""

    warmup: int = 0  # steps


ScheduleConfig = Linear | Cosine


def learning_rate(config: ScheduleConfig, base: float, step: int, steps: int) -> float:
    """The rate of the update that follows `step` finished ones, of `steps` in all.

    The official formula: decay runs from the end of the warm-up to the end; the warm-up multiplies it, so the rate at
    step 0 is exactly 0 when there is a warm-up.
    """
    progress = min(1.0, max(0.0, (step - config.warmup) / max(1, steps - config.warmup)))
    match config:
        case Linear(end=end):
            rate = end + (base - end) * (1 - progress)
        case Cosine():
            rate = base * 0.5 * (1 + cos(pi * progress))
    return rate * min(1.0, step / config.warmup) if config.warmup else rate
