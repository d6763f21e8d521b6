"""What it takes to decode a resident set: a part of it is decoded, and scaled up."""

import os
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from vitrail.data.loader.on_device import OnDeviceDataset
from vitrail.data.sources.base import Source
from vitrail.data.sources.subset import Subset
from vitrail.data.transforms.pipeline import Augment, Preprocess

DECODED = 2048, 8192  # images of a resident set that are decoded: the first read from disk what all lie in


@dataclass(frozen=True)
class Decoded:
    """A part of a resident set, and what the whole of it takes."""

    part: OnDeviceDataset
    seconds: float  # of the whole
    spent: float  # seconds here
    missing: int  # bytes of the images that were not decoded here, and of the files that they lie in


def decode(train: Source, images: int, augment: Augment, preprocess: Preprocess, device: torch.device) -> Decoded:
    """Decodes a part of `images` images to the device."""
    known = min(len(train), images)
    bounds = [0, *[n for n in DECODED if n < known]]
    bounds = bounds if len(bounds) == 1 + len(DECODED) else [0, known]
    parts, spent, grown = [], [], []
    for low, high in pairwise(bounds):
        before, begun = resident_memory(), time.perf_counter()
        parts.append(OnDeviceDataset(Subset(train, np.arange(low, high)), augment, preprocess, device))
        spent.append(time.perf_counter() - begun)
        grown.append(resident_memory() - before)
    last = bounds[-1] - bounds[-2]
    rest = images - bounds[-1]
    pixels = parts[-1].images[0].numel()
    # twice the pixels and more would be the allocator, not the files
    bytes_each = min(max(grown[-1] / last, pixels), 2 * pixels) if device.type == "cpu" else pixels
    return Decoded(parts[-1], sum(spent) + rest * spent[-1] / last, sum(spent), int(rest * bytes_each))


def resident_memory() -> int:
    """Bytes of memory that this process has now; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
