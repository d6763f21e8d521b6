"""Frozen features: what a model makes of every image of a source, to be judged without training the model.

N images · R width of the representation · L layers · P poolings · D width of the tokens
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from vitrail.core.cluster import Cluster, cluster_mapping
from vitrail.core.device import Precision, RuntimeChoice, choose_precision
from vitrail.core.errors import BadInput
from vitrail.core.progress import progress
from vitrail.data.loader.batch import Broken, BrokenExample
from vitrail.data.loader.loader import eval_loader
from vitrail.data.sources.base import Source
from vitrail.data.sources.subset import Subset
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.evals.inference import run_inference
from vitrail.models.build import Model, ModelConfig
from vitrail.models.resnet import ResNetConfig
from vitrail.models.vit import ViT, ViTConfig
from vitrail.records.linear import Tokens
from vitrail.records.read_run import Columns
from vitrail.runtimes.open_runtime import open_runtime
from vitrail.runtimes.runtime import Runtime


@dataclass(frozen=True)
class Representation:
    """The input of the classifier (the official `pre_logits`): [R]."""


@dataclass(frozen=True)
class EveryLayer:
    """The representation, and the tokens before the first layer and after each: class token and mean of patches.

    [R + (L + 1) · P · D] in one row, which `layers_of` takes apart; before the last norm. P is 1 (the mean) for a model
    without a class token, else 2.
    """


Reading = Representation | EveryLayer
CLUSTER_IMAGES = 1024  # of a task of a cluster: whole batches, as they are without one
PIXELS = 32  # 3,072 features; those of 224 pixels of a few thousand images would fill a machine


class Features(NamedTuple):
    """`values` [N, ...], `labels` int64 [N], (key, reason) of the images that could not be read, and `places` in the
    source of the others.

    `values` are float32, or float16 where they were stored so; they may lie in a file.
    """

    values: Float[np.ndarray, "n ..."]
    labels: Int64[np.ndarray, " n"]
    broken: tuple[tuple[str, str], ...]
    places: Int64[np.ndarray, " n"]

    def __repr__(self) -> str:
        broken = f", {len(self.broken)} images cannot be read" if self.broken else ""
        return f"Features of {len(self.labels):,} images, {self.values.dtype} {self.values.shape}{broken}"

    def to_pandas(self) -> Any:
        """A pandas.DataFrame with a row an image: place, label, and the features as columns "0", "1", ...

        Raises:
            BadInput: pandas is not installed.
        """
        values = {str(i): column for i, column in enumerate(self.values.reshape(len(self.labels), -1).T)}
        return Columns({"place": self.places, "label": self.labels, **values}).to_pandas()


class Part(NamedTuple):
    """Some images in the order of the source: their places in it, and what was read."""

    places: Int64[np.ndarray, " b"]
    values: Float32[np.ndarray, "b ..."]


def features(
    model: Model,
    source: Source,
    preprocess: Preprocess,
    *,
    dtype: torch.dtype | None = None,
    reading: Reading = Representation(),
    workers: int | None = None,
    runtime: Runtime | None = None,
    cluster: Cluster | None = None,
) -> Features:
    """Extract features for every readable image, in source order; float32 [N, D]. `cluster`: as `feature_parts`."""
    broken = Broken(len(source))
    parts = list(
        feature_parts(
            model, source, preprocess, reading, broken, dtype=dtype, workers=workers, runtime=runtime, cluster=cluster
        )
    )
    places = np.concatenate([part.places for part in parts])
    values = np.concatenate([part.values for part in parts])
    return Features(values, source.labels[places], _named(broken), places)


def open_for_features(
    model: Model, reading: Reading, runtime: RuntimeChoice, precision: Precision, images: int
) -> Runtime | None:
    """What computes the features of so many images; None where layers are read, which the model itself must do.

    Raises:
        BadInput: another runtime than PyTorch is asked for, and layers are read.
    """
    if isinstance(reading, Representation):
        return open_runtime(model, runtime, precision, images=images)
    if runtime not in ("auto", "torch"):
        raise BadInput(f"--runtime {runtime} gives the representation alone: layers are read with --runtime torch")
    return None


def pixel_features(source: Source, preprocess: Preprocess) -> Features:
    """The pixels themselves, flattened: what a representation has to beat. No more than 32 a side."""
    height, width = preprocess.resolution
    small = replace(preprocess, resolution=(min(height, PIXELS), min(width, PIXELS)))
    broken = Broken(len(source))
    indices, values = [], []
    for part in eval_loader(source, small):
        broken.add(part.broken)
        indices.append(part.indices.numpy())
        values.append(part.images.flatten(1).numpy().astype(np.float32) / 255)
    places = np.concatenate(indices)
    return Features(np.concatenate(values), source.labels[places], _named(broken), places)


def _named(broken: Broken) -> tuple[tuple[str, str], ...]:
    return tuple((example.key, example.reason) for example in broken.examples.values())


def shape_of(model: Model, reading: Reading) -> tuple[int, ...]:
    """The shape of what is read of an image; raises BadInput for the layers of a ResNet."""
    config = model.config
    match reading:
        case Representation():
            return (config.representation_width,)
        case EveryLayer():
            if isinstance(config, ResNetConfig):
                raise BadInput(
                    "the model is a ResNet: its layers differ in width; layers are read of a ViT or a hybrid"
                )
            return (config.representation_width + (config.depth + 1) * len(_poolings(config)) * config.width,)


class Layer(NamedTuple):
    """Features [N, D] after layer `depth` (0: before the first) of one kind of token; all None: the representation."""

    depth: int | None
    tokens: Tokens | None
    values: Float[np.ndarray, "n d"]


def layers_of(values: Float[np.ndarray, "n d"], config: ModelConfig) -> Iterator[Layer]:
    """Takes apart the rows that `EveryLayer` read, without a copy: the representation first, then by depth."""
    assert isinstance(config, ViTConfig)
    start = config.representation_width
    yield Layer(None, None, values[:, :start])
    for depth in range(config.depth + 1):
        for tokens in _poolings(config):
            yield Layer(depth, tokens, values[:, start : start + config.width])
            start += config.width


def _poolings(config: ViTConfig) -> tuple[Tokens, ...]:
    return ("class token", "mean of patches") if config.class_token else ("mean of patches",)


def feature_parts(
    model: Model,
    source: Source,
    preprocess: Preprocess,
    reading: Reading,
    broken: Broken,
    *,
    dtype: torch.dtype | None = None,
    workers: int | None = None,
    batch: int = 256,
    runtime: Runtime | None = None,
    cluster: Cluster | None = None,
) -> Iterator[Part]:
    """The readable images batch by batch; constant memory.

    Args:
        dtype: of the forward pass, None for the fastest here.
        cluster: whose nodes compute them, on processors and by PyTorch (`for_cluster`), 1,024 images a task.
    """
    shape_of(model, reading)
    if cluster is not None:
        dtype = getattr(torch, runtime.precision) if runtime else dtype or choose_precision("auto", torch.device("cpu"))
        yield from _cluster_parts(_Task(model, source, preprocess, reading, dtype, batch), broken)
        return
    with _taken(model, reading) as taken:
        parts = run_inference(
            model,
            source,
            preprocess,
            broken=broken,
            dtype=dtype,
            workers=workers,
            batch=batch,
            title="features",
            runtime=runtime,
        )
        for part in parts:
            values = part.representation
            if taken is not None:
                values = torch.cat([values, taken().flatten(1)], dim=1)
            yield Part(part.batch.indices.numpy(), values.numpy())


def for_cluster(cluster: Cluster | None, device: str, runtime: RuntimeChoice) -> tuple[str, RuntimeChoice]:
    """The device and the runtime of features: as they are asked for, and on a cluster the only ones that it has.

    Raises:
        BadInput: another one is asked for on a cluster.
    """
    if cluster is None:
        return device, runtime
    if device not in ("auto", "cpu") or runtime not in ("auto", "torch"):
        raise BadInput(
            f"--cluster {cluster} computes features on processors, by PyTorch: leave out --device and --runtime "
            "(on GPUs: vitrail linear under torchrun, each process computes its part)"
        )
    return "cpu", "torch"


class _Task(NamedTuple):
    """What a node of a cluster needs to know for the features of any images."""

    model: Model
    source: Source
    preprocess: Preprocess
    reading: Reading
    dtype: torch.dtype
    batch: int


def _cluster_parts(task: _Task, broken: Broken) -> Iterator[Part]:
    count, size = len(task.source), CLUSTER_IMAGES
    chunks = (np.arange(start, min(count, start + size)) for start in range(0, count, size))
    seen = 0
    with cluster_mapping(_features_at, task) as mapped, progress("features", -(-count // size)) as bar:
        for parts, lost in mapped(chunks):
            broken.add(lost)
            yield from parts
            seen += sum(len(part.places) for part in parts)
            bar.advance(f"{seen:,} images")
    if not seen:
        raise BadInput("not one image can be read: " + "; ".join(f"{k}: {r}" for k, r in broken.found.items()))


def _features_at(task: _Task, places: Int64[np.ndarray, " n"]) -> tuple[list[Part], list[BrokenExample]]:
    """The features of the images at these places, and those that are broken, by their places; in this process."""
    broken = Broken(len(task.source))
    some = Subset(task.source, places)
    found = feature_parts(
        task.model, some, task.preprocess, task.reading, broken, dtype=task.dtype, workers=0, batch=task.batch
    )
    parts = [Part(places[part.places], part.values) for part in found]
    return parts, [replace(one, index=int(places[one.index])) for one in broken.examples.values()]


@contextmanager
def _taken(model: Model, reading: Reading) -> Iterator[Callable[[], Tensor] | None]:
    """Hooks the layers; yields a function that returns the pooled tokens of the last forward pass, if any are read."""
    if isinstance(reading, Representation) or not isinstance(model, ViT):
        yield None
        return
    config, blocks = model.config, list(model.blocks)
    pooled_layers: list[Tensor] = []

    def pooled(tokens: Tensor) -> Tensor:
        mean = tokens[:, config.num_prefix_tokens :].float().mean(dim=1)
        return torch.stack([tokens[:, 0].float(), mean] if config.class_token else [mean], dim=1)

    def first(_: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        pooled_layers[:] = [pooled(inputs[0])]

    def after(_: torch.nn.Module, __: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        pooled_layers.append(pooled(output[0]))

    handles = [blocks[0].register_forward_pre_hook(first)]
    handles += [block.register_forward_hook(after) for block in blocks]
    try:
        yield lambda: torch.stack(pooled_layers, dim=1).cpu()
    finally:
        for handle in handles:
            handle.remove()
