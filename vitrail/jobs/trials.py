"""Parts of a training run, tried and timed: decoding, steps, evaluation."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vitrail.core import device as devices
from vitrail.data.mixing import Mixing
from vitrail.data.resident import Resident
from vitrail.data.sources import Example, Source
from vitrail.data.subsets import Subset
from vitrail.data.views import Augment, Preprocess
from vitrail.evals.classify import evaluate
from vitrail.evals.forward import LOADER_FROM
from vitrail.models.build import Model
from vitrail.train.loop import Every, Meter, fit
from vitrail.train.step import Training, TrainState, train_step

SECONDS = 4.0  # that steps are timed for, and half of that an evaluation
WARM = 3  # steps before the clock runs
DECODED = 2048, 8192  # images of a resident set that are decoded: the first read from disk what all lie in
TOGETHER = 256  # images of a pass of an evaluation


class Noise(Source):
    """Soft noise as JPEG, in place of images that are not on this machine: 64 of them, again and again."""

    def __init__(self, count: int, size: tuple[int, int], classes: int):
        rng = np.random.default_rng(0)
        self.classes = tuple(str(i) for i in range(classes))
        self.labels = np.arange(count, dtype=np.int64) % classes
        self._images = []
        for _ in range(64):
            small = rng.integers(0, 256, (-(-size[0] // 8), -(-size[1] // 8), 3), dtype=np.uint8)
            buffer = BytesIO()
            Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
            self._images.append(buffer.getvalue())

    def __getitem__(self, index: int) -> Example:
        return Example(self._images[index % len(self._images)], int(self.labels[index]), str(index))


@dataclass(frozen=True)
class Decoded:
    """A part of a resident set, and what the whole of it takes."""

    part: Resident
    seconds: float  # of the whole
    spent: float  # seconds here
    missing: int  # bytes of the images that were not decoded here, and of the files that they lie in


def decode(train: Source, images: int, augment: Augment, preprocess: Preprocess, device: torch.device) -> Decoded:
    """Decodes a part of `images` images to the device."""
    known = min(len(train), images)
    bounds = [0, *[n for n in DECODED if n < known]]
    bounds = bounds if len(bounds) == 1 + len(DECODED) else [0, known]
    parts, spent, grown = [], [], []
    for start, stop in pairwise(bounds):
        before, begun = resident_memory(), time.perf_counter()
        parts.append(Resident(Subset(train, np.arange(start, stop)), augment, preprocess, device))
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


@dataclass(frozen=True)
class Stepping:
    """What steps of a batch take."""

    seconds: float
    of_half: float  # seconds of a step with half as many images
    first: float  # seconds that the first steps took longer: workers that start, kernels that are chosen
    bytes_each: float  # that one more image in a forward pass takes at the peak of memory


def steps(
    state: TrainState, config: Training, batches: Callable[..., Any], preprocess: Preprocess, dtype: torch.dtype
) -> Stepping:
    """Trains for some seconds. `batches`: as `training_batches`, of `start`, `stop` and the rest."""
    device = next(state.model.parameters()).device
    half = replace(config, batch=max(1, config.batch // 2))
    run = partial(_train, state, batches=batches, preprocess=preprocess, dtype=dtype)
    begun = time.perf_counter()
    of_half = run(half, 1, 1)
    first = max(0.0, time.perf_counter() - begun - 2 * of_half)
    before = devices.peak_memory_gib(device)
    once = run(config, 1, WARM)
    bytes_each = (devices.peak_memory_gib(device) - before) * 2**30 / max(1, config.batch - half.batch)
    seconds = run(config, max(2, min(1000, ceil(SECONDS / max(once, 1e-3)))), 1)
    return Stepping(seconds, of_half, first, bytes_each)


def _train(
    state: TrainState,
    config: Training,
    count: int,
    warm: int,
    *,
    batches: Callable[..., Any],
    preprocess: Preprocess,
    dtype: torch.dtype,
) -> float:
    """Seconds of one of `count` steps, after some that warm up workers and kernels."""
    clock, stop = state.step + warm, state.step + warm + count
    device = next(state.model.parameters()).device
    marks: list[float] = []

    def mark(state: TrainState) -> None:
        if state.step in (clock, stop):
            devices.synchronize(device)
            marks.append(time.perf_counter())

    made = batches(
        batch=config.batch,
        seed=config.seed,
        start=state.step,
        stop=stop,
        sampling=config.sampling,
        predecessor=config.mixing != Mixing(),
    )
    update = partial(train_step, config=config, preprocess=preprocess, dtype=dtype)
    fit(state, made, update, steps=stop, meter=Meter(), every=[Every(1, mark, aside=False)], save=lambda _: None)
    return (marks[-1] - marks[0]) / count


@dataclass(frozen=True)
class Judging:
    """What an evaluation takes."""

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
    count = max(2, min(images, max(LOADER_FROM, 2 * TOGETHER), int(SECONDS / 2 / likely)))
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


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
