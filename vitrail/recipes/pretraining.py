"""Table 3: the paper's pre-training runs, one row a recipe. None was run here: they take thousands of accelerator-days.

All: batch 4096, 10,000 steps of warm-up, 224 pixels, Adam with beta 0.9 and 0.999, weight decay multiplied by the
learning rate, crops of 5 to 100 % of the area, flips, the sigmoid loss, a hidden tanh layer in the head of ViTs and
hybrids. On ImageNet also the gradient's norm is clipped at 1.

The sizes of the data sets are the published ones; `--train` says where yours lies.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from vitrail.jobs.pretrain import Pretrain
from vitrail.models.resnet import ResNetConfig
from vitrail.models.variants import variant
from vitrail.recipes.docstring import About
from vitrail.train.loss import Sigmoid
from vitrail.train.optim import Adam
from vitrail.train.schedule import Cosine, Linear

BATCH = 4096
WARMUP = 10_000

IMAGES = {"jft": 303_000_000, "imagenet21k": 14_197_122, "imagenet": 1_281_167}
CLASSES = {"jft": 18_291, "imagenet21k": 21_843, "imagenet": 1_000}  # where data are not at hand


class Row(NamedTuple):
    """A row of Table 3."""

    model: str
    data: str
    epochs: int
    lr: float
    decay: float
    dropout: float


# fmt: off
#              model       data           epochs  lr    decay  dropout
TABLE3 = (
    Row("B/16",     "jft",           7, 8e-4, 0.10, 0.0),
    Row("B/32",     "jft",           7, 8e-4, 0.10, 0.0),
    Row("L/32",     "jft",           7, 6e-4, 0.10, 0.0),
    Row("L/16",     "jft",           7, 4e-4, 0.10, 0.0),
    Row("L/16",     "jft",          14, 4e-4, 0.10, 0.0),
    Row("H/14",     "jft",          14, 3e-4, 0.10, 0.0),
    Row("R50x1",    "jft",           7, 1e-3, 0.10, 0.0),
    Row("R50x2",    "jft",           7, 1e-3, 0.10, 0.0),
    Row("R101x1",   "jft",           7, 8e-4, 0.10, 0.0),
    Row("R152x1",   "jft",           7, 6e-4, 0.10, 0.0),
    Row("R152x2",   "jft",           7, 6e-4, 0.10, 0.0),
    Row("R50+B/16", "jft",           7, 8e-4, 0.10, 0.0),
    Row("R50+B/32", "jft",           7, 8e-4, 0.10, 0.0),
    Row("R50+L/32", "jft",           7, 2e-4, 0.10, 0.0),
    Row("R50+L/16", "jft",           7, 4e-4, 0.10, 0.0),
    Row("R50+L/16", "jft",          14, 4e-4, 0.10, 0.0),
    Row("B/16",     "imagenet21k",  90, 1e-3, 0.03, 0.1),
    Row("B/32",     "imagenet21k",  90, 1e-3, 0.03, 0.1),
    Row("L/16",     "imagenet21k",  30, 1e-3, 0.03, 0.1),
    Row("L/32",     "imagenet21k",  30, 1e-3, 0.03, 0.1),
    Row("L/16",     "imagenet21k",  90, 1e-3, 0.03, 0.1),
    Row("L/32",     "imagenet21k",  90, 1e-3, 0.03, 0.1),
    Row("B/16",     "imagenet",    300, 3e-3, 0.30, 0.1),
    Row("B/32",     "imagenet",    300, 3e-3, 0.30, 0.1),
    Row("L/16",     "imagenet",    300, 3e-3, 0.30, 0.1),
    Row("L/32",     "imagenet",    300, 3e-3, 0.30, 0.1),
)

# What the authors' runs reached: top-1 of their validation images at 224 pixels, before any fine-tuning.
REACHED = {
    ("B/16", "imagenet21k", 90): 47.88, ("B/32", "imagenet21k", 90): 44.04, ("L/16", "imagenet21k", 90): 49.90,
    ("L/32", "imagenet21k", 90): 45.42, ("B/16", "imagenet", 300): 74.79, ("B/32", "imagenet", 300): 69.19,
    ("L/16", "imagenet", 300): 72.59, ("L/32", "imagenet", 300): 66.90,
}

# Table 6: top-1 on ImageNet of the runs on JFT, after fine-tuning at 384 pixels.
TUNED = {
    ("B/32", 7): 80.73, ("B/16", 7): 84.15, ("L/32", 7): 84.37, ("L/16", 7): 86.30, ("L/16", 14): 87.12,
    ("H/14", 14): 88.08, ("R50x1", 7): 77.54, ("R50x2", 7): 82.12, ("R101x1", 7): 80.67, ("R152x1", 7): 81.88,
    ("R152x2", 7): 84.97, ("R50+B/32", 7): 84.90, ("R50+B/16", 7): 85.58, ("R50+L/32", 7): 85.68,
    ("R50+L/16", 7): 86.60, ("R50+L/16", 14): 87.12,
}
# fmt: on


def steps_of(data: str, epochs: int, batch: int = BATCH) -> int:
    """Updates of so many epochs of a data set of the published size."""
    return round(IMAGES[data] * epochs / batch)


def table3(row: Row) -> Pretrain:
    """The run of one row."""
    model = variant(row.model)
    if not isinstance(model, ResNetConfig):
        model = replace(model, hidden=model.width, dropout=row.dropout)
    imagenet = row.data == "imagenet"
    return Pretrain(
        train=f"{row.data}@train",
        steps=steps_of(row.data, row.epochs),
        batch=BATCH,
        model=model,
        optimizer=Adam(lr=row.lr, weight_decay=row.decay),
        schedule=Cosine(WARMUP) if imagenet else Linear(WARMUP, end=1e-5),
        loss=Sigmoid(smoothing=1e-4 if imagenet else 0.0),
        clip=1.0 if imagenet else None,
        log_every=100,
        evaluate_every=5000,
        save_every=1000,
    )


def name_of(row: Row) -> str:
    """ "jft-b16", "imagenet21k-l16-30": the data, the model, and the epochs where the table has two of them."""
    short = row.model.lower().replace("/", "").replace("+", "-")
    twice = sum(other.model == row.model and other.data == row.data for other in TABLE3) > 1
    return f"{row.data}-{short}" + (f"-{row.epochs}" if twice else "")


def _recipe(row: Row) -> Callable[[], Pretrain]:
    made = partial(table3, row)
    name, steps = name_of(row), steps_of(row.data, row.epochs)
    made.__doc__ = About(
        f"{row.model} on {row.data}, {row.epochs} epochs.", "Table 3.", _expected(row, steps), _command(name, row.data)
    ).docstring()
    return made


def _expected(row: Row, steps: int) -> str:
    at = f"after {steps:,} steps ({row.epochs} epochs)"
    if reached := REACHED.get((row.model, row.data, row.epochs)):
        return f"theirs gave {reached} % of its validation images at 224 pixels {at}. Not run here."
    if tuned := TUNED.get((row.model, row.epochs)):
        return f"theirs gave {tuned} % on ImageNet, fine-tuned at 384 pixels (Table 6), {at}. Not run here."
    return f"not known {at}: no validation accuracy of it was published. Not run here."


def _command(name: str, data: str) -> str:
    return f"vitrail pretrain {name} --train {data.upper()}@train --out runs/{name}"


RECIPES: dict[str, Callable[[], Pretrain]] = {name_of(row): _recipe(row) for row in TABLE3}
