"""The plan of a study and its cost: on this machine by a short measurement, on GPUs by their data sheets."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from vitrail.core.device import Machine
from vitrail.core.errors import BadInput
from vitrail.core.numbers import duration, quantity
from vitrail.core.pool import usable_cores
from vitrail.core.progress import progress
from vitrail.core.text import table
from vitrail.data.open.names import open_data
from vitrail.jobs.forecast.forecast import GPUS, Forecast, forecast, gpu_share
from vitrail.jobs.pretrain import EarlyStopping, Pretrain
from vitrail.models.build import ModelConfig
from vitrail.models.cost import parameters, training_flops
from vitrail.models.objective_cost import training_flops_of
from vitrail.models.position import Learned1d, Relative
from vitrail.models.vit import ViTConfig
from vitrail.recipes.pretraining import CLASSES, IMAGES
from vitrail.studies.engine.merge import done_with
from vitrail.studies.engine.power import sights, sights_text
from vitrail.studies.engine.rates import needed
from vitrail.studies.engine.runs import StudyRun
from vitrail.studies.engine.study import Study, study_runs

CHOSEN = (
    "Rates: the validation images of the first seed choose one, of which the other seeds are made; until then they are "
    "counted at the first rate."
)
NEAR = (
    "Rates: a larger model is tried at the one that is chosen for the next smaller of its family and the next lower, a "
    "longer run at that of the shorter one."
)


def plan(
    study: Study, out: Path | None, machine: Machine, jobs: int = 1, others: Sequence[Path] = ()
) -> dict[str, Any]:
    """A row a run (all seeds together) and the sum of what is still to do, without the measures.

    Rows have `parameters`, `flops_per_image`, `images`, `total_flops` of one seed; `seconds` and `memory_gib` of one
    seed on this machine, and `gpus`: seconds of one seed on each of GPUS; None where a run is no training, and for
    what this machine cannot try. What lies finished in the folders of `others` counts as done. `power`: what the study
    could see, by the runs in `out` (engine/power.py).
    """
    threads = max(1, usable_cores() // jobs)
    places = study_runs(study, out or Path())
    elsewhere = list(zip(*(study_runs(study, other) for other in others), strict=True)) or [()] * len(places)
    finished = {
        place.folder
        for place, theirs in zip(places, elsewhere, strict=True)
        if out is not None and done_with(place, theirs, study.measures)
    }
    wanted = {place.folder for place in needed(study, places, counted=True)}
    rows = []
    with progress("measuring", len(study.runs)) as bar:
        for run in study.runs:
            mine = [place for place in places if place.run is run and place.folder in wanted]
            todo = [place for place in mine if place.folder not in finished]
            if mine:
                rows.append({**_row(mine[0], machine, threads), "seeds": len(mine), "todo": len(todo)})
            bar.advance(run.name)
    total = {
        key: sum(row[key] * row["todo"] for row in rows if row[key] is not None) for key in ("total_flops", "seconds")
    }
    total["gpus"] = {name: sum(row["gpus"][name] * row["todo"] for row in rows if row["gpus"]) for name in GPUS}
    seen = sights(study, out) if out is not None else []
    notes = sights_text(study, seen) if study.measures else []
    if len(wanted) < len(places):
        notes = [NEAR if any("smaller" in run.at for run in study.runs) else CHOSEN, *notes]
    power = {"sights": [asdict(sight) for sight in seen], "said": notes}
    about = {"study": study.name, "scale": study.scale, "jobs": jobs, "threads": threads}
    return {**about, "rows": rows, "total": total, "power": power}


def _row(place: StudyRun, machine: Machine, threads: int) -> dict[str, Any]:
    config = place.config
    keys = ("parameters", "flops_per_image", "images", "total_flops", "seconds", "memory_gib")
    row: dict[str, Any] = {"name": place.run.name, **dict.fromkeys(keys), "gpus": {}, "said": ""}
    model = getattr(config, "model", None)
    if model is None:
        return row
    if not isinstance(config, Pretrain):
        return {**row, "parameters": parameters(model), "flops_per_image": training_flops(model)}
    count, classes = _size(config.train)
    if isinstance(config, EarlyStopping):
        count = config.images or count
    model = replace(model, num_classes=model.num_classes or classes)
    images = config.steps * config.batch
    flops = training_flops_of(model, config.objective)
    row |= {"parameters": parameters(model), "flops_per_image": flops, "images": images, "total_flops": flops * images}
    tried = _alike(model)
    try:
        cost = forecast(
            config,
            tried,
            train_images=count,
            validation_images=_size(config.validation)[0] if config.validation else 0,
            test_images=_size(config.test)[0] if config.test else 0,
            resize=config.resize,
            machine=machine,
            threads=threads,
        )
    except BadInput as problem:
        return {
            **row,
            "gpus": {name: flops * images / (gpu_share(model) * peak) for name, peak in GPUS.items()},
            "said": str(problem),
        }
    return {**row, **_forecast(cost, flops / training_flops(tried))}


def _alike(model: ModelConfig) -> ModelConfig:
    """The model that is timed in place of another: all kinds of added positions cost the same."""
    if isinstance(model, ViTConfig) and not isinstance(model.position, Relative):
        return replace(model, position=Learned1d())
    return model


def _forecast(cost: Forecast, scale: float) -> dict[str, Any]:
    """Seconds and memory; `scale`: FLOPs of the run in those of what was tried, with labels."""
    gpus = {name: cost.on_gpu(name) * scale for name in GPUS}
    steps = cost.training_seconds * (scale - 1)
    return {"seconds": cost.seconds + steps, "memory_gib": cost.memory_gib, "gpus": gpus}


def _size(data: str) -> tuple[int, int]:
    """Images and classes of data; the published numbers where they are not on this machine."""
    try:
        source = open_data(data)
        return len(source), len(source.classes)
    except BadInput:
        name = data.split("@", 1)[0]
        if name not in IMAGES:
            raise
        return IMAGES[name], CLASSES[name]


def plan_text(summary: dict[str, Any]) -> str:
    """The plan as aligned columns."""
    head = ["run", "seeds", "to do", "parameters", "FLOP an image", "images", "FLOP", "time here", "memory", *GPUS]
    lines = [head]
    for row in summary["rows"]:
        cells = [row["name"], str(row["seeds"]), str(row["todo"]), quantity(row["parameters"])]
        cells += [quantity(row["flops_per_image"]), quantity(row["images"]), quantity(row["total_flops"])]
        cells += [duration(row["seconds"]), "–" if row["memory_gib"] is None else f"{row['memory_gib']:.1f} GiB"]
        lines.append([*cells, *(duration(row["gpus"].get(name)) for name in GPUS)])
    total = summary["total"]
    gpus = [duration(total["gpus"][name]) for name in GPUS]
    lines.append(
        ["all that is to do", "", "", "", "", "", quantity(total["total_flops"]), duration(total["seconds"]), "", *gpus]
    )
    threads = f"{summary['threads']} thread{'' if summary['threads'] == 1 else 's'}"
    notes = [
        f"Time here: of one run on {threads}, by a short measurement; {summary['jobs']} run(s) at once divide the sum.",
        "GPUs: one of them, at 22 % of its data sheet's peak (S) to 40 % (L, H), by assumption and not measured.",
        *dict.fromkeys(row["said"] for row in summary["rows"] if row["said"]),
    ]
    return "\n".join([*table(lines, "<>"), "", *notes, *summary["power"]["said"]])
