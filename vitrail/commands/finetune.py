"""`vitrail finetune`."""

from vitrail.commands.parsing import Command
from vitrail.commands.training import train


def run(args: list[str]) -> int:
    """`vitrail finetune`; returns the exit code."""
    from vitrail.jobs.finetune import Finetune, finetune
    from vitrail.recipes import FINETUNING

    return train(COMMAND, args, FINETUNING, Finetune, finetune)


COMMAND = Command(
    "finetune",
    "Fine-tune a model to your classes.",
    "vitrail finetune folder --init runs/cifar10 --train photos@train --test photos@test --out runs/photos",
    run,
)
