"""Looking inside: filters, positions, attention distance, rollout, as arrays in a folder that the report draws."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitrail.analysis.distance import attention_distance
from vitrail.analysis.filters import embedding_filters, for_display
from vitrail.analysis.rollout import output_rollout
from vitrail.analysis.similarity import position_similarity
from vitrail.core.device import Machine, choose_device
from vitrail.core.errors import BadInput
from vitrail.core.files import atomic_path, write_json
from vitrail.core.progress import progress, say
from vitrail.core.seeds import generator
from vitrail.data.batches import Batch, evaluation_batches, normalise
from vitrail.data.grammar import open_data
from vitrail.data.sources import Source
from vitrail.data.subsets import Subset
from vitrail.data.views import Preprocess
from vitrail.models.build import Model
from vitrail.models.hybrid import root
from vitrail.models.position import Learned1d, Learned2d, NoPosition, PositionConfig, Relative, SinCos2d
from vitrail.models.resnet import ResNet
from vitrail.models.vit import ViT, ViTConfig
from vitrail.weights.load import load

ATTENTION_BYTES = 256 << 20  # of attention weights held at a time


@dataclass(frozen=True)
class Inspect:
    """What to look at. Without images: filters and positions alone."""

    model: str
    images: str | None = None
    count: int = 32  # images over which distances are averaged
    shown: int = 8  # of these, images whose rollout is drawn
    resolution: int | None = None


def inspect(config: Inspect, folder: Path, machine: Machine | None = None) -> dict[str, Any]:
    """Inspects a model into `folder`; returns what inspection.json holds (docs/files.md).

    Raises:
        BadInput: a model or images that cannot be used, no images asked for, or all of those chosen are broken.
    """
    if min(config.count, config.shown) < 1:
        raise BadInput(f"count is {config.count} and shown is {config.shown}: both must be at least 1")
    model = load(config.model, resolution=config.resolution, device=choose_device((machine or Machine()).device))
    source = open_data(config.images, "test") if config.images else None
    if source is not None and isinstance(model, ResNet):
        say(f"{config.model} is a ResNet and has no attention: its filters are drawn, {config.images} is not used")
    classes = model.classes
    counts = (config.count, config.shown)
    return look_inside(model, model.preprocess, classes, source, folder, name=config.model, counts=counts)


def look_inside(
    model: Model,
    preprocess: Preprocess,
    classes: tuple[str, ...],
    source: Source | None,
    folder: Path,
    *,
    name: str,
    counts: tuple[int, int] = (32, 8),
) -> dict[str, Any]:
    """`inspect` for a model in memory. The images are a seeded choice of `counts[0]`, `counts[1]` of them shown."""
    config = model.config
    filters, variance = embedding_filters(_first_layer(model).cpu())
    arrays = {"filters": for_display(filters).numpy()}
    images: list[dict[str, Any]] = []
    judged = 0
    if isinstance(model, ViT):
        table = model.position_table()
        if table is not None:
            arrays["position_similarity"] = position_similarity(table[:1], model.config.prefix).cpu().numpy()
        if source is not None:
            chosen = generator(0, "inspect").permutation(len(source))[: counts[0]]
            seen, images, judged = _attention(model, preprocess, classes, Subset(source, chosen), counts[1])
            arrays |= seen
    transformer = config if isinstance(config, ViTConfig) else None
    summary = {
        "model": name,
        "resolution": list(config.resolution),
        "patch": transformer.stride if transformer else None,
        "grid": list(config.grid),
        "depth": transformer.depth if transformer else None,
        "heads": transformer.heads if transformer else None,
        "class_token": bool(transformer and transformer.class_token),
        "positions": _kind_of(transformer.position) if transformer else "none",
        "images": images,
        "filters_variance": variance.tolist(),
        "distance_images": judged,
    }
    with atomic_path(folder / "arrays.npz") as temporary:
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]
    write_json(folder / "inspection.json", summary)
    return summary


def _first_layer(model: Model) -> torch.Tensor:
    """The weight [D, C, P, P] that meets the pixels: the patch embedding, or the root of a ResNet."""
    if isinstance(model, ResNet):
        return model.stem.conv.weight
    under = model.patch_embed.backbone
    return model.patch_embed.proj.weight if under is None else root(under).conv.weight


def _kind_of(position: PositionConfig) -> str:
    match position:
        case NoPosition():
            return "none"
        case Learned1d() | Learned2d():
            return "learned from noise"
        case Relative():
            return "relative"
        case SinCos2d(learned):
            return "learned from sines and cosines" if learned else "fixed sines and cosines"


def _attention(
    model: ViT, preprocess: Preprocess, classes: tuple[str, ...], source: Source, shown: int
) -> tuple[dict[str, np.ndarray], list[dict[str, Any]], int]:
    """Arrays, a row for each image shown, and how many images could be read."""
    config, prefix = model.config, model.config.prefix
    device = next(model.parameters()).device
    bytes_each = 4 * config.depth * config.heads * config.tokens**2
    batch = max(1, min(32, ATTENTION_BYTES // bytes_each))
    distances, maps, pictures = [], [], []
    rows: list[dict[str, Any]] = []
    broken: list[tuple[str, str]] = []
    loader = evaluation_batches(source, preprocess, batch=batch)
    model.eval()
    with progress("inspecting", len(loader)) as bar, torch.inference_mode():
        for part in loader:
            broken += part.broken
            if len(part.labels):
                output = model(normalise(part.images, preprocess, device), attention=True)
                weights = output.attention or ()
                distances.append(
                    torch.stack([attention_distance(w, config.grid, config.stride, prefix) for w in weights], dim=1)
                )
                if len(rows) < shown:
                    maps.append(output_rollout(weights, config.grid, prefix, config.pool).cpu())
                    pictures.append(part.images.permute(0, 2, 3, 1))
                    rows += _described(part, output.logits.float().cpu(), classes, source.classes)
            bar.advance()
    if not distances:
        key, reason = broken[0]
        raise BadInput(f"not one of the {len(broken)} images chosen can be read; the first is {key}: {reason}")
    distance = torch.cat(distances)
    arrays = {
        "attention_distance": distance.mean(dim=0).cpu().numpy(),
        "rollout": torch.cat(maps)[:shown].numpy(),
        "images": torch.cat(pictures)[:shown].numpy(),
    }
    return arrays, rows[:shown], len(distance)


def _described(
    batch: Batch, logits: torch.Tensor, classes: tuple[str, ...], labels: tuple[str, ...]
) -> list[dict[str, Any]]:
    rows = []
    for key, label, scores in zip(batch.keys, batch.labels.tolist(), logits.softmax(dim=-1), strict=True):
        best = int(scores.argmax())
        named = best < len(classes)  # a model without a classifier names nothing
        rows.append(
            {
                "key": key,
                "label": labels[label],
                "predicted": classes[best] if named else None,
                "confidence": float(scores[best]) if named else None,
            }
        )
    return rows
