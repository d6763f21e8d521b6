"""How long to fine-tune, in what batches, how much to hold out: the paper's for its data, BiT's rule for others."""

import re
from typing import NamedTuple

from vitrail.core.errors import BadInput
from vitrail.data.sources.split_names import DataName

BATCH = 512  # of Table 4, and of BiT


class HyperRule(NamedTuple):
    """Length of a fine-tuning and size of its held-out part, by the size of the data."""

    steps: int
    warmup: int  # steps
    held_out: float  # share of the training images on which the learning rate is chosen
    source: str


_PAPER = "Table 4"
# Steps of Table 4; warm-up of the official code, and of big_vision for Pets and Flowers; shares of section 4.1.
PAPER = {
    "imagenet": HyperRule(20_000, 500, 0.01, _PAPER),
    "cifar100": HyperRule(10_000, 500, 0.02, _PAPER),
    "cifar10": HyperRule(10_000, 500, 0.02, _PAPER),
    "pets": HyperRule(500, 100, 0.1, _PAPER),
    "flowers": HyperRule(500, 100, 0.1, _PAPER),
}
# BiT-HyperRule: below so many images. The shares are those of the paper's sets of such a size.
_BIT = "BiT's rule for {}"
BIT = (
    (20_000, HyperRule(500, 100, 0.1, _BIT.format("less than 20,000 images"))),
    (500_000, HyperRule(10_000, 500, 0.02, _BIT.format("less than 500,000 images"))),
    (None, HyperRule(20_000, 500, 0.01, _BIT.format("500,000 images and more"))),
)


def hyper_rule(data: str, images: int) -> HyperRule:
    """The rule for `images` training images of DATA: the paper's for its whole sets, BiT's for others and for parts."""
    name = DataName.parse(data)
    if name.place in PAPER and name.split in (None, "train") and not name.slice:
        return PAPER[name.place]
    return next(scale for below, scale in BIT if below is None or images < below)


def batch_for(images: int) -> int:
    """512, and of fewer images the largest power of two that at most half of them fill."""
    return min(BATCH, 1 << max(0, (images // 2).bit_length() - 1))


def seconds_of(text: str) -> float:
    """A time as people write it: "90s", "10m", "1.5h", "2d"; raises BadInput for others."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd])\s*", text)
    if match is None or float(match[1]) <= 0:
        raise BadInput(f"a time of {text!r} cannot be read; expected a number and s, m, h or d, as in 10m")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]
