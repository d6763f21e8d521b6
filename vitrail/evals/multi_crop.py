"""Several views of each image: crops, mirrored ones, and resolutions, whose probabilities are averaged.

One: the view that travels with the model. Five: the middle and the corners (Krizhevsky et al. 2012); ten: these and
their mirror images.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vitrail.core.device import available_memory
from vitrail.core.errors import BadInput
from vitrail.data.decode.image import BrokenImage, Pixels, to_pixels
from vitrail.data.loader.batch import Batch, Broken
from vitrail.data.sources.base import Example, Source
from vitrail.data.transforms import crops as augment
from vitrail.data.transforms.pipeline import CentreCrop, Preprocess, SquareResize, eval_transform
from vitrail.evals.inference import run_inference
from vitrail.models.build import Model
from vitrail.runtimes.runtime import Runtime

Crops = Literal[1, 5, 10]
ROOM = 0.875  # of a model that sees whole images, what a crop shows of each side
SMALLEST = 1e-30  # a probability, so that its logarithm is finite


def crops_of(pixels: Pixels, preprocess: Preprocess, crops: Crops) -> list[Pixels]:
    """The views of an image, uint8 [H, W, 3] each: the middle first, then the corners, then their mirror images."""
    if crops == 1:
        return [eval_transform(pixels, preprocess)]
    height, width = preprocess.resolution
    match preprocess.resize:
        case CentreCrop(share):
            larger = augment.cover(pixels, preprocess.resolution, min(share, ROOM), preprocess.interpolation)
        case SquareResize():
            size = (round(height / ROOM), round(width / ROOM))
            larger = augment.resize(pixels, size, interpolation=preprocess.interpolation)
    down, right = larger.shape[0] - height, larger.shape[1] - width
    places = [(down // 2, right // 2), (0, 0), (0, right), (down, 0), (down, right)]
    views = [larger[y : y + height, x : x + width] for y, x in places]
    return views if crops == 5 else views + [view[:, ::-1] for view in views]


class Cropped(Source):
    """A source that yields `crops` views of each image; the evaluation transform leaves them as they are."""

    def __init__(self, source: Source, preprocess: Preprocess, crops: Crops):
        self.source, self.preprocess, self.crops = source, preprocess, crops
        self.classes, self.labels = source.classes, source.labels.repeat(crops)
        self._last: tuple[int, list[Pixels], Example] | None = None

    @property
    def view(self) -> Preprocess:
        """The evaluation view of views: as they are."""
        return replace(self.preprocess, resize=SquareResize())

    def __getitem__(self, index: int) -> Example:
        image, view = divmod(index, self.crops)
        if self._last is None or self._last[0] != image:  # a worker asks for the views of an image in a row
            example = self.source[image]
            try:
                views = crops_of(to_pixels(example.image), self.preprocess, self.crops)
            except BrokenImage as problem:
                problem.key = example.key
                raise
            self._last = (image, views, example)
        return self._last[2]._replace(image=np.ascontiguousarray(self._last[1][view]))


def multi_crop_logits(
    models: Sequence[Model],
    source: Source,
    crops: Crops,
    *,
    broken: Broken,
    dtype: torch.dtype | None = None,
    workers: int | None = None,
    title: str = "evaluating",
    runtimes: Sequence[Runtime | None] = (),
) -> Iterator[tuple[Batch, Tensor]]:
    """Batches and their logits; of several views those are the logarithms of the mean probabilities.

    Args:
        models: one model, or the same at several resolutions (`model.preprocess`); pictures are those of the last.
        runtimes: what computes each of them; none: they themselves.

    Raises:
        BadInput: the probabilities of all but the last resolution do not fit into memory.
    """
    computed = dict(zip(models, runtimes or [None] * len(models), strict=True))
    if len(models) == 1 and crops == 1:
        model = models[0]
        for part in run_inference(
            model,
            source,
            model.preprocess,
            broken=broken,
            dtype=dtype,
            workers=workers,
            title=title,
            runtime=computed[model],
        ):
            yield part.batch, part.logits
        return
    _check_memory(source, len(models))
    held, keys = torch.zeros(()), list[str]()
    for model in models[:-1]:
        keys, means = [], []
        named = f"{title}, {_size(model)}"
        for batch, mean in _mean_of_crops(model, source, crops, broken, dtype, workers, named, computed[model]):
            keys += batch.keys
            means.append(mean)
        held = held + torch.cat(means)
    start = 0
    for batch, probabilities in _mean_of_crops(
        models[-1], source, crops, broken, dtype, workers, f"{title}, {_size(models[-1])}", computed[models[-1]]
    ):
        stop = start + len(probabilities)
        if len(models) > 1:
            if batch.keys != keys[start:stop]:
                raise BadInput("the data have changed while they were read: run it again")
            probabilities = (probabilities + held[start:stop]) / len(models)
        yield batch, probabilities.clamp_min(SMALLEST).log()
        start = stop


def _mean_of_crops(
    model: Model,
    source: Source,
    crops: Crops,
    broken: Broken,
    dtype: torch.dtype | None,
    workers: int | None,
    title: str,
    runtime: Runtime | None,
) -> Iterator[tuple[Batch, Tensor]]:
    """Batches, of each image its first view, and the mean of the probabilities [B, K] of all of its views."""
    cut = Cropped(source, model.preprocess, crops)
    rest: tuple[Batch, Tensor] | None = None
    for part in run_inference(
        model, cut, cut.view, broken=broken, dtype=dtype, workers=workers, title=title, runtime=runtime
    ):
        batch, probabilities = part.batch, part.logits.softmax(dim=1)
        if rest is not None:
            batch, probabilities = _joined(rest[0], batch), torch.cat([rest[1], probabilities])
        whole = len(batch.keys) // crops * crops
        after = _rows(batch, slice(whole, None))
        rest = after._replace(images=after.images.clone()), probabilities[whole:]  # a loader uses its memory again
        if whole:
            first = _rows(batch, slice(0, whole, crops))
            first = first._replace(indices=first.indices // crops)  # of the image, not of its view
            yield first, probabilities[:whole].unflatten(0, (-1, crops)).mean(dim=1)


def _rows(batch: Batch, rows: slice) -> Batch:
    images, labels, indices, epochs, keys, broken = batch
    return Batch(images[rows], labels[rows], indices[rows], epochs[rows], keys[rows], broken)


def _joined(one: Batch, other: Batch) -> Batch:
    images, labels = torch.cat([one.images, other.images]), torch.cat([one.labels, other.labels])
    indices, epochs = torch.cat([one.indices, other.indices]), torch.cat([one.epochs, other.epochs])
    return Batch(images, labels, indices, epochs, one.keys + other.keys, other.broken)


def _size(model: Model) -> str:
    height, width = model.config.resolution
    return f"{height} x {width}"


def _check_memory(source: Source, models: int) -> None:
    needed, room = 8 * len(source) * len(source.classes), available_memory(torch.device("cpu"))
    if models > 1 and room is not None and needed > room:
        raise BadInput(
            f"averaging over resolutions holds {len(source):,} x {len(source.classes):,} probabilities: "
            f"{needed / 2**30:.1f} GiB of the {room / 2**30:.1f} GiB that are free; give one resolution or fewer images"
        )
