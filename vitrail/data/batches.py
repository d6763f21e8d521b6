"""Order + source + view -> Batch(images, labels): assembled in worker processes, the same for any number of them."""

import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vitrail.core.device import usable_cores
from vitrail.core.errors import BadInput
from vitrail.core.seeds import Keyed
from vitrail.data import image
from vitrail.data.image import BrokenImage, Pixels
from vitrail.data.order import share_of_rank
from vitrail.data.sampling import Plan, Sampling, plan
from vitrail.data.sources import Example, Source
from vitrail.data.views import Augment, Preprocess, evaluation_view, training_view

STAND_INS = 100  # how many examples in a row are tried in place of a broken one


class Batch(NamedTuple):
    """What crosses from data to models. `broken` lists (key, reason) of images that others stand in for."""

    images: UInt8[Tensor, "b 3 h w"]
    labels: Int64[Tensor, " b"]
    keys: list[str]
    broken: list[tuple[str, str]]


@dataclass
class Broken:
    """The broken images of a run so far: each counted once, named, and too many of them end the run."""

    size: int
    limit: float = 0.01  # share of the data set above which a run stops
    found: dict[str, str] = field(default_factory=dict)

    def add(self, broken: list[tuple[str, str]]) -> None:
        """Raises BadInput with the list when more than `limit` of the data are broken (one always is allowed)."""
        self.found.update(broken)
        if len(self.found) > max(1, self.limit * self.size):
            names = "\n".join(f"  {key}: {reason}" for key, reason in list(self.found.items())[:20])
            more = f"\n  … and {len(self.found) - 20} more" if len(self.found) > 20 else ""
            raise BadInput(
                f"{len(self.found)} of {self.size:,} images are broken, more than the {self.limit:.0%} allowed:"
                f"\n{names}{more}"
            )

    def rows(self) -> list[dict[str, str]]:
        """For result.json."""
        return [{"key": key, "reason": reason} for key, reason in self.found.items()]


def to_pixels(example_image: bytes | Pixels) -> Pixels:
    """The pixels of a stored image; raises BrokenImage."""
    return image.decode(example_image) if isinstance(example_image, bytes) else example_image


class _TrainingSteps(Dataset[Batch]):
    """[step] -> this process's part of the batch of that step; with `predecessor` also the example before it, first."""

    def __init__(
        self,
        source: Source,
        augment: Augment,
        preprocess: Preprocess,
        plan: Plan,
        seed: int,
        part: slice,
        predecessor: bool,
    ):
        self.source, self.augment, self.preprocess = source, augment, preprocess
        self.plan, self.part, self.predecessor = plan, part, predecessor
        self.random = Keyed(seed, "augment")

    def __getitem__(self, step: int) -> Batch:
        whole = self.plan(step)
        chosen = [*([whole[self.part.start - 1]] if self.predecessor else []), *whole[self.part]]
        views = _Views(len(chosen), self.preprocess)
        size = len(self.source)
        for epoch, index in chosen:
            # the next readable example stands in for a broken one, so that batches keep their size
            candidates = ((index + i) % size for i in range(min(size, STAND_INS)))
            views.add(partial(self._view, epoch), candidates)
        return views.batch()

    def _view(self, epoch: int, index: int) -> tuple[Pixels, int, str]:
        example = self.source[index]
        rng = self.random.at(epoch, index)
        return training_view(_decode(example), self.augment, self.preprocess, rng), example.label, example.key


class _EvaluationParts(Dataset[Batch]):
    """[i] -> a process's part of the examples i·batch to (i+1)·batch, in the order of the source; none is broken."""

    def __init__(self, source: Source, preprocess: Preprocess, batch: int, rank: int = 0, world: int = 1):
        self.source, self.preprocess, self.size = source, preprocess, batch
        self.rank, self.world = rank, world

    def __len__(self) -> int:
        return -(-len(self.source) // self.size)

    def __getitem__(self, part: int) -> Batch:
        indices = range(part * self.size, min(len(self.source), (part + 1) * self.size))
        indices = indices[share_of_rank(len(indices), self.rank, self.world)]
        views = _Views(len(indices), self.preprocess)
        for index in indices:
            views.add(self._view, [index])
        return views.batch()

    def _view(self, index: int) -> tuple[Pixels, int, str]:
        example = self.source[index]
        return evaluation_view(_decode(example), self.preprocess), example.label, example.key


class _Views:
    """Collects views into one uint8 tensor; every view is copied once. Never raises: it may run in a worker."""

    def __init__(self, count: int, preprocess: Preprocess):
        self.images = torch.empty(count, 3, *preprocess.resolution, dtype=torch.uint8)
        self.array = self.images.numpy()
        self.labels: list[int] = []
        self.keys: list[str] = []
        self.broken: list[tuple[str, str]] = []

    def add(self, view: Callable[[int], tuple[Pixels, int, str]], indices: Iterable[int]) -> None:
        """Adds the view of the first of `indices` that is readable, and notes the broken ones before it."""
        for index in indices:
            try:
                pixels, label, key = view(index)
            except BrokenImage as problem:
                self.broken.append((problem.key or f"example {index}", str(problem)))
                continue
            self.array[len(self.labels)] = pixels.transpose(2, 0, 1)
            self.labels.append(label)
            self.keys.append(key)
            return

    def batch(self) -> Batch:
        labels = torch.tensor(self.labels, dtype=torch.int64)
        return Batch(self.images[: len(self.labels)], labels, self.keys, self.broken)


def _decode(example: Example) -> Pixels:
    try:
        return to_pixels(example.image)
    except BrokenImage as problem:
        problem.key = example.key
        raise


@runtime_checkable
class Batches(Protocol):
    """What training reads: the batches of `steps`, and the seconds that were spent on waiting for them so far."""

    steps: range
    waited: float

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]: ...


class Loader:
    """Iterates over batches, with worker processes or without, and knows how long it was waited for."""

    def __init__(self, dataset: Dataset[Batch], steps: range, workers: int | None, pinned: bool = False):
        workers = default_workers() if workers is None else workers
        self.steps = steps
        self.waited = 0.0  # seconds that the consumer spent waiting, in all
        self._loader: DataLoader[Batch] = DataLoader(
            dataset,
            batch_size=None,  # an item is a whole batch
            sampler=steps,  # any iterable of indices will do
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            worker_init_fn=_ignore_interrupts,
            collate_fn=_as_it_is,  # the default one would walk through every key and turn tuples into lists
            persistent_workers=False,
            pin_memory=pinned,
        )

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Batch]:
        start = time.perf_counter()
        for batch in self._loader:
            self.waited += time.perf_counter() - start
            yield batch
            start = time.perf_counter()


def _as_it_is(batch: Any) -> Any:
    return batch


def _ignore_interrupts(_: int) -> None:
    # Ctrl-C reaches the whole process group; the main process decides what happens, after saving
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def default_workers() -> int:
    """One process fewer than there are cores, at least one, at most eight."""
    return max(1, min(8, usable_cores() - 1))


def training_batches(
    source: Source,
    augment: Augment,
    preprocess: Preprocess,
    *,
    batch: int,
    seed: int,
    start: int,
    stop: int,
    workers: int | None = None,
    rank: int = 0,
    world: int = 1,
    pinned: bool = False,
    sampling: Sampling = Sampling(),
    predecessor: bool = False,
) -> Loader:
    """The batches of the steps `start` to `stop - 1`; `batch` is the global batch size, of which a rank gets its part.

    The batch of a step is the same whatever `start`, `workers` and `world` are.

    Args:
        pinned: in memory that a CUDA device can copy from beside its work.
        predecessor: before its part, a rank also gets the example before it (the last, before the first): for mixing.
    """
    steps = plan(sampling, seed, source.labels if sampling.balanced else len(source), batch)
    part = share_of_rank(batch, rank, world)
    dataset = _TrainingSteps(source, augment, preprocess, steps, seed, part, predecessor)
    return Loader(dataset, range(start, stop), workers, pinned)


def evaluation_batches(
    source: Source,
    preprocess: Preprocess,
    *,
    batch: int = 256,
    workers: int | None = 0,
    rank: int = 0,
    world: int = 1,
) -> Loader:
    """Every readable example once, in the order of the source, seen by the evaluation view.

    Of each batch a process gets its part, which may be empty; all get as many batches.
    """
    dataset = _EvaluationParts(source, preprocess, batch, rank, world)
    return Loader(dataset, range(len(dataset)), workers)


def normalise(
    images: UInt8[Tensor, "b 3 h w"] | Float[Tensor, "b 3 h w"], preprocess: Preprocess, device: torch.device
) -> Float[Tensor, "b 3 h w"]:
    """Pixels from 0 to 255 to the numbers that the model expects, on the device: (x / 255 - mean) / std."""
    span = torch.tensor(preprocess.std, device=device).mul_(255).view(3, 1, 1)
    shift = (
        -torch.tensor(preprocess.mean, device=device).div_(torch.tensor(preprocess.std, device=device)).view(3, 1, 1)
    )
    # a division, as in the official code: a product with 1 / 127.5 would leave 255 at 1.0000001
    return torch.addcdiv(shift, images.to(device, non_blocking=True).float(), span)


def stack(pixels: list[Pixels]) -> UInt8[Tensor, "b 3 h w"]:
    """Views of one size as a batch."""
    return torch.from_numpy(np.stack([p.transpose(2, 0, 1) for p in pixels]))
