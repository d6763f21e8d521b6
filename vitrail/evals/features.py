"""Frozen features: the representation of every image of a source."""

from typing import NamedTuple

import numpy as np
import torch

from vitrail.data.batches import Broken, evaluation_batches
from vitrail.data.sources import Source
from vitrail.data.views import Preprocess
from vitrail.evals.forward import forward
from vitrail.models.build import Model


class Features(NamedTuple):
    """`values` float32 [N, D], `labels` int64 [N], and (key, reason) of the images that could not be read."""

    values: np.ndarray
    labels: np.ndarray
    broken: tuple[tuple[str, str], ...] = ()


def features(model: Model, source: Source, preprocess: Preprocess, *, dtype: torch.dtype | None = None) -> Features:
    """What the classifier reads (the official `pre_logits`), for every readable image in the order of the source."""
    broken = Broken(len(source))
    parts = list(forward(model, source, preprocess, broken=broken, dtype=dtype, title="features"))
    values = torch.cat([p.representation for p in parts]).numpy()
    return Features(values, np.concatenate([p.batch.labels.numpy() for p in parts]), tuple(broken.found.items()))


def pixel_features(source: Source, preprocess: Preprocess) -> Features:
    """The pixels themselves, flattened: what a representation has to beat."""
    parts = list(evaluation_batches(source, preprocess))
    values = torch.cat([p.images for p in parts]).flatten(1).numpy().astype(np.float32) / 255
    return Features(values, np.concatenate([p.labels.numpy() for p in parts]))
