"""`vitrail finetune`."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vitrail.commands.parsing import PROOFS, Command, percent, show
from vitrail.commands.training import CommonTraining, read_options, show_run
from vitrail.core.text import table

if TYPE_CHECKING:
    from vitrail.records.finetune import FinetuneResult, TuningComparison


@dataclass(frozen=True)
class CommonFinetune(CommonTraining):
    """Options of training, and what is trained."""

    tune: str | None = None  # whole, head, blocks-COUNT, decay-RATE, lora-RANK; None: as the recipe says, mostly whole
    compare: tuple[str, ...] | None = None  # several of these, each in a folder of its own; none named: all five kinds


def run(args: list[str]) -> int:
    """`vitrail finetune`; returns the exit code."""
    from vitrail.core.dist import launched
    from vitrail.core.errors import BadInput
    from vitrail.core.mirror import mirrored
    from vitrail.jobs.finetune.auto import automatic
    from vitrail.jobs.finetune.compare import compare, parse_trainable
    from vitrail.jobs.finetune.finetune import Finetune, finetune
    from vitrail.recipes import FINETUNING, small
    from vitrail.records.finetune import FinetuneResult

    recipes = {"auto": small.finetune_auto, **FINETUNING}
    name, given = read_options(COMMAND, _zeros(_with_recipe(args)), recipes, Finetune, CommonFinetune)
    common, config = given.common, given.config
    if name == "auto" and (common.tune is not None or common.compare is not None):
        raise BadInput("finetune auto chooses what is trained: leave out --tune and --compare, or name a recipe")
    if common.tune is not None and common.compare is not None:
        raise BadInput("--tune and --compare both say what is trained; give one of them")
    if common.tune is not None:
        config = replace(config, tuned=parse_trainable(common.tune))
    with mirrored(given.out) as folder:
        given = replace(given, out=folder)
        if name == "auto":
            return _show_protocol(given, automatic(config, folder, common.machine()))  # it runs in one process
        if common.compare is not None:
            table_of_choices = compare(config, common.compare, folder, common.machine(), name)
            return _show_comparison(given, table_of_choices) if launched().first else 0
        result = finetune(config, folder, common.machine(), name)
        if not launched().first:
            return 0
        return _show_protocol(given, result) if isinstance(result, FinetuneResult) else show_run(given, result)


def _with_recipe(args: list[str]) -> list[str]:
    """Options without a recipe's name, and without a file, are those of `auto`."""
    first = args[0] if args else "--help"
    configured = any(word.split("=", 1)[0] == "--config" for word in args)
    named = not first.startswith("-") or first in ("-h", "--help", "--help-all")
    return args if named or configured else ["auto", *args]


def _zeros(args: list[str]) -> list[str]:
    """`--steps auto` and `--batch auto` are 0, which is scaled to the data."""
    after = [None, *args]
    return [
        "0" if word == "auto" and before in ("--steps", "--batch") else word
        for before, word in zip(after, args, strict=False)
    ]


def _show_protocol(given: Any, result: "FinetuneResult") -> int:
    from vitrail.report.index import make

    page = make(given.out, PROOFS)
    lines = []
    if result.recipe == "auto":
        lines += _tried(result)
    elif result.trials:
        shown = ", ".join(
            f"{row.learning_rate:g}: {'failed' if row.failed else format(row.accuracy, '.1%')}" for row in result.trials
        )
        lines.append(f"rate {result.learning_rate:g} chosen on held-out images ({shown})")
    if result.accuracy is not None:
        runs = len(result.runs)
        of = f" of {result.count:,} test images"
        spread = f", {runs} runs with a standard deviation of {result.spread:.2%}" if runs > 1 else ""
        if result.mean_average_precision is not None:
            lines.append(f"mean average precision {result.mean_average_precision:.1%}{of}")
        if result.balanced_accuracy is not None:
            lines.append(f"mean of the accuracies of the classes {result.balanced_accuracy:.1%}")
        lines.append(f"accuracy {percent(result.accuracy, result.interval)}{of}{spread}")
    lines += [f"{result.seconds:.0f} s of training in all", f"model: {given.out / 'bundle'}", str(page)]
    show(result, given.common, "\n".join(lines), folder=str(given.out))
    return 0


def _tried(result: "FinetuneResult") -> list[str]:
    shown = ", ".join(
        f"{row.name}: {'failed' if row.failed else 'cut short' if row.cut else format(row.score, '.1%')}"
        for row in result.trials
        if row.failed or row.accuracy is not None
    )
    on = f" on held-out images ({shown})" if shown else ""
    chosen = result.chosen.name if result.chosen and result.steps else "the linear judge of frozen features"
    said = f"{chosen} chosen{on}" if result.steps else f"{chosen} is the model{on}"
    return [said, *([f"the final run failed: {result.failed}"] if result.failed else [])]


def _show_comparison(given: Any, result: "TuningComparison") -> int:
    from vitrail.report.index import make

    page = make(given.out, PROOFS)
    rows = [["trained", "parameters", "seconds", "memory", "accuracy"]]
    for row in result.rows:
        accuracy = percent(row.accuracy, row.interval) if row.accuracy is not None else "not tested"
        memory = f"{row.memory_gib:.2f} GiB" if row.memory_gib else "–"
        rows.append([row.name, f"{row.trained_parameters:,}", f"{row.seconds:.1f}", memory, accuracy])
    show(result, given.common, "\n".join([*table(rows, "<>>><"), str(page)]), folder=str(given.out))
    return 0


COMMAND = Command(
    "finetune",
    "Fine-tune a model to your classes.",
    "vitrail finetune --init runs/cifar10 --train photos@train --test photos@test --budget 10m --out runs/photos",
    run,
    ("out", "init", "train", "test", "budget", "tune", "resolution", "epochs", "steps", "batch", "optimizer.lr"),
)
