"""The named models as rows: sizes and cost."""

from dataclasses import replace
from typing import Any

from vitrail.core.text import table
from vitrail.models.build import ModelConfig, as_size
from vitrail.models.cost import inference_activations, multiply_adds, parameters, training_activations, training_memory
from vitrail.models.resnet import ResNetConfig, Stages
from vitrail.models.variants import variant
from vitrail.models.vit import ViTConfig

MEMORIES = {"24 GB": 24e9, "80 GB": 80e9}  # of common accelerators; 10^9 bytes, so that some is left


def describe(name: str, resolution: int, num_classes: int) -> dict[str, Any]:
    """Sizes and costs in float32, as plain values; None for a size that this kind of model does not have.

    `stages` are the units of a ResNet's stages and `channels` those of its root; `patch` is a side in pixels, or in
    places of a hybrid's feature map; `tokens` are a ResNet's places of the last feature map. `weights` are bytes;
    `training_memory` and `inference_memory` are bytes for each image of a batch (vitrail.models.cost).
    `training_batch`: how many images a step with Adam has room for, 0 where the model alone is too large.

    Raises:
        BadInput: an unknown name, or a resolution smaller than a patch.
    """
    config = replace(variant(name), resolution=as_size(resolution), num_classes=num_classes)
    config.check()
    count, memory, held = parameters(config), training_activations(config), training_memory(config, 0)
    return {
        "name": name,
        **_sizes(config),
        "parameters": count,
        "macs": multiply_adds(config),
        "macs_without_padding": multiply_adds(config, padding=False),
        "weights": 4 * count,
        "training_memory": memory,
        "inference_memory": inference_activations(config),
        "training_batch": {key: max(0, int(room - held) // memory) for key, room in MEMORIES.items()},
    }


def _sizes(config: ModelConfig) -> dict[str, Any]:
    sizes = ("depth", "width", "heads", "mlp", "patch")
    match config:
        case ResNetConfig(stages):
            places = config.grid[0] * config.grid[1]
            kind = "axial ResNet" if config.axial_heads else "ResNet"
            return {"kind": kind, **dict.fromkeys(sizes), "tokens": places, **_under(stages)}
        case ViTConfig(backbone=under):
            encoder = {key: getattr(config, key) for key in (*sizes, "tokens")}
            return {"kind": "hybrid" if under else "axial ViT" if config.axial else "ViT", **encoder, **_under(under)}


def _under(stages: Stages | None) -> dict[str, Any]:
    return {"stages": list(stages.units) if stages else None, "channels": stages.width if stages else None}


COLUMNS = ("stages", "layers", "width", "heads", "MLP", "tokens", "parameters", "GMACs", "training", "inference")


def listing(rows: list[dict[str, Any]]) -> str:
    """Rows of `describe` as aligned columns, one group for each kind."""
    cells = {row["name"]: [row["name"], *_cells(row)] for row in rows}
    kinds = dict.fromkeys(row["kind"] for row in rows)
    members = {kind: [cells[row["name"]] for row in rows if row["kind"] == kind] for kind in kinds}
    lines = []
    for kind, rows_of_kind in members.items():
        has = [any(column) for column in list(zip(*rows_of_kind, strict=True))[1:]]
        head = [kind, *(title if there else "" for title, there in zip(COLUMNS, has, strict=True))]
        lines += [head, *rows_of_kind, [""]]
    text = "\n".join(table(lines, "<>"))
    return f"{text}\ntraining, inference: MB of activations for each image of a batch, in float32"


def _cells(row: dict[str, Any]) -> list[str]:
    sizes = ["" if row[key] is None else str(row[key]) for key in ("depth", "width", "heads", "mlp", "tokens")]
    memory = [f"{row[key] / 1e6:,.1f}" for key in ("training_memory", "inference_memory")]
    return [_stages(row), *sizes, f"{row['parameters']:,}", f"{row['macs'] / 1e9:,.3f}", *memory]


def _stages(row: dict[str, Any]) -> str:
    """3-4-6-3, and what the widths are multiplied with; the root alone has no stages."""
    if row["stages"] is None:
        return ""
    factor = f" x{row['channels'] / 64:g}" if row["kind"] == "ResNet" else ""
    return ("-".join(map(str, row["stages"])) or "root") + factor


def facts(row: dict[str, Any]) -> str:
    """One row of `describe` as a short list with labels."""
    shown = {
        "kind": row["kind"],
        "stages": _stages(row),
        "layers": row["depth"],
        "width": row["width"],
        "heads": row["heads"],
        "MLP": row["mlp"],
        "patch": row["patch"],
        "tokens": row["tokens"],
        "parameters": f"{row['parameters']:,}, {row['weights'] / 1e6:,.1f} MB in float32",
        "GMACs": f"{row['macs'] / 1e9:,.3f}",
    }
    if row["macs_without_padding"] != row["macs"]:
        shown["GMACs"] += f", {row['macs_without_padding'] / 1e9:,.3f} without products with padding"
    shown["memory an image"] = (
        f"{row['training_memory'] / 1e6:,.1f} MB in training, {row['inference_memory'] / 1e6:,.1f} MB in inference, "
        "activations in float32"
    )
    model = f"none, weights, gradients and moments take {4 * row['weights'] / 1e9:,.1f} GB"
    for memory, images in row["training_batch"].items():
        shown[f"Adam in {memory}"] = f"a batch of {images:,}" if images else model
    lines = [f"{label:<16} {value}" for label, value in shown.items() if value not in (None, "")]
    return "\n".join([row["name"], *(f"  {line}" for line in lines)])
