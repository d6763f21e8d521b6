"""Table 4: the paper's fine-tuning runs. None was run here.

All: SGD with momentum 0.9, batch 512, cosine decay, no weight decay, the gradient's norm clipped at 1, 384 pixels. The
learning rate is chosen from the sweep on a part of the training data; the one here is the middle of it. The warm-up is
that of the official code: the paper says nothing of one.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from vitrail.data.views import Augment, InceptionCrop, SquareResize
from vitrail.jobs.finetune import Finetune
from vitrail.train.optim import Momentum
from vitrail.train.schedule import Cosine


class Row(NamedTuple):
    """A row of Table 4, and the warm-up of the official code."""

    data: str
    steps: int
    warmup: int
    sweep: tuple[float, ...]
    lr: float


# fmt: off
TABLE4 = (
    Row("imagenet",  20_000, 500, (0.003, 0.01, 0.03, 0.06),  0.03),
    Row("cifar100",  10_000, 500, (0.001, 0.003, 0.01, 0.03), 0.01),
    Row("cifar10",   10_000, 500, (0.001, 0.003, 0.01, 0.03), 0.01),
    Row("pets",         500, 100, (0.001, 0.003, 0.01, 0.03), 0.01),
    Row("flowers",      500, 100, (0.001, 0.003, 0.01, 0.03), 0.01),
    Row("vtab",       2_500, 100, (0.01,),                    0.01),
)
# fmt: on


def table4(row: Row) -> Finetune:
    """The run of one row, with one learning rate of its sweep."""
    return Finetune(
        train=f"{row.data}@train",
        test=f"{row.data}@test",
        resolution=384,
        steps=row.steps,
        batch=512,
        resize=SquareResize(),
        augment=Augment(crop=InceptionCrop()),
        optimizer=Momentum(lr=row.lr),
        schedule=Cosine(row.warmup),
    )


def _recipe(row: Row) -> Callable[[], Finetune]:
    made = partial(table4, row)
    rates = ", ".join(f"{lr:g}" for lr in row.sweep)
    made.__doc__ = f"Table 4: {row.data} at 384 pixels, {row.steps:,} steps; the paper's sweep: {rates}. Not run here."
    return made


RECIPES: dict[str, Callable[[], Finetune]] = {f"paper-{row.data}": _recipe(row) for row in TABLE4}
