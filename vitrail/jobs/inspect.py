"""Looking inside: filters, positions, attention, nearest neighbours, as arrays in a folder that the report draws."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitrail.analysis.distance import even_distance
from vitrail.analysis.filters import embedding_filters, first_layer, for_display
from vitrail.analysis.look import bytes_to_look, look
from vitrail.analysis.maps import half_share, likeness
from vitrail.analysis.neighbours import NEIGHBOURS_OF, Set, neighbours
from vitrail.analysis.similarity import position_similarity
from vitrail.core.device import Machine, available_memory, choose_device
from vitrail.core.errors import BadInput
from vitrail.core.estimate import over_seeds
from vitrail.core.files import atomic_path
from vitrail.core.progress import progress, say
from vitrail.core.resumable import alone_in
from vitrail.core.seeds import generator
from vitrail.data.loader.batch import Batch, BrokenExample
from vitrail.data.loader.loader import eval_loader
from vitrail.data.loader.normalise import normalise
from vitrail.data.open.names import Role, open_data, open_unlabelled
from vitrail.data.sources.base import Source
from vitrail.data.sources.subset import Subset
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.models.build import Model
from vitrail.models.objective import Learner, learner
from vitrail.models.position import Learned1d, Learned2d, NoPosition, PositionConfig, Relative, SinCos2d
from vitrail.models.resnet import ResNet
from vitrail.models.vit import ViT, ViTConfig
from vitrail.records.images import UnreadableImage
from vitrail.records.inspection import (
    AttentionDistance,
    HeadMaps,
    InspectedImage,
    Inspection,
    Mean,
    MeanOfLayers,
    Rollout,
)
from vitrail.records.record import write_record
from vitrail.train.reconstruct import paint
from vitrail.weights.load import model_of, read_pretrained
from vitrail.weights.pretrained import PretrainedModel

LOOKING_BYTES = 512 << 20  # of activations and attention held at a time
SEVERAL = 8  # maps of single heads, up to which all shown images have them; more are drawn of two images
OF_ALL_HEADS = 2


@dataclass(frozen=True)
class Inspect:
    """What to look at. Without images: filters and positions alone."""

    model: str
    images: str | None = None
    count: int = 128  # images over which is averaged, as in the paper
    shown: int = 8  # of these, images that are drawn; 128 make a page like the paper's figure 14
    layers: tuple[int, ...] = ()  # whose heads are drawn one by one, from 1; none named: all
    heads: tuple[int, ...] = ()  # which of their heads, from 1; none named: all
    query: tuple[int, int] | None = None  # row and column, from 1, of the patch that looks; None: the output
    neighbours: str | None = None  # DATA among which the images' nearest neighbours are sought
    nearest: int = 5  # how many of them are drawn
    resolution: int | tuple[int, int] | None = None  # pixels, or height and width; None: the model's own


def inspect(config: Inspect, folder: Path, machine: Machine | None = None) -> Inspection:
    """Inspects a model into `folder` (docs/files.md).

    Raises:
        BadInput: a model or images that cannot be used, no images asked for, all of those chosen are broken, layers,
            heads or a patch that the model does not have, or attention that does not fit into memory.
    """
    machine = machine or Machine()
    if min(config.count, config.shown) < 1:
        raise BadInput(f"count is {config.count} and shown is {config.shown}: both must be at least 1")
    if config.nearest < 1:
        raise BadInput(f"nearest is {config.nearest}: at least 1 neighbour is drawn")
    if config.neighbours and not config.images:
        raise BadInput("--neighbours needs --images DATA: the images whose neighbours are sought")
    published = read_pretrained(config.model, resolution=config.resolution)
    model = model_of(published, config.resolution).to(choose_device(machine.device)).eval()
    if isinstance(model, ViT):
        chosen_heads(config, model.config)  # before anything is opened
    source = _images(config.images, "test") if config.images else None
    among = Set(config.neighbours, _images(config.neighbours, "train")) if config.neighbours else None
    if source is not None and isinstance(model, ResNet):
        rest = (
            "its filters and neighbours are drawn" if among else f"its filters are drawn, {config.images} is not used"
        )
        say(f"{config.model} is a ResNet and has no attention: {rest}")
    with alone_in(folder):
        return look_inside(
            model,
            model.preprocess,
            model.classes,
            source,
            folder,
            name=config.model,
            asked=config,
            among=among,
            painter=_painter(model, published),
        )


def _images(data: str, role: Role) -> Source:
    """With their classes, or without where there are none: a flat folder."""
    try:
        return open_data(data, role)
    except BadInput as problem:
        try:
            source = open_unlabelled(data, role)
        except BadInput:
            raise problem from None
        say(f"without classes, as {problem}")
        return source


def _painter(model: Model, published: PretrainedModel) -> Learner | None:
    """The model with the head or the decoder that it was trained with, at the size that this is made for."""
    beside = published.trained_with
    if beside is None or not isinstance(model, ViT) or model.config.resolution != published.config.resolution:
        return None
    made = learner(model, beside.objective)
    made.load_state_dict(beside.state, strict=False)
    return made.to(next(model.parameters()).device).eval()


def look_inside(
    model: Model,
    preprocess: Preprocess,
    classes: tuple[str, ...],
    source: Source | None,
    folder: Path,
    *,
    name: str,
    asked: Inspect | None = None,
    among: Set | None = None,
    painter: Learner | None = None,
) -> Inspection:
    """`inspect` for a model in memory. The images are a seeded choice of `count`, `shown` of them drawn.

    `painter`: the model with what it was trained with without labels: what it paints into the holes is drawn, too.
    """
    asked = asked or Inspect(name, count=32)
    config = model.config
    filters, variance = embedding_filters(first_layer(model).cpu())
    arrays = {"filters": for_display(filters).numpy()}
    transformer = config if isinstance(config, ViTConfig) else None
    summary = Inspection(
        model=name,
        resolution=config.resolution,
        patch=transformer.stride if transformer else None,
        grid=config.grid,
        depth=transformer.depth if transformer else None,
        heads=transformer.heads if transformer else None,
        class_token=bool(transformer and transformer.class_token),
        positions=_kind_of(transformer.position) if transformer else "none",
        images=(),
        filters_variance=variance.tolist(),
        distance_images=0,
        broken=(),
    )
    chosen = None
    if source is not None:
        chosen = Subset(source, generator(0, "inspect").permutation(len(source))[: asked.count])
    if isinstance(model, ViT):
        table = model.position_table()
        if table is not None:
            arrays["position_similarity"] = position_similarity(table[:1], model.config.num_prefix_tokens).cpu().numpy()
        if chosen is not None:
            seen, said = _attention(model, preprocess, classes, chosen, asked)
            arrays |= seen
            summary = replace(summary, **said)
    if painter is not None and chosen is not None:
        made = paint(painter, chosen, preprocess, seed=0, dtype=torch.float32, count=asked.shown)
        arrays |= {"painted_images": made.images, "painted_seen": made.seen, "painted": made.painted}
    if among is not None and chosen is not None:
        shown = min(asked.shown, NEIGHBOURS_OF)
        close = neighbours(model, preprocess, chosen, among, folder, count=asked.nearest, shown=shown)
        summary = replace(summary, neighbours=close)
    with atomic_path(folder / "arrays.npz") as temporary:
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]
    write_record(folder / "inspection.json", summary)
    return summary


def chosen_heads(asked: Inspect, config: ViTConfig) -> tuple[list[int], list[int], tuple[int, int] | None]:
    """The layers and the heads to be drawn one by one and the patch that looks, counted from 0; raises BadInput."""
    layers = _chosen("layer", asked.layers, config.depth)
    heads = _chosen("head", asked.heads, config.heads)
    if asked.query is None:
        return layers, heads, None
    (row, column), (h, w) = asked.query, config.grid
    if not (1 <= row <= h and 1 <= column <= w):
        raise BadInput(f"there is no patch in row {row}, column {column}: this model has {h} rows and {w} columns")
    return layers, heads, (row - 1, column - 1)


def _chosen(kind: str, named: tuple[int, ...], there: int) -> list[int]:
    for number in named:
        if not 1 <= number <= there:
            raise BadInput(f"there is no {kind} {number}: this model has the {kind}s 1 to {there}")
    return sorted({number - 1 for number in named}) if named else list(range(there))


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
    model: ViT, preprocess: Preprocess, classes: tuple[str, ...], source: Source, asked: Inspect
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What is seen of images: all are averaged over, the first that can be read are drawn."""
    config = model.config
    device = next(model.parameters()).device
    layers, heads, place = chosen_heads(asked, config)
    drawn = asked.shown if len(layers) * len(heads) <= SEVERAL else min(asked.shown, OF_ALL_HEADS)
    distances, maps, singles, pictures = [], [], [], []
    rows: list[InspectedImage] = []
    broken: list[BrokenExample] = []
    loader = eval_loader(source, preprocess, batch=_batch(config, device), workers=0)
    model.eval()
    with progress("inspecting", len(loader)) as bar, torch.inference_mode():
        for part in loader:
            broken += part.broken
            if len(part.labels):
                wanted = layers if len(rows) < drawn else ()
                seen = look(model, normalise(part.images, preprocess, device), layers=wanted, place=place)
                distances.append(seen.distance.cpu())
                maps.append(seen.rollout.cpu())
                if wanted:
                    singles.append(seen.heads[: drawn - len(rows), :, heads].half().cpu())
                if len(rows) < asked.shown:
                    pictures.append(part.images[: asked.shown - len(rows)].permute(0, 2, 3, 1).clone())
                    shares = (seen.logits / (model.temperature or 1)).softmax(dim=-1).cpu()
                    rows += _described(part, shares, classes, source.classes)
            bar.advance()
    if not distances:
        raise BadInput(
            f"not one of the {len(broken)} images chosen can be read; the first is {broken[0].key}: {broken[0].reason}"
        )
    distance, rollouts = torch.cat(distances), torch.cat(maps)
    arrays = {
        "attention_distance": distance.mean(dim=0).numpy(),
        "rollout": rollouts[: asked.shown].numpy(),
        "images": torch.cat(pictures).numpy(),
        "head_maps": torch.cat(singles).numpy(),
    }
    summary = {
        "images": rows[: asked.shown],
        "distance_images": len(distance),
        "broken": [UnreadableImage(key=one.key, reason=one.reason) for one in broken],
        "distance": _distances(distance.mean(dim=2).double().numpy(), config),
        "rollout": Rollout(
            half=_mean(half_share(rollouts).tolist()),
            alike=_pairs(likeness(rollouts).tolist()) if len(rollouts) > 2 else None,
        ),
        "head_maps": HeadMaps(layers=[i + 1 for i in layers], heads=[i + 1 for i in heads], query=asked.query),
    }
    return arrays, summary


def _batch(config: ViTConfig, device: torch.device) -> int:
    """How many images are looked at at once."""
    each, room = bytes_to_look(config), available_memory(device)
    if room is not None and each > room:
        size = f"{config.resolution[0]} x {config.resolution[1]}"
        raise BadInput(
            f"looking at one image of {size} pixels, {config.tokens:,} tokens, takes {each / 2**30:.1f} GiB and"
            f" {room / 2**30:.1f} GiB are free; choose a smaller --resolution"
        )
    return max(1, min(32, LOOKING_BYTES // each))


def _distances(by_layer: np.ndarray, config: ViTConfig) -> AttentionDistance:
    """Means over images and their intervals of [images, layers]: of every layer, of the first third, of the last."""
    third = max(1, config.depth // 3)

    def over(first: int, last: int) -> MeanOfLayers:
        values = by_layer[:, first - 1 : last].mean(axis=1)
        return MeanOfLayers(layers=(first, last), **vars(_mean(values.tolist())))

    return AttentionDistance(
        even=even_distance(config.grid, config.stride),
        layers=[_mean(layer.tolist()) for layer in by_layer.T],
        first=over(1, third),
        last=over(config.depth - third + 1, config.depth),
    )


def _mean(values: list[float]) -> Mean:
    """A mean over images with its interval, None for a single one."""
    return Mean(mean=float(np.mean(values)), interval=over_seeds(values))


def _pairs(values: list[float]) -> Mean:
    """As `_mean` for a mean over pairs of images, from each image's mean with the others; each counts in two."""
    mean, bounds = float(np.mean(values)), over_seeds(values)
    assert bounds is not None
    low, high = (mean + 2 * (bound - mean) for bound in bounds)
    return Mean(mean=mean, interval=(low, high))


def _described(
    batch: Batch, shares: torch.Tensor, classes: tuple[str, ...], labelled: tuple[str, ...]
) -> list[InspectedImage]:
    rows = []
    for key, label, scores in zip(batch.keys, batch.labels.tolist(), shares, strict=True):
        best = int(scores.argmax())
        named = best < len(classes)  # a model without a classifier names nothing
        rows.append(
            InspectedImage(
                key=key,
                label=labelled[label] if labelled else None,
                predicted=classes[best] if named else None,
                confidence=float(scores[best]) if named else None,
            )
        )
    return rows
