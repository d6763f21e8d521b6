"""What `finetune auto` may try, in this order, and which of it a model and its images allow."""

from typing import NamedTuple

import numpy as np

from vitrail.core.errors import BadInput
from vitrail.data.decode.image import BrokenImage, size_of, to_picture
from vitrail.data.sources.base import Source
from vitrail.models.resnet import ResNetConfig
from vitrail.train.trainable import LastBlocks, LayerDecay, Lora, Tuned
from vitrail.weights.pretrained import PretrainedModel
from vitrail.weights.transplant import for_transfer

JUDGE = "linear judge"  # the name of what all of them start from
MEASURED_IMAGES = 16  # whose sizes are looked at


class Candidate(NamedTuple):
    """A way to fine-tune from the linear judge."""

    name: str
    tuned: Tuned
    rate: float  # by that of the config
    cost: float = 1.0  # seconds of a step, by those of all layers at the model's resolution
    scale: float = 1.0  # of the resolution


CANDIDATES = (
    Candidate("all-layers", LayerDecay(0.75), 1.0),
    Candidate("lora-8", Lora(8, 16.0), 5.0),
    Candidate("larger", LayerDecay(0.75), 1.0, cost=2.4, scale=1.5),
    Candidate("all-layers-faster", LayerDecay(0.75), 3.0),
    Candidate("last-blocks", LastBlocks(4), 3.0, cost=0.6),
)
SOUP = Candidate("soup", LayerDecay(0.75), 1.0)  # goes on from the mean of trials, where that is the best


def usable(start: PretrainedModel, train: Source, resolution: int | None) -> tuple[Candidate, ...]:
    """Those that the model can be trained by; larger images where they have more pixels than the model looks at.

    Args:
        resolution: that somebody asked for, which then stays.
    """
    if isinstance(start.config, ResNetConfig):
        return CANDIDATES[:1]
    found = []
    for one in CANDIDATES:
        if isinstance(one.tuned, LastBlocks) and start.config.depth < 2 * one.tuned.count:
            continue
        if one.scale != 1.0:
            size = larger(start, one.scale) if resolution is None else None
            if size is None or _side(train) < size:
                continue
        found.append(one)
    return tuple(found)


def larger(start: PretrainedModel, scale: float) -> int | None:
    """Pixels of a side at so many times the resolution; None where the model takes no such, or no squares."""
    height, width = start.preprocess.resolution
    size = round(height * scale)
    if height != width:
        return None
    try:
        for_transfer(start, 1, (size, size))
    except BadInput:
        return None
    return size


def _side(train: Source) -> float:
    """Pixels of the shorter side, the median of a few images; 0 where none of them can be read."""
    sides = []
    for place in np.linspace(0, len(train) - 1, min(MEASURED_IMAGES, len(train))).astype(int):
        try:
            sides.append(min(size_of(to_picture(train[int(place)].image))))
        except BrokenImage:
            continue
    return float(np.median(sides)) if sides else 0.0
