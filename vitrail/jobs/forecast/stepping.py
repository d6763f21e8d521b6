"""What training steps take: some are made, with a whole batch and with half of one."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from typing import Any

import torch

from vitrail.core import device as devices
from vitrail.data.transforms.mixup import Mixing
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.train.callbacks import Every
from vitrail.train.config import TrainConfig
from vitrail.train.loop import fit
from vitrail.train.step import TrainState, train_step

SECONDS = 4.0  # that steps are timed for
WARM = 3  # steps before the clock runs


@dataclass(frozen=True)
class Stepping:
    """Time and memory of training steps."""

    seconds: float
    of_half: float  # seconds of a step with half as many images
    first: float  # seconds that the first steps took longer: workers that start, kernels that are chosen
    bytes_each: float  # that one more image in a forward pass takes at the peak of memory


def steps(
    state: TrainState, config: TrainConfig, batches: Callable[..., Any], preprocess: Preprocess, dtype: torch.dtype
) -> Stepping:
    """Trains for some seconds. `batches`: as `train_loader`, of `init_state`, `stop` and the rest."""
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
    config: TrainConfig,
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
    fit(state, made, update, steps=stop, callbacks=[Every(1, mark, pause_clock=False)], save=lambda _: None)
    return (marks[-1] - marks[0]) / count
