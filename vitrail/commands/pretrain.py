"""`vitrail pretrain`."""

from dataclasses import dataclass

from vitrail.commands.parsing import Command
from vitrail.commands.plan import Accelerators, show_plan
from vitrail.commands.training import CommonTraining, read_options, train


@dataclass(frozen=True)
class CommonPretrain(CommonTraining):
    """Options of training, and whether it is only planned."""

    plan: bool = False  # start nothing, show what `vitrail plan` says of this command on --gpus N of --kind


@dataclass(frozen=True)
class CommonPlanned(Accelerators, CommonPretrain):
    """The same with --plan: also where the run would be."""


def run(args: list[str]) -> int:
    """`vitrail pretrain`; returns the exit code."""
    from vitrail.jobs.pretrain import Pretrain, pretrain
    from vitrail.recipes import PRETRAINING

    if "--plan" in args:
        return _plan(args)
    return train(COMMAND, args, PRETRAINING, Pretrain, pretrain, CommonPretrain)


def _plan(args: list[str]) -> int:
    """What `vitrail plan` shows of a run with exactly these options, on as many accelerators as there are processes."""
    from vitrail.core.dist import launched
    from vitrail.jobs.pretrain import Pretrain
    from vitrail.recipes import PRETRAINING

    world = launched()
    told = any(word.split("=", 1)[0] == "--gpus" for word in args)
    args = args if told else [*args, "--gpus", str(world.size)]
    name, options = read_options(COMMAND, args, PRETRAINING, Pretrain, CommonPlanned, writes=False)
    said = options.common
    return show_plan(name, options.config, said, said.sharding, said.recompute) if world.first else 0


COMMAND = Command(
    "pretrain",
    "Pre-train a new model by a recipe.",
    "vitrail pretrain cifar10 --data-root data --out runs/cifar10",
    run,
    ("out", "train", "validation", "test", "model", "epochs", "steps", "batch", "optimizer.lr", "device", "plan"),
)
