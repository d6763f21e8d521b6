"""The recipes as rows: what each is, where it comes from, what it reaches, what it costs, and its proof."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vitrail.core.errors import BadInput, unknown
from vitrail.core.text import table
from vitrail.jobs.finetune.finetune import Finetune
from vitrail.jobs.pretrain import Pretrain
from vitrail.models.cost import parameters, training_memory
from vitrail.models.objective_cost import training_flops_of
from vitrail.recipes import FINETUNING, PRETRAINING
from vitrail.recipes.augreg import NAMES, cells
from vitrail.recipes.docstring import about
from vitrail.recipes.reference_run import proof

RECIPES: dict[str, Mapping[str, Callable[[], Pretrain | Finetune]]] = {
    "pretrain": PRETRAINING,
    "finetune": FINETUNING,
}


def chosen(words: Sequence[str]) -> list[tuple[str, str]]:
    """(command, recipe) of "digits", or of "finetune digits" where both commands have one of that name; none: all.

    Raises BadInput with the nearest name for one that is not there.
    """
    every = [(command, name) for command, recipes in RECIPES.items() for name in recipes]
    if not words:
        return every
    commands = [words[0]] if len(words) == 2 and words[0] in RECIPES else list(RECIPES)
    if len(words) > 2 or (len(words) == 2 and words[0] not in RECIPES):
        raise BadInput(f"expected one recipe, or pretrain or finetune and a recipe, not {' '.join(words)!r}")
    found = [(command, words[-1]) for command in commands if words[-1] in RECIPES[command]]
    if not found:
        raise unknown("recipe", words[-1], [name for command, name in every if command in commands])
    return found


def describe(command: str, name: str) -> dict[str, Any]:
    """One recipe: the texts of its docstring, its cost, and where it was run here what it took and reached.

    `parameters`, `flops` and `memory_gib` are without the classifier, whose size comes from the data, and null for a
    fine-tuning, whose model comes with --init. `memory_gib` is of one device that holds a whole batch in float32:
    weights, gradients, optimiser and activations (models.cost.training_activations).
    """
    recipe = RECIPES[command][name]
    said, config = about(recipe), recipe()
    images = config.steps * config.batch
    row: dict[str, Any] = {"command": command, "recipe": name, "about": said.what, "source": said.source}
    row |= {"expected": said.expected, "run": said.command, "steps": config.steps, "batch": config.batch}
    row |= {"images": images, "parameters": None, "flops": None, "memory_gib": None}
    if isinstance(config, Pretrain):
        size, together = parameters(config.model), config.micro_batch or config.batch
        kept = training_memory(config.model, together, moments=config.optimizer.moments)
        row |= {
            "parameters": size,
            "flops": training_flops_of(config.model, config.objective) * images,
            "memory_gib": kept / 2**30,
        }
    tried = proof(command, name)
    row["proof"] = None
    if tried is not None:
        row["proof"] = {
            "seconds": tried.seconds,
            "processor": tried.machine.processor,
            "precision": tried.machine.precision,
            "threads": tried.machine.threads,
            "date": tried.date,
            "accuracy": tried.accuracy,
            "interval": tried.interval,
            "count": tried.count,
            "weights_sha256": tried.weights_sha256,
        }
    return row


def listing(rows: Sequence[dict[str, Any]]) -> str:
    """A line for each recipe, and one for the grid whose cells no list names."""
    lines = []
    for row in rows:
        images = f"{row['images']:.1e} images" if row["images"] else "by the data"
        known = row["flops"] is not None
        cost = [f"{row['parameters'] / 1e6:.1f} M", f"{row['flops']:.1e} FLOP"] if known else ["", ""]
        lines.append(
            [f"{row['command']} {row['recipe']}", images, *cost, "run here" if row["proof"] else "", row["about"]]
        )
    return "\n".join([*table(lines, "<>>><"), f"and AugReg's grid, {len(cells())} more: {NAMES}"])


def facts(row: dict[str, Any]) -> str:
    """One recipe, whole."""
    lines = [("", row["about"]), ("source", row["source"]), ("expected", row["expected"])]
    length = f"{row['images']:,} ({row['steps']:,} steps of {row['batch']:,})"
    lines.append(("images", length if row["images"] else "by the size of the data"))
    if row["flops"] is None:
        lines.append(("model", "as --init gives it, with a new classifier"))
    else:
        lines.append(("parameters", f"{row['parameters']:,}, without the classifier"))
        lines.append(("arithmetic", f"{row['flops']:.3g} FLOP in all"))
        lines.append(("memory", f"about {_memory(row['memory_gib'])} for a whole batch on one device, in float32"))
    lines += [("proof", _proof(row["proof"])), ("command", row["run"])]
    told = [f"{row['command']} {row['recipe']}"]
    for name, text in lines:
        if name == "command":
            told.append(f"  {name:<11} {text}")  # in one line, to be copied
        else:
            told += textwrap.wrap(
                text, 100, initial_indent=f"  {name:<11} ", subsequent_indent=" " * 14, break_on_hyphens=False
            )
    return "\n".join(told)


def _memory(gib: float) -> str:
    return f"{gib:,.0f} GiB" if gib >= 10 else f"{gib:.1f} GiB" if gib >= 1 else f"{1024 * gib:.0f} MiB"


def _proof(row: dict[str, Any] | None) -> str:
    if row is None:
        return "not run here"
    threads = f"{row['threads']} thread{'' if row['threads'] == 1 else 's'}"
    said = f"{row['seconds']:,.0f} s on {row['processor']}, {threads}, {row['precision']}, {row['date']}"
    if row["accuracy"] is not None:
        low, high = row["interval"]
        said += f": {row['accuracy']:.1%} ({low:.1%} to {high:.1%}) of {row['count']:,} images".replace("%", " %")
    return f"{said}; vitrail report draws your run over it"
