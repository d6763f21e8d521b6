"""A model over a whole source, batch by batch: what every evaluation starts from."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from vitrail.core.device import choose_precision
from vitrail.core.errors import BadInput
from vitrail.core.progress import progress
from vitrail.data.batches import Batch, Broken, evaluation_batches, normalise
from vitrail.data.sources import Source
from vitrail.data.views import Preprocess
from vitrail.models.build import Model

LOADER_FROM = 4096  # images from which worker processes earn their start-up time


class Part(NamedTuple):
    """One batch and what the model made of it, in float32 on the CPU."""

    batch: Batch
    logits: Tensor
    representation: Tensor


def forward(
    model: Model,
    source: Source,
    preprocess: Preprocess,
    *,
    broken: Broken | None = None,
    dtype: torch.dtype | None = None,
    batch: int = 256,
    workers: int | None = None,
    title: str = "evaluating",
) -> Iterator[Part]:
    """Every readable image of the source once, in order, in evaluation mode.

    Raises:
        BadInput: more broken images than `broken` allows, or not one that can be read.
    """
    device = next(model.parameters()).device
    dtype = dtype or choose_precision("auto", device)
    broken = broken or Broken(len(source))
    if workers is None and len(source) < LOADER_FROM:
        workers = 0
    loader = evaluation_batches(source, preprocess, batch=batch, workers=workers)
    was_training, seen = model.training, 0
    model.eval()
    try:
        with progress(title, len(loader)) as bar, torch.inference_mode():
            for part in loader:
                broken.add(part.broken)
                bar.advance(f"{seen + len(part.labels):,} images")
                if not len(part.labels):
                    continue
                seen += len(part.labels)
                with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                    output = model(normalise(part.images, preprocess, device))
                yield Part(part, output.logits.float().cpu(), output.representation.float().cpu())
    finally:
        model.train(was_training)
    if not seen:
        raise BadInput("not one image can be read: " + "; ".join(f"{k}: {r}" for k, r in broken.found.items()))
