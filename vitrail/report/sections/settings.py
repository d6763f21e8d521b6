"""What was trained and how, by the names of the command line: model, positions, pooling, optimiser, schedule, loss."""

from collections.abc import Mapping
from typing import Any

from vitrail.core.choices import name_of
from vitrail.core.config import shown
from vitrail.report.blocks import Facts, Section
from vitrail.report.folder import Folder, Json


def section(folder: Folder, config: Json) -> Section:
    """From config.json; the model of a fine-tuning from the bundle, where it is written already."""
    job = config.get("config")
    job = job if isinstance(job, dict) else {}
    bundle = folder.within("bundle")
    stored = bundle.json("config.json") if bundle else None
    model = job.get("model") or (stored or {}).get("model")
    augment = job.get("augment")
    parts = [
        ("Start from", job.get("init")),
        ("Model", _model(model) if isinstance(model, dict) else None),
        ("Position embedding", _part(model, "position")),
        ("Pooling", _part(model, "pool")),
        ("Trained weights", _part(job, "tuned")),
        ("Optimizer", _part(job, "optimizer")),
        ("Schedule", _part(job, "schedule")),
        ("Loss", _part(job, "loss")),
        ("Crop", _part(augment, "crop")),
        ("Training", _length(job)),
        ("Columns of tables", _columns(config.get("columns"))),
    ]
    return Section("Settings", "settings", [Facts(parts)])


def _columns(given: Any) -> str | None:
    return ", ".join(f"{what} {name}" for what, name in given.items()) if isinstance(given, dict) else None


def _part(owner: Any, key: str) -> str | None:
    """The name of an alternative and its options: "sgd: lr 0.03, momentum 0.9"."""
    value = owner.get(key) if isinstance(owner, dict) else None
    if not isinstance(value, Mapping):
        return None
    options = [f"{name.replace('_', ' ')} {shown(inner)}" for name, inner in value.items() if name != "type"]
    return f"{name_of(value)}: {', '.join(options)}" if options else name_of(value)


def _model(model: Json) -> str:
    resolution = model.get("resolution")
    size = (
        f", {resolution[0]} x {resolution[1]} pixels" if isinstance(resolution, list) and len(resolution) == 2 else ""
    )
    stages = model.get("stages") or model.get("backbone")
    under = f"units {'-'.join(map(str, stages.get('units', ())))}" if isinstance(stages, dict) else ""
    if model.get("type") == "ResNetConfig":
        axial = "axial " if model.get("axial_heads") else ""
        return f"{axial}ResNet of {under}, width {stages.get('width') if isinstance(stages, dict) else '?'}{size}"
    kind = f"hybrid of a ResNet of {under} and" if under else "ViT of"
    layers = f"{model.get('depth')} layers, width {model.get('width')}, {model.get('heads')} heads"
    return f"{kind} {layers}, patch {model.get('patch')}{size}"


def _length(job: Json) -> str | None:
    return f"{job['steps']:,} steps of {job['batch']:,} images" if job.get("steps") and job.get("batch") else None
