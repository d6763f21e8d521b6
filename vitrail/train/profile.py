"""How long passes take here, by doing some of them on grey images in this process."""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import torch

from vitrail.core.device import out_of_memory, release, synchronize
from vitrail.data.loader.batch import Batch
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.train.config import TrainConfig
from vitrail.train.step import TrainState, train_step

Pass = Callable[[], object]


def training_pass(
    state: TrainState, config: TrainConfig, preprocess: Preprocess, dtype: torch.dtype, images: int
) -> Pass:
    """What makes an update of the weights from so many images, each time it is called."""
    device = next(state.model.parameters()).device
    pixels = torch.full((images, 3, *state.model.config.resolution), 128, dtype=torch.uint8, device=device)
    batch = Batch.of(pixels, torch.zeros(images, dtype=torch.int64, device=device))
    config = replace(config, batch=images)
    return lambda: train_step(state, batch, config=config, preprocess=preprocess, dtype=dtype)


def time_passes(
    make: Callable[[int], Pass],
    sizes: Iterable[int],
    device: torch.device,
    *,
    seconds: float = 0.0,
    longest: float = 60.0,
    warm: int = 1,
    limits: tuple[type[RuntimeError], ...] = (),
    done: Callable[[dict[int, float]], object] = lambda times: None,
) -> dict[int, float]:
    """Seconds of the fastest pass over each number of images, which what else runs on the machine disturbs least.

    Args:
        make: gives the pass over so many images.
        sizes: from small to large; those after one that takes more than `longest` seconds, or for which memory does
            not suffice, are left out.
        limits: errors after which sizes end as they do where memory does, once one has worked: kernels of CUDA have
            limits of their own.
        seconds: that each is repeated for, at least, after `warm` passes.
        done: is told after each size what is known.
    """
    times: dict[int, float] = {}
    for images in sizes:
        try:
            times[images] = _fastest(make(images), device, seconds, warm)
        except RuntimeError as problem:
            if not out_of_memory(problem) and not (times and isinstance(problem, limits)):
                raise
        release()
        done(times)
        if images not in times or times[images] > longest:
            break
    return times


def _fastest(work: Pass, device: torch.device, seconds: float, warm: int) -> float:
    def once() -> None:
        work()
        synchronize(device)

    passes: list[float] = []
    while len(passes) <= warm or sum(passes[warm:]) < seconds:
        passes.append(timed(once))
        if len(passes) > 1 and passes[-1] > max(seconds, 1.0):
            break
    return min(passes)


def timed(work: Pass) -> float:
    """Seconds that it takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
