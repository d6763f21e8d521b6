"""Images a second: of an opened graph or a runtime, at one image and at the batch that is the fastest."""

import time
from collections.abc import Callable, Sequence

import numpy as np

from vitrail.records.export import Speed

BATCHES = (1, 8, 32)
SECONDS = 1.5  # of each measurement, at least two passes


def images_per_second(run: Callable[[np.ndarray], object], example: np.ndarray, seconds: float = SECONDS) -> float:
    """The best pass of those that fit into some seconds, after one to warm up."""
    run(example)
    best, end, passes = float("inf"), time.perf_counter() + seconds, 0
    while passes < 2 or time.perf_counter() < end:
        start = time.perf_counter()
        run(example)
        best, passes = min(best, time.perf_counter() - start), passes + 1
    return len(example) / best


def speeds(
    name: str,
    run: Callable[[np.ndarray], object],
    example: Callable[[int], np.ndarray],
    batches: Sequence[int] = BATCHES,
    seconds: float = SECONDS,
) -> list[Speed]:
    """At every batch; `example` makes a batch of so many images."""
    return [
        Speed(name=name, batch=batch, images_per_second=images_per_second(run, example(batch), seconds))
        for batch in batches
    ]


def noise(channels: int, resolution: tuple[int, int]) -> Callable[[int], np.ndarray]:
    """Makes batches of normalised noise."""
    rng = np.random.default_rng(0)
    return lambda batch: rng.uniform(-1, 1, (batch, channels, *resolution)).astype(np.float32)
