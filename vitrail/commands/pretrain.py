"""`vitrail pretrain`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vitrail.commands.parsing import PROOFS, Command, Common, parse, percent, show
from vitrail.commands.parsing import options as options_of
from vitrail.commands.plan import Accelerators, show_plan
from vitrail.commands.training import CommonTraining, read_options, train
from vitrail.core.errors import BadInput

if TYPE_CHECKING:
    from vitrail.records.auto import PretrainPlan
    from vitrail.records.run import RunResult


@dataclass(frozen=True)
class CommonPretrain(CommonTraining):
    """Options of training, and whether it is only planned."""

    plan: bool = False  # start nothing, show what `vitrail plan` says of this command on --gpus N of --kind


@dataclass(frozen=True)
class CommonPlanned(Accelerators, CommonPretrain):
    """The same with --plan: also where the run would be."""


@dataclass(frozen=True)
class CommonAuto(Common):
    """The same, of a run that is planned by a budget."""

    plan: bool = False  # only the pilot and the plan, which a later run in the same folder follows


def run(args: list[str]) -> int:
    """`vitrail pretrain`; returns the exit code."""
    if args[:1] == ["auto"]:
        return _auto(args[1:])
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


def _auto(args: list[str]) -> int:
    """`vitrail pretrain auto DATA`: by a budget of time or compute, or by a depth."""
    from vitrail.core.mirror import mirrored
    from vitrail.jobs.pretrain_auto.auto import pretrain_auto
    from vitrail.jobs.pretrain_auto.config import AutoPretrain

    if args and not args[0].startswith("-"):
        args = ["--train", *args]
    kind, default = options_of(AutoPretrain, default=AutoPretrain(train=""), common=CommonAuto)
    options = parse(AUTO, kind, args, default)
    options.config.check()
    if options.out is None:
        raise BadInput("give a folder to write: --out runs/auto")
    options.common.find_data()
    with mirrored(options.out) as folder:
        plan, result = pretrain_auto(options.config, folder, options.common.machine(), only_plan=options.common.plan)
        return _show_auto(options, plan, result)


def _show_auto(options: Any, plan: "PretrainPlan", result: "RunResult | None") -> int:
    from vitrail.report.index import make

    if result is None:
        show(plan, options.common, f"{options.out / 'plan.json'}", folder=str(options.out))
        return 0
    page = make(options.out, PROOFS)
    took = "" if plan.seconds is None else f", {plan.seconds:.0f} s of all of it were planned"
    lines = [f"{result.steps:,} steps in {result.seconds:.0f} s{took}"]
    if result.accuracy is not None:
        expected = "" if plan.expected is None else f"; expected were {percent(plan.expected, plan.interval)}"
        lines.append(f"accuracy {percent(result.accuracy, result.interval)} of {result.count:,} images{expected}")
    lines += [f"model: {options.out / 'bundle'}", str(page)]
    show(result, options.common, "\n".join(lines), folder=str(options.out), plan=plan)
    return 0


AUTO = Command(
    "pretrain auto",
    "Pre-train what makes most of a time, of compute, or of a depth: vitrail pretrain auto DATA.\n\n"
    "A law fitted to runs decides depth, width, rate and steps; a short pilot on your images says\n"
    "whether they may be mirrored, and what accuracy to expect.",
    "vitrail pretrain auto cifar10@train --test cifar10@test --budget 25m --out runs/auto",
    _auto,
)

COMMAND = Command(
    "pretrain",
    "Pre-train a new model by a recipe, or by a budget: pretrain auto.",
    "vitrail pretrain cifar10 --data-root data --out runs/cifar10",
    run,
    ("out", "train", "validation", "test", "model", "epochs", "steps", "batch", "optimizer.lr", "device", "plan"),
)
