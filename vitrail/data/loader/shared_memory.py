"""Memory that worker processes fill with batches: handed over without a copy, and used again once nobody reads it.

New shared memory for every batch costs a worker 100 µs an image of 224 pixels, most of it for pages that the system
clears and both processes map; what is used again costs 3.
"""

import mmap
import multiprocessing
import weakref
from dataclasses import dataclass
from itertools import count
from math import prod

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

Shape = tuple[int, int, int, int]  # images, height, width, 3

_numbers = count()
_pools: "weakref.WeakValueDictionary[int, SharedBuffers]" = weakref.WeakValueDictionary()


class SharedBuffers:
    """So many slots for each worker, of `size` bytes: made before the workers are forked, which inherit them.

    A slot is taken by its worker, and given back in the process that made the slots, when the last tensor on it dies.
    """

    def __init__(self, workers: int, slots: int, size: int):
        self.number, self._slots = next(_numbers), slots
        self._size = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        self._start = -(-workers * slots // mmap.PAGESIZE) * mmap.PAGESIZE
        self._memory = mmap.mmap(-1, self._start + workers * slots * self._size)
        self._taken = np.frombuffer(self._memory, np.uint8, workers * slots)
        _pools[self.number] = self

    def take(self, worker: int, shape: Shape) -> Tensor | None:
        """In a worker: uint8 of any content; None where all its slots are taken, or too small."""
        if prod(shape) > self._size:
            return None
        for slot in range(worker * self._slots, (worker + 1) * self._slots):
            if not self._taken[slot]:
                self._taken[slot] = 1
                return torch.from_numpy(self._array(slot, shape))
        return None

    def slot_of(self, images: UInt8[Tensor, "b 3 h w"]) -> "SharedBuffer | None":
        """In a worker: what to send instead of images that lie in a slot from its start on; None for others."""
        place = images.data_ptr() - self._taken.ctypes.data - self._start
        if not 0 <= place < len(self._taken) * self._size or place % self._size:
            return None
        number, _, height, width = images.shape
        return SharedBuffer(self.number, place // self._size, (number, height, width, 3))

    def read(self, slot: int, shape: Shape) -> UInt8[Tensor, "b h w 3"]:
        """In the process that made the slots: what a worker has put there."""
        array = self._array(slot, shape)
        weakref.finalize(array, self._give_back, slot).atexit = False  # torch holds it as long as any view of it lives
        return torch.from_numpy(array)

    def _give_back(self, slot: int) -> None:
        self._taken[slot] = 0

    def _array(self, slot: int, shape: Shape) -> np.ndarray:
        return np.ndarray(shape, np.uint8, self._memory, self._start + slot * self._size)


@dataclass(frozen=True)
class SharedBuffer:
    """Where a batch of images lies: what is sent from a worker."""

    pool: int
    slot: int
    shape: Shape

    def images(self) -> UInt8[Tensor, "b 3 h w"]:
        """The images; once."""
        return _pools[self.pool].read(self.slot, self.shape).permute(0, 3, 1, 2)

    def pin_memory(self) -> UInt8[Tensor, "b 3 h w"]:
        """For torch's loader: a copy that CUDA can read; the slot is free again."""
        return _pools[self.pool].read(self.slot, self.shape).pin_memory().permute(0, 3, 1, 2)


def make_buffers(workers: int, slots: int, size: int) -> SharedBuffers | None:
    """Buffers for workers; None where they would not inherit them (where they are not forked), or memory is refused."""
    if not workers or multiprocessing.get_start_method() != "fork":
        return None
    try:
        return SharedBuffers(workers, slots, size)
    except OSError:  # more than the machine has, were all of it used
        return None
