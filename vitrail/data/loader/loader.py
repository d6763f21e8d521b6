"""Order + source + transform -> Batch, assembled in worker processes; the same for any number of them."""

import atexit
import signal
import time
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from math import prod
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from vitrail.core import dist
from vitrail.core.device import available_memory
from vitrail.core.pool import usable_cores
from vitrail.core.seeds import Keyed
from vitrail.data.decode.image import BrokenImage, Pixels, to_picture, to_pixels
from vitrail.data.loader.batch import Batch, BrokenExample
from vitrail.data.loader.num_workers import default_workers, enough_workers, seconds_an_image
from vitrail.data.loader.sampler import Plan, Sampling, plan, share_of_rank
from vitrail.data.loader.shared_memory import Shape, SharedBuffer, SharedBuffers, make_buffers
from vitrail.data.sources.base import Label, Source
from vitrail.data.transforms.pipeline import Augment, Preprocess, eval_transform, train_transform

STAND_INS = 100  # how many examples in a row are tried in place of a broken one
AHEAD = 4  # batches that a worker makes before they are asked for
SHARE = 1 / 8  # of the machine's free memory, that batches which are waiting may take


class _Dataset(Dataset[Batch]):
    """[step] -> a batch."""

    bytes: int  # that the images of a batch take, at most


class _TrainDataset(_Dataset):
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
        self.bytes = (part.stop - part.start + predecessor) * 3 * prod(preprocess.resolution)

    def __getitem__(self, step: int) -> Batch:
        whole = self.plan(step)
        chosen = [*([whole[self.part.start - 1]] if self.predecessor else []), *whole[self.part]]
        views = _BatchBuffer(len(chosen), self.preprocess)
        size = len(self.source)
        for epoch, index in chosen:
            # the next readable example stands in for a broken one, so that batches keep their size
            for candidate in range(index, index + min(size, STAND_INS)):
                if views.add(self._view, epoch, candidate % size):
                    break
        return views.batch()

    def _view(self, epoch: int, index: int) -> tuple[Pixels, Label, str]:
        example = self.source[index]
        rng = self.random.at(epoch, index)
        try:
            view = train_transform(to_picture(example.image), self.augment, self.preprocess, rng)
        except BrokenImage as problem:
            problem.key = example.key
            raise
        return view, example.label, example.key


class _EvalDataset(_Dataset):
    """[i] -> a process's part of the examples i·batch to (i+1)·batch, in the order of the source; none is broken."""

    def __init__(self, source: Source, preprocess: Preprocess, batch: int, rank: int = 0, world: int = 1):
        self.source, self.preprocess, self.size = source, preprocess, batch
        self.rank, self.world = rank, world
        self.bytes = -(-batch // world) * 3 * prod(preprocess.resolution)

    def __len__(self) -> int:
        return -(-len(self.source) // self.size)

    def __getitem__(self, part: int) -> Batch:
        indices = range(part * self.size, min(len(self.source), (part + 1) * self.size))
        indices = indices[share_of_rank(len(indices), self.rank, self.world)]
        views = _BatchBuffer(len(indices), self.preprocess)
        for index in indices:
            views.add(self._view, index)
        return views.batch()

    def _view(self, index: int) -> tuple[Pixels, Label, str]:
        example = self.source[index]
        try:
            view = eval_transform(to_pixels(example.image), self.preprocess)
        except BrokenImage as problem:
            problem.key = example.key
            raise
        return view, example.label, example.key


class _BatchBuffer:
    """Collects views into one uint8 tensor; every view is copied once. Never raises: it may run in a worker.

    In a worker the tensor lies in memory of the main process from the start, so that handing it over copies nothing.
    """

    def __init__(self, count: int, preprocess: Preprocess):
        pixels = _shared((count, *preprocess.resolution, 3))
        self.array, self.images = pixels.numpy(), pixels.permute(0, 3, 1, 2)
        self.labels: list[Label] = []
        self.indices: list[int] = []
        self.epochs: list[int] = []
        self.keys: list[str] = []
        self.broken: list[BrokenExample] = []

    def add(self, view: Callable[..., tuple[Pixels, Label, str]], *example: int) -> bool:
        """Adds the view of an example, (epoch, index) or (index), or notes it as broken; returns whether added."""
        index = example[-1]
        try:
            pixels, label, key = view(*example)
        except BrokenImage as problem:
            self.broken.append(BrokenExample(index, problem.key or f"example {index}", str(problem)))
            return False
        self.array[len(self.labels)] = pixels
        self.labels.append(label)
        self.indices.append(index)
        self.epochs.append(example[0] if len(example) > 1 else 0)
        self.keys.append(key)
        return True

    def batch(self) -> Batch:
        labels = torch.from_numpy(np.array(self.labels, np.uint8 if np.ndim(self.labels) == 2 else np.int64))
        indices, epochs = (torch.tensor(numbers, dtype=torch.int64) for numbers in (self.indices, self.epochs))
        return Batch(self.images[: len(self.labels)], labels, indices, epochs, self.keys, self.broken)


def _shared(shape: Shape) -> Tensor:
    """An uint8 tensor of any content, in memory that other processes can have where this is a worker."""
    worker = get_worker_info()
    if worker is None:
        return torch.empty(shape, dtype=torch.uint8)
    if _slots is not None and (taken := _slots.take(worker.id, shape)) is not None:
        return taken
    memory = torch.UntypedStorage._new_shared(prod(shape))  # as torch's own collation does
    return torch.empty(0, dtype=torch.uint8).set_(memory, 0, shape)  # type: ignore[call-overload]


@runtime_checkable
class Batches(Protocol):
    """What training reads: the batches of `steps`, and the seconds that were spent on waiting for them so far."""

    steps: range
    waited: float

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]: ...


class Loader:
    """Iterates over batches, with worker processes or without, and knows how long it was waited for.

    Where `device` is a CUDA device the batches arrive on it, copied beside its work; otherwise they stay in memory.
    """

    def __init__(
        self, dataset: _Dataset, steps: range, workers: int | None, device: torch.device = torch.device("cpu")
    ):
        workers = default_workers() if workers is None else workers
        self._dataset, self._workers, self._device = dataset, workers, device
        self.steps = steps
        self.waited = 0.0  # seconds that the consumer spent waiting, in all

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Batch]:
        start = time.perf_counter()
        for batch in self._batches():
            self.waited += time.perf_counter() - start
            yield batch
            del batch  # its memory can be used again as soon as the consumer, too, has left it
            start = time.perf_counter()

    def _batches(self) -> Iterator[Batch]:
        workers, cuda = self._workers, self._device.type == "cuda"
        room = available_memory(torch.device("cpu"))
        ahead = AHEAD if room is None else batches_ahead(workers, self._dataset.bytes, room // dist.local_size())
        # one slot more than are sent ahead is being filled, and one is read
        slots = make_buffers(workers, ahead + 2, self._dataset.bytes)
        loader: DataLoader[Batch] = DataLoader(
            self._dataset,
            batch_size=None,  # an item is a whole batch
            sampler=self.steps,  # any iterable of indices will do
            num_workers=workers,
            prefetch_factor=ahead if workers else None,
            worker_init_fn=partial(_start_worker, slots),
            collate_fn=_handed_over if workers else _as_it_is,
            persistent_workers=False,
            pin_memory=cuda,
        )
        found = (_received(batch) for batch in loader)
        _running.add(found)
        return _on(self._device, found) if cuda else found


_running: weakref.WeakSet[Generator[Batch, None, None]] = weakref.WeakSet()


@atexit.register
def _close_running() -> None:
    """Ends the workers of loaders left half read when Python ends: told by SIGTERM they would stay for a minute."""
    for batches in list(_running):
        batches.close()


def batches_ahead(workers: int, size: int, room: int) -> int:
    """Batches of `size` bytes that a worker makes ahead, with `room` bytes of memory: at least one, at most AHEAD."""
    return max(1, min(AHEAD, int(SHARE * room) // max(1, workers * size) - 2))


def _as_it_is(batch: Any) -> Any:
    return batch  # torch's own collation would walk through every key and turn tuples into lists


_slots: SharedBuffers | None = None  # of this worker process and its siblings


def _handed_over(batch: Any) -> Any:
    """A batch as a worker sends it: without its images, where they lie in a slot; indices as plain bytes, for speed."""
    slot = _slots.slot_of(batch.images) if _slots is not None else None
    images, labels, indices, epochs, keys, broken = batch
    return images if slot is None else slot, labels, indices.numpy(), epochs.numpy(), keys, broken


def _received(sent: Any) -> Batch:
    images, labels, indices, epochs, keys, broken = sent
    images = images.images() if isinstance(images, SharedBuffer) else images
    return Batch(images, labels, torch.as_tensor(indices), torch.as_tensor(epochs), keys, broken)


def _start_worker(slots: SharedBuffers | None, _: int) -> None:
    global _slots
    _slots = slots
    # Ctrl-C, torchrun and batch systems signal the whole process group; the main process decides what happens, after
    # it has saved. A worker that is still there a minute after it was told to end does end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(60))


def _on(device: torch.device, batches: Iterable[Batch]) -> Iterator[Batch]:
    """The batches on a CUDA device, from pinned memory, by a stream of their own."""
    stream = torch.cuda.Stream(device)
    for batch in batches:
        with torch.cuda.stream(stream):
            images = batch.images.to(device, non_blocking=True)
            labels = batch.labels.to(device, non_blocking=True)
        using = torch.cuda.current_stream(device)
        using.wait_stream(stream)  # the work queued from here on, not this process
        for tensor in (images, labels):
            tensor.record_stream(using)  # their memory belongs to the other stream, and is used by this one
        yield batch._replace(images=images, labels=labels)


def choose_workers(source: Source, augment: Augment, preprocess: Preprocess, rate: float) -> int:
    """The workers that make `rate` training views a second; measures what one costs, in a third of a second."""
    rng = np.random.default_rng(0)

    def view(index: int) -> Pixels:
        return train_transform(to_picture(source[index].image), augment, preprocess, rng)

    return enough_workers(seconds_an_image(source, view), rate, usable_cores() // dist.local_size())


def train_loader(
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
    device: torch.device = torch.device("cpu"),
    sampling: Sampling = Sampling(),
    predecessor: bool = False,
) -> Loader:
    """The batches of the steps `start` to `stop - 1`; `batch` is the global batch size, of which a rank gets its part.

    The batch of a step is the same whatever `start`, `workers` and `world` are.

    Args:
        device: where the batches go, if it is a CUDA device.
        predecessor: before its part, a rank also gets the example before it (the last, before the first): for mixing.
    """
    steps = plan(sampling, seed, source.labels if sampling.balanced else len(source), batch)
    part = share_of_rank(batch, rank, world)
    dataset = _TrainDataset(source, augment, preprocess, steps, seed, part, predecessor)
    return Loader(dataset, range(start, stop), workers, device)


def eval_loader(
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
    dataset = _EvalDataset(source, preprocess, batch, rank, world)
    return Loader(dataset, range(len(dataset)), workers)
