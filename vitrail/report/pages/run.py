"""The page of a run of pre-training or fine-tuning, finished or not."""

import json
import shlex
from datetime import datetime
from pathlib import Path
from typing import Any

from vitrail.core import numbers
from vitrail.report.blocks import Code, Facts, Part, Section, Table, Text
from vitrail.report.folder import Folder, Json, objects, texts
from vitrail.report.page import page
from vitrail.report.pages import evaluation, inspection
from vitrail.report.sections import bottleneck, budget, left_out, painted, reference_run, settings, training_curves

JOBS = {"pretrain": "Pre-training", "finetune": "Fine-tuning"}


def run_page(folder: Folder, proofs: Path | None = None) -> str:
    """The whole page; parts whose files do not exist yet are left out. `proofs`: the folder of the recipes' proofs."""
    config = folder.json("config.json") or {}
    result = folder.json("result.json")
    train, validation = training_curves.metrics(folder)
    job = JOBS.get(str(config.get("job")), str(config.get("job") or "Run"))
    tested, inspected = folder.within("evaluation"), folder.within("inspection")
    sections = [
        evaluation.section(
            tested or folder, validation=[] if _unlabelled(config) else validation, opening=_same_images(tested, config)
        ),
        budget.section(folder, result),
        painted.section(folder, validation, result),
        training_curves.section(train, validation),
        reference_run.section(folder, config, result, planned_steps(config), proofs) if proofs else None,
        bottleneck.section(folder),
        inspection.section(inspected, of_this_run=True) if inspected else None,
        settings.section(folder, config),
        transplant(folder),
        cost(result),
        environment(folder, config),
    ]
    kind = f"{job} run in folder {folder.path.resolve().name}"
    return page(
        f"{job} {_subject(folder, config)}",
        summary(folder, config, result),
        sections,
        kind=kind,
        problems=folder.problems,
    )


def _unlabelled(config: Json) -> bool:
    """Whether nothing is classified: then an accuracy is that of the colours of patches, and has its own section."""
    inner = config.get("config")
    objective = inner.get("objective") if isinstance(inner, dict) else None
    return isinstance(objective, dict) and objective.get("type") != "Labels"


def _same_images(tested: Folder | None, config: Json) -> str:
    """Says so where the final evaluation used the images that the validation had used all along."""
    inner = config.get("config")
    watched = inner.get("validation") if isinstance(inner, dict) else None
    file = "multilabel.json" if tested and tested.has("multilabel.json") else "evaluation.json"
    data = (tested.json(file) or {}).get("data") if tested else None
    return "The final evaluation was made on the images of the validation." if data and data == watched else ""


def _subject(folder: Folder, config: Json) -> str:
    """ "by recipe digits", or what it was trained on, or the folder's name."""
    if config.get("recipe"):
        return f"by recipe {config['recipe']}"
    inner = config.get("config")
    trained_on = inner.get("train") if isinstance(inner, dict) else None
    return f"on {trained_on}" if isinstance(trained_on, str) and trained_on else folder.path.resolve().name


def summary(folder: Folder, config: Json, result: Json | None) -> str:
    """One line: the accuracy with its interval, or how far an unfinished run has come."""
    if result is None:
        train, validation = training_curves.metrics(folder)
        step = max((row["step"] for row in (*train[-1:], *validation[-1:])), default=0)
        planned = planned_steps(config)
        of = f" of {numbers.count(planned)}" if planned else ""
        last = validation[-1] if validation else {}
        so_far = ""
        if numbers.known(last.get("accuracy")) and not _unlabelled(config):
            at = f"The last validation, at step {numbers.count(last['step'])}"
            so_far = f" {at}, gave {numbers.percent(last['accuracy'])}."
        return f"Unfinished: step {numbers.count(step)}{of}.{so_far}"
    tested = folder.within("evaluation")
    without = "Trained without labels." if result.get("objective") else "Finished; no accuracy was measured."
    said = evaluation.headline(final_accuracy(result, tested)) or without
    steps, seconds = result.get("steps"), result.get("seconds")
    took = f" in {numbers.duration(seconds)}" if numbers.known(seconds) else ""
    return f"{said} Trained for {numbers.count(steps)} steps{took}." if numbers.known(steps) else said


def final_accuracy(result: Json, tested: Folder | None) -> Json:
    """The keys accuracy, interval and count of the final evaluation."""
    if numbers.known(result.get("accuracy")) or tested is None:
        return result
    return tested.json("evaluation.json") or result


def planned_steps(config: Json) -> int | None:
    """The number of steps that the config asks for: the key `steps` that lies nearest to its root."""
    level: list[Any] = [config.get("config")]
    while level:
        for part in level:
            if isinstance(part, dict) and numbers.known(part.get("steps")):
                return int(part["steps"])
        level = [child for part in level if isinstance(part, dict) for child in part.values()]
    return None


def cost(result: Json | None) -> Section | None:
    """Time, speed, arithmetic, and how much of the machine was used."""
    if result is None:
        return None
    return Section("Cost", "cost", [Facts(cost_facts(result)), left_out.broken_images(result)])


def cost_facts(result: Json) -> list[tuple[str, str]]:
    """The rows of the cost table; a dash where a number is not known."""
    return [
        ("Training time", numbers.duration(result.get("seconds"))),
        ("Steps", numbers.count(result.get("steps"))),
        ("Images seen", numbers.count(result.get("images"))),
        ("Images a second", numbers.count(result.get("images_per_second"))),
        ("Time spent waiting for data", numbers.percent(result.get("waiting"))),
        ("Parameters", numbers.quantity(result.get("parameters"))),
        ("Multiply-adds of a forward pass", numbers.quantity(result.get("macs_per_image"))),
        ("Training arithmetic an image", numbers.quantity(result.get("training_flops_per_image"), "FLOP")),
        ("Training arithmetic in total", numbers.quantity(result.get("total_flops"), "FLOP")),
        ("Share of the machine's measured peak", numbers.percent(result.get("flops_share"))),
        ("Loss at the end", numbers.plain(result.get("loss"))),
        ("Restarts", numbers.count(result.get("restarts"))),
    ]


def transplant(folder: Folder) -> Section | None:
    """For a fine-tuning: which weights were taken, resampled, new, or left out."""
    content = folder.json("transplant.json")
    if content is None:
        return None
    rows = objects(content.get("rows"))
    actions = [row.get("action") for row in rows]
    counts = {action: actions.count(action) for action in ("taken", "resampled", "new", "left out")}
    source = f" from {content['source']}" if content.get("source") else ""
    said = (
        f"Weights{source}: {counts['taken']:,} taken unchanged, {counts['resampled']:,} resampled"
        f" to the new resolution, {counts['left out']:,} left out. New in this model: {counts['new']:,}."
    )
    order = {"resampled": 0, "new": 1, "left out": 2}
    changed = sorted(
        (row for row in rows if row.get("action") != "taken"), key=lambda row: order.get(str(row.get("action")), 3)
    )
    cells = [(row.get("name"), row.get("action"), _shape(row.get("from")), _shape(row.get("to"))) for row in changed]
    taken = Table(
        ["weights", "shape"],
        [(row.get("name"), _shape(row.get("to"))) for row in rows if row.get("action") == "taken"],
    )
    unchanged = Part(f"All {numbers.count(counts['taken'])} that were taken unchanged", [taken], folded=True)
    table = Table(["weights", "what happened", "shape before", "shape now"], cells)
    return Section("Transplant", "transplant", [Text(said), table, unchanged])


def environment(folder: Folder, config: Json, *, title: str = "Environment") -> Section:
    """The machine, the command that runs it again, and the whole config, folded."""
    content = folder.json("environment.json") or {}
    peak = content.get("peak_flops")
    said: dict[str, str | None] = {
        "started": _moment(content.get("started")),
        "peak_flops": numbers.quantity(peak, "FLOP/s") if numbers.known(peak) else None,
        "memory_gib": f"{content['memory_gib']:.3g} GiB" if numbers.known(content.get("memory_gib")) else None,
    }
    names = {"peak_flops": "Measured peak", "memory_gib": "Memory", "vitrail": "vitrail", "torch": "PyTorch"}
    pairs = [
        (names.get(key, key.replace("_", " ").capitalize()), said.get(key, None if value is None else str(value)))
        for key, value in content.items()
        if key != "command" and not isinstance(value, list | dict)
    ]
    whole = config.get("config")
    listing = Code("" if whole is None else json.dumps(whole, indent=2, ensure_ascii=False))
    again = Part("How to run it again", [Code(shlex.join(texts(content.get("command"))))])
    return Section(title, "environment", [Facts(pairs), again, Part("The whole config", [listing], folded=True)])


def _moment(written: object) -> str | None:
    try:
        return datetime.fromisoformat(str(written)).strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        return str(written) if written else None


def _shape(shape: object) -> str:
    return " × ".join(str(side) for side in shape) if isinstance(shape, list) else numbers.UNKNOWN
