"""How many processes decode: as many as the measured cost of an image asks for, and no more than there are cores."""

import time
from collections.abc import Callable
from contextlib import suppress
from math import ceil

from vitrail.core import dist
from vitrail.core.pool import usable_cores
from vitrail.data.decode.image import BrokenImage
from vitrail.data.sources.base import Source

MOST = 32  # of one process: beyond, handing batches over costs more than making them
SPARE = 1.25  # times the need: images differ, and so do steps
SECONDS = 0.3  # that a measurement takes, or a little more
PLACES, IMAGES = 4, 16  # of the source, and at each so many neighbours: sources read what lies together at once


def default_workers() -> int:
    """One process fewer than there are cores for each training process of this machine: at least 1, at most 8."""
    return max(1, min(8, usable_cores() // dist.local_size() - 1))


def enough_workers(seconds: float, rate: float, cores: int) -> int:
    """The processes that make `rate` images a second of `seconds` each, with some to spare; at least 1.

    One of the `cores` is left to the process that reads the batches, where there are two.
    """
    return max(1, min(MOST, cores - 1, ceil(SPARE * seconds * rate)))


def seconds_an_image(source: Source, view: Callable[[int], object], seconds: float = SECONDS) -> float:
    """What `view` of an example takes here, on one core: the mean over some from all parts of the source.

    Broken ones count too; the first of each part does not, as it may open files or read them far ahead.
    """
    spent: list[float] = []
    for part in range(min(PLACES, len(source))):
        start = part * len(source) // PLACES
        _seconds(view, start)
        for index in range(start, min(len(source), start + IMAGES)):
            spent.append(_seconds(view, index))
            if sum(spent) > seconds * (part + 1) / PLACES:
                break
    return sum(spent) / len(spent)


def _seconds(view: Callable[[int], object], index: int) -> float:
    begun = time.perf_counter()
    with suppress(BrokenImage):
        view(index)
    return time.perf_counter() - begun
