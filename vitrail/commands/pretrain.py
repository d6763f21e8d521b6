"""`vitrail pretrain`."""

from vitrail.commands.parsing import Command
from vitrail.commands.training import train


def run(args: list[str]) -> int:
    """`vitrail pretrain`; returns the exit code."""
    from vitrail.jobs.pretrain import Pretrain, pretrain
    from vitrail.recipes import PRETRAINING

    return train(COMMAND, args, PRETRAINING, Pretrain, pretrain)


COMMAND = Command(
    "pretrain",
    "Pre-train a new model by a recipe.",
    "vitrail pretrain cifar10 --data-root data --out runs/cifar10",
    run,
    ("out", "train", "validation", "test", "model", "epochs", "steps", "batch", "optimizer.lr", "device"),
)
