"""Table 4: the paper's fine-tuning runs, and its protocol for other images. None was run here.

All: SGD with momentum 0.9, batch 512, cosine decay, no weight decay, the gradient's norm clipped at 1, 384 pixels. The
learning rate is chosen from the sweep on a part of the training data, then three runs on all of it are tested (Table
2); `--repeats 0` makes one. The paper says nothing of a warm-up: 500 steps are those of the official code, the 100 of
Pets and Flowers those of big_vision; VTAB's 100 are chosen here, for a run that is short, too. VTAB's rate is fixed.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from vitrail.data.catalog.catalog import NAMED
from vitrail.data.transforms.pipeline import Augment, InceptionCrop, SquareResize
from vitrail.jobs.finetune.finetune import Finetune
from vitrail.jobs.finetune.run import AUTO
from vitrail.jobs.finetune.schedule_rule import PAPER
from vitrail.recipes.docstring import About
from vitrail.train.optim import Momentum
from vitrail.train.schedule import Cosine


class Row(NamedTuple):
    """A row of Table 4, and the warm-up of the official code."""

    data: str
    steps: int
    warmup: int
    sweep: tuple[float, ...]
    lr: float
    reached: tuple[float, float] | None  # Table 5: ViT-B/16 from ImageNet-21k, ViT-H/14 from JFT


# fmt: off
TABLE4 = (
    Row("imagenet",  20_000, 500, (0.003, 0.01, 0.03, 0.06),  0.03, (83.97, 88.04)),
    Row("cifar100",  10_000, 500, (0.001, 0.003, 0.01, 0.03), 0.01, (91.67, 94.55)),
    Row("cifar10",   10_000, 500, (0.001, 0.003, 0.01, 0.03), 0.01, (98.95, 99.50)),
    Row("pets",         500, 100, (0.001, 0.003, 0.01, 0.03), 0.01, (94.43, 97.56)),
    Row("flowers",      500, 100, (0.001, 0.003, 0.01, 0.03), 0.01, (99.38, 99.68)),
    Row("vtab",       2_500, 100, (0.01,),                    0.01, None),
)
# fmt: on


def test_of(row: Row) -> str:
    """What is reported: of ImageNet the official validation images, whose labels are public."""
    return f"{row.data}@{_held_out(row)}"


def _held_out(row: Row) -> str:
    return "validation" if row.data == "imagenet" else "test"


def table4(row: Row) -> Finetune:
    """One row: its sweep, and three final runs. Where there is none, a run at its rate."""
    chosen = len(row.sweep) > 1
    return Finetune(
        train=f"{row.data}@train",
        test=test_of(row),
        resolution=384,
        steps=row.steps,
        batch=512,
        resize=SquareResize(),
        augment=Augment(crop=InceptionCrop()),
        optimizer=Momentum(lr=row.lr),
        schedule=Cosine(row.warmup),
        sweep=row.sweep if chosen else (),
        held_out=PAPER[row.data].held_out if chosen else None,
        repeats=2 if chosen else 0,
    )


def transfer() -> Finetune:
    """Your images by the paper's protocol: rate chosen on held-out images, steps and batch by the size of the data.

    Source: section 4.1 and Table 4; of other sizes of data BiT's rule (jobs/scale.py), and the sweep of small sets.
    Expected: depends on MODEL and the images. Not run here.
    Command: vitrail finetune transfer --init MODEL --train photos@train --test photos@test --out runs/photos
    """
    return Finetune(
        train="",
        steps=AUTO,
        batch=AUTO,
        resize=SquareResize(),
        augment=Augment(crop=InceptionCrop()),
        optimizer=Momentum(lr=0.01),
        schedule=Cosine(),
        sweep=(0.001, 0.003, 0.01, 0.03),
        log_every=10,
        evaluate_every=250,
        save_every=100,
    )


def _recipe(row: Row) -> Callable[[], Finetune]:
    made = partial(table4, row)
    place = row.data if row.data in NAMED else row.data.upper()
    rates = ", ".join(f"{lr:g}" for lr in row.sweep)
    theirs = "VTAB's mean of 19 tasks is 72.72 from L/16 of ImageNet-21k (Table 2)"
    if row.reached:
        theirs = f"theirs gave {row.reached[0]} % from B/16 of ImageNet-21k and {row.reached[1]} % from H/14 of JFT"
    made.__doc__ = About(
        f"{row.data} at 384 pixels, {row.steps:,} steps.",
        f"Table 4; the paper's sweep of rates: {rates}. Warm-up from the official code.",
        f"depends on MODEL; {theirs}{' (Table 5)' if row.reached else ''}, after {row.steps:,} steps. Not run here.",
        f"vitrail finetune paper-{row.data} --init MODEL --train {place}@train --test {place}@{_held_out(row)}"
        f" --out runs/{row.data}",
    ).docstring()
    return made


RECIPES: dict[str, Callable[[], Finetune]] = {
    "transfer": transfer,
    **{f"paper-{row.data}": _recipe(row) for row in TABLE4},
}
