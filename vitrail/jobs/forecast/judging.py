"""What an evaluation takes: a few images are judged, and some more."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from vitrail.data.sources.base import Source
from vitrail.data.sources.subset import Subset
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.evals.classify import evaluate
from vitrail.evals.inference import LOADER_FROM
from vitrail.models.build import Model
from vitrail.train.profile import timed

SECONDS = 2.0  # that images are judged for
TOGETHER = 256  # images of a pass


@dataclass(frozen=True)
class Judging:
    """Time of an evaluation."""

    start: float  # seconds before its first image
    each: float  # seconds an image
    images: int  # that were judged here


def judge(
    model: Model,
    source: Source,
    images: int,
    preprocess: Preprocess,
    *,
    likely: float,
    dtype: torch.dtype,
    workers: int | None,
) -> Judging:
    """Judges some of `images` images, as many as take two seconds if one takes `likely` seconds."""
    count = max(2, min(images, max(LOADER_FROM, 2 * TOGETHER), int(SECONDS / likely)))
    few = max(1, min(count // 2, TOGETHER))
    spent = []
    for n in (few, count):
        part = Subset(source, np.arange(n) % len(source))
        spent.append(timed(partial(evaluate, model, part, preprocess, dtype=dtype, workers=workers)))
    if workers is None and images >= LOADER_FROM > few:  # of the two only one starts processes
        each = spent[0] / few
        return Judging(max(0.0, spent[1] - each * count), each, count)
    each = max(0.0, spent[1] - spent[0]) / (count - few) if count > few else spent[1]
    return Judging(max(0.0, spent[1] - each * count), each, count)
