"""A whole small data set on the device: decoded once to uint8 [N, 3, H, W], augmented there a batch at a time.

What the crop does to an image before anything random is done once, by the functions that the workers use. Only the
inception crop has nothing of that kind: it keeps the images as they are, where all have one size. Where they have not,
it keeps each of them at MIXED times the resolution in both directions: boxes are still drawn in the proportions of the
original, but a box of less than 1 / MIXED of a side has fewer pixels than the view that is made of it.

N images of the set · B of a batch · H W their pixels · h w pixels of a view
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from vitrail.core import dist
from vitrail.core.device import memory_gib
from vitrail.core.errors import BadInput
from vitrail.core.pool import usable_cores
from vitrail.core.progress import progress
from vitrail.core.seeds import torch_seed
from vitrail.data.decode.image import BrokenImage, Pixels, to_pixels
from vitrail.data.loader.batch import Batch, BrokenExample
from vitrail.data.loader.loader import STAND_INS
from vitrail.data.loader.sampler import Plan, Sampling, plan, share_of_rank
from vitrail.data.sources.base import Example, Source
from vitrail.data.transforms import crops as single
from vitrail.data.transforms.batched import erased, inception_boxes, resized, window_places, windows
from vitrail.data.transforms.counter_rng import CounterRNG
from vitrail.data.transforms.pipeline import (
    Augment,
    InceptionCrop,
    PadCrop,
    Preprocess,
    RandomResizedCrop,
    ResizeCrop,
    SimpleRandomCrop,
    WholeImage,
    eval_transform,
)

SHARE = 0.25  # of the device's memory that a set may take
MIXED = 1.5  # times the resolution: at what size images of different sizes are kept for the inception crop

# Which of an example's random numbers are for what.
_FLIP, _CROP, _ERASING = 0, 1, 512

_CHUNK = 64  # images a thread decodes at once


def check_fits_device(augment: Augment) -> None:
    """Raises BadInput for an augmentation that is not done in batches."""
    lacking = {"three_augment": augment.three_augment, "jitter": augment.jitter, "randaugment": augment.randaugment}
    for name, asked in lacking.items():
        if asked:
            raise BadInput(
                f"resident data cannot be augmented with augment.{name}: leave it out, or leave out --resident, and "
                "worker processes will do it"
            )
    if isinstance(augment.crop, RandomResizedCrop):
        raise BadInput(
            "resident data cannot be cropped as torchvision does: take InceptionCrop, or leave out --resident, and "
            "worker processes will do it"
        )


class OnDeviceDataset:
    """A set on the device, made ready for one way of augmenting it; `batches` are its training batches.

    Args:
        limit: bytes that the set may take; None: SHARE of the device's memory.

    Raises:
        BadInput: an augmentation that is not done in batches, or a set that is larger than `limit`.
    """

    def __init__(
        self, source: Source, augment: Augment, preprocess: Preprocess, device: torch.device, limit: int | None = None
    ):
        check_fits_device(augment)
        self.augment, self.preprocess = augment, preprocess
        self.source_labels = source.labels
        self._limit, self._device = limit, device
        try:
            images, sizes = self._decoded(source, _prepared(augment, preprocess))
        except _OtherSize:
            height, width = (round(MIXED * side) for side in preprocess.resolution)
            images, sizes = self._decoded(source, lambda pixels: single.resize(pixels, (height, width)))
        self.images, self.sizes = images.to(device), sizes.to(device)
        self.labels = torch.from_numpy(source.labels).to(device)

    def _decoded(self, source: Source, prepared: Callable[[Pixels], Pixels]) -> tuple[Tensor, Tensor]:
        """The images [N, 3, H, W], smaller ones in the upper left corner; and the sizes that crops are drawn from."""
        count = len(source)
        inception = isinstance(self.augment.crop, InceptionCrop)
        self.keys = [""] * count
        self.broken: dict[int, BrokenExample] = {}
        images = torch.empty(count, 3, 0, 0, dtype=torch.uint8)
        sizes = torch.ones(count, 2, dtype=torch.int64)
        with closing(_read(source, prepared)) as found_ones:
            for index, (key, found) in enumerate(found_ones):
                self.keys[index] = key
                if isinstance(found, BrokenImage):
                    self.broken[index] = BrokenExample(index, key, str(found))
                    continue
                pixels, before = found
                height, width = pixels.shape[:2]
                if height > images.shape[2] or width > images.shape[3]:
                    if inception and images.numel():
                        raise _OtherSize
                    larger = (count, 3, max(height, images.shape[2]), max(width, images.shape[3]))
                    self._fits(larger)
                    grown = torch.zeros(larger, dtype=torch.uint8)
                    grown[:, :, : images.shape[2], : images.shape[3]] = images
                    images = grown
                elif inception and (height, width) != images.shape[2:]:
                    raise _OtherSize
                images[index, :, :height, :width] = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
                sizes[index] = torch.tensor(before if inception else (height, width))
        return images, sizes

    def _fits(self, shape: tuple[int, int, int, int]) -> None:
        """Raises BadInput when an array of this shape takes more than the limit."""
        limit, name = self._limit, f"the {(self._limit or 0) / 1e9:,.3g} GB allowed"
        if limit is None:
            memory = memory_gib(self._device)
            if memory is None:
                return
            sharing = dist.local_size() if self._device.type == "cpu" else 1  # the processes of a machine
            limit = int(SHARE / sharing * memory * 2**30)
            name = f"the {limit / 1e9:,.3g} GB that are {SHARE / sharing:.1%} of the memory of {self._device}"
        needed = shape[0] * shape[1] * shape[2] * shape[3]
        if needed > limit:
            raise BadInput(
                f"{shape[0]:,} images of {shape[2]} x {shape[3]} pixels take {needed / 1e9:,.3g} GB, more than {name}: "
                "leave out --resident, and worker processes will decode them as they are needed"
            )

    def batches(
        self,
        *,
        batch: int,
        seed: int,
        start: int,
        stop: int,
        rank: int = 0,
        world: int = 1,
        sampling: Sampling = Sampling(),
        predecessor: bool = False,
    ) -> "ResidentBatches":
        """As `train_loader`: the same examples in the same order; views from other random numbers."""
        steps = plan(sampling, seed, self.source_labels if sampling.balanced else len(self.keys), batch)
        part = share_of_rank(batch, rank, world)
        return ResidentBatches(self, steps, range(start, stop), torch_seed(seed, "augment"), part, predecessor)

    def stand_in(self, index: int) -> tuple[int | None, list[BrokenExample]]:
        """The first readable example from `index` on, and the broken ones before it."""
        passed: list[BrokenExample] = []
        for i in range(min(len(self.keys), STAND_INS)):
            candidate = (index + i) % len(self.keys)
            if candidate not in self.broken:
                return candidate, passed
            passed.append(self.broken[candidate])
        return None, passed

    def views(
        self, key: int, n: Int64[Tensor, " b"], index: Int64[Tensor, " b"]
    ) -> UInt8[Tensor, "b 3 {self.preprocess.resolution[0]} {self.preprocess.resolution[1]}"]:
        """Of example `index` the n-th random view, for each of a batch: a function of (key, n, index) alone."""
        if not len(index):  # no image of a batch can be read
            return torch.empty(0, 3, *self.preprocess.resolution, dtype=torch.uint8, device=self.images.device)
        draws = CounterRNG(key, n, index)
        mirrored = draws.uniform(_FLIP, 1)[:, 0] < (0.5 if self.augment.flip else 0.0)
        views = self._cropped(draws, index, mirrored)
        return erased(views, self.augment.erasing, draws, _ERASING) if self.augment.erasing else views

    def _cropped(self, draws: CounterRNG, index: Tensor, mirrored: Tensor) -> Tensor:
        size, sizes, padding = self.preprocess.resolution, self.sizes[index], 0
        match self.augment.crop:
            case InceptionCrop(area):
                boxes = inception_boxes(sizes, area, draws, _CROP)
                # from pixels of the original to those of what is kept of it
                down, across = (self.images.shape[2 + d] / sizes[:, d].double() for d in range(2))
                boxes = (boxes[0] * down, boxes[1] * across, boxes[2] * down, boxes[3] * across)
                return resized(self.images[index], boxes, size, mirrored)
            case PadCrop(padding) | SimpleRandomCrop(padding):
                pass
            case RandomResizedCrop() | ResizeCrop() | WholeImage():
                pass
        u = draws.uniform(_CROP, 2)
        rows = window_places(sizes[:, 0], size[0], padding, u[:, 0], torch.zeros_like(mirrored))
        columns = window_places(sizes[:, 1], size[1], padding, u[:, 1], mirrored)
        return windows(self.images, index, rows, columns)


class ResidentBatches:
    """Iterates over batches on the device; what making them takes of the main process counts as waiting."""

    def __init__(self, held: OnDeviceDataset, plan: Plan, steps: range, key: int, part: slice, predecessor: bool):
        self.held, self.plan, self.steps = held, plan, steps
        self.key, self.part, self.predecessor = key, part, predecessor
        self.waited = 0.0

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Batch]:
        for step in self.steps:
            start = time.perf_counter()
            batch = self._batch(step)
            self.waited += time.perf_counter() - start
            yield batch

    def _batch(self, step: int) -> Batch:
        whole = self.plan(step)
        chosen = [*([whole[self.part.start - 1]] if self.predecessor else []), *whole[self.part]]
        broken: list[BrokenExample] = []
        if self.held.broken:
            readable = []
            for n, index in chosen:
                found, passed = self.held.stand_in(index)
                broken += passed
                if found is not None:
                    readable.append((n, found))
            chosen = readable
        device = self.held.images.device
        pairs = torch.tensor(chosen, dtype=torch.int64).view(-1, 2)
        if device.type == "cuda":
            pairs = pairs.pin_memory()  # so that the copy, like all that follows it, waits for nothing
        n, index = pairs.to(device, non_blocking=True).unbind(1)
        keys = [self.held.keys[i] for _, i in chosen]
        epochs, indices = torch.tensor(chosen, dtype=torch.int64).view(-1, 2).unbind(1)
        return Batch(self.held.views(self.key, n, index), self.held.labels[index], indices, epochs, keys, broken)


class _OtherSize(Exception):
    """Images of a set have different sizes."""


_Found = tuple[str, tuple[Pixels, tuple[int, int]] | BrokenImage]  # key; what is kept, and the size of the original


def _read(source: Source, prepared: Callable[[Pixels], Pixels]) -> Generator[_Found]:
    """Every example in order. Sources are asked by this thread alone, since some keep a state; others decode."""
    threads = max(1, min(16, usable_cores()))
    waiting: deque[Future[list[_Found]]] = deque()
    first = dist.world().first
    with (
        ThreadPoolExecutor(threads, "decode") as pool,
        progress("decoding", len(source)) if first else nullcontext() as bar,
    ):
        for start in (*range(0, len(source), _CHUNK), None):
            if start is not None:
                chunk = [_example(source, i) for i in range(start, min(len(source), start + _CHUNK))]
                waiting.append(pool.submit(lambda chunk: [_decode(e, prepared) for e in chunk], chunk))
            while waiting and (start is None or len(waiting) > 2 * threads):
                done = waiting.popleft().result()
                yield from done
                if bar is not None:
                    bar.advance("the whole set, once", len(done))


def _example(source: Source, index: int) -> Example | tuple[str, BrokenImage]:
    try:
        return source[index]
    except BrokenImage as problem:
        return problem.key or f"example {index}", problem


def _decode(example: Example | tuple[str, BrokenImage], prepared: Callable[[Pixels], Pixels]) -> _Found:
    if not isinstance(example, Example):
        return example
    try:
        pixels = to_pixels(example.image)
    except BrokenImage as problem:
        return problem.key or example.key, problem
    height, width = pixels.shape[:2]
    return example.key, (prepared(pixels), (height, width))


def _prepared(augment: Augment, preprocess: Preprocess) -> Callable[[Pixels], Pixels]:
    """What `views.training_view` does to an image before anything random."""
    height, width = preprocess.resolution
    match augment.crop:
        case InceptionCrop() | RandomResizedCrop():
            return lambda pixels: pixels
        case PadCrop() | WholeImage():
            return lambda pixels: eval_transform(pixels, preprocess)
        case ResizeCrop(share):
            return lambda pixels: single.resize(pixels, (round(height / share), round(width / share)))
        case SimpleRandomCrop():
            return lambda pixels: single.cover(pixels, (height, width), 1.0, preprocess.interpolation)
