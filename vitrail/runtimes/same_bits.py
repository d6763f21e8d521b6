"""An image gets the same bits whatever shares its batch: passes have one of a few shapes, which were seen to agree.

Libraries choose kernels by the number of rows, and kernels round in their own order. At one shape of a batch a row does
not depend on its place or on its neighbours; whether two shapes agree is tried out on a few images, once on a machine.

B batch
"""

import threading
from contextlib import suppress
from importlib.metadata import version

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitrail.core.cache import cache_folder
from vitrail.core.device import describe_device
from vitrail.core.errors import BadInput
from vitrail.core.files import read_json, write_json
from vitrail.models.build import ModelConfig
from vitrail.records.runtime import RuntimeInfo
from vitrail.runtimes.runtime import PACKAGES, Runtime, RuntimeOutput

SHAPES = (1, 2, 4, 8, 16, 32)
FIRST = {"cpu": 2, "cuda": 32}  # the shape that all others have to agree with, by kind of device
WORTH = 32  # images in a call from which shapes are tried out, if they were not yet


class SameBits(Runtime):
    """A runtime called with shapes of batches that agree bit for bit; fewer images are filled up with grey ones.

    Until the shapes were tried out there is one shape, which is right and not the fastest.

    Args:
        most: images for which there is memory.
    """

    def __init__(self, runtime: Runtime, config: ModelConfig, most: int = SHAPES[-1]):
        super().__init__(runtime.precision, device=runtime.device)
        self._runtime, self._config, self._most = runtime, config, most
        self.name = runtime.name
        self._trying = threading.Lock()
        self._file = cache_folder() / "batch-shapes.json"
        self.key = _key(runtime, config)
        self._shapes = self._remembered()

    @property
    def shapes(self) -> tuple[int, ...]:
        """Numbers of images of a pass, in ascending order."""
        known = self._shapes or (FIRST[self.device.type],)
        return tuple(shape for shape in known if shape <= self._most) or known[:1]

    def __call__(self, pixels: Float[Tensor, "b c y x"] | Float[np.ndarray, "b c y x"]) -> RuntimeOutput:
        """As `Runtime`."""
        images = torch.as_tensor(pixels)
        if len(images) >= WORTH:
            self.try_shapes()
        parts = []
        while len(images):
            shape = best_shape(len(images), self.shapes)
            count = min(shape, len(images))
            some, images = images[:count], images[count:]
            empty = some.new_zeros(shape - count, *some.shape[1:])
            output = self._runtime(torch.cat([some, empty]) if len(empty) else some)
            self.name = self._runtime.name  # a runtime that did not agree has given way to another one
            parts.append(RuntimeOutput(*(values[:count] for values in output)))
        if not parts:
            return self._runtime(images)
        return parts[0] if len(parts) == 1 else RuntimeOutput(*(torch.cat(some) for some in zip(*parts, strict=True)))

    def compute(self, pixels: Float[Tensor, "b c y x"]) -> RuntimeOutput:
        """As `Runtime`."""
        return self._runtime.compute(pixels)

    def trust(self, trusted: bool) -> None:
        """As `Runtime`."""
        self._runtime.trust(trusted)

    def info(self) -> RuntimeInfo:
        """As `Runtime`."""
        return self._runtime.info()

    def try_shapes(self) -> None:
        """Finds the shapes that agree, where that is not known: some passes over noise, then the cache knows."""
        with self._trying:
            if self._shapes is None:
                usable = tuple(shape for shape in SHAPES if shape <= self._most)
                if FIRST[self.device.type] not in usable:
                    return  # no memory to try
                self._shapes = agreeing_shapes(self._runtime, self._config, FIRST[self.device.type], usable)
                known = _read(self._file)
                with suppress(OSError):
                    write_json(self._file, known | {self.key: list(self._shapes)})

    def _remembered(self) -> tuple[int, ...] | None:
        known = _read(self._file).get(self.key)
        if not isinstance(known, list) or not known or not all(shape in SHAPES for shape in known):
            return None
        return tuple(sorted(known))


def best_shape(count: int, shapes: tuple[int, ...]) -> int:
    """The shape for the first of `count` images: the one that computes the fewest grey images for each real one.

    Of equally good ones the largest.
    """
    return min(shapes, key=lambda shape: (max(shape / count, 1.0), -shape))


def agreeing_shapes(
    runtime: Runtime, config: ModelConfig, first: int, shapes: tuple[int, ...] = SHAPES
) -> tuple[int, ...]:
    """The shapes at which noise gets the bits that it gets at the shape `first`, at any place of the batch."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(shapes[-1], config.channels, *config.resolution, generator=generator) * 2 - 1
    outputs = {shape: runtime(images[:shape]) for shape in shapes}
    turned = runtime(images[:first].flip(0))
    if not _same(RuntimeOutput(*(values.flip(0) for values in turned)), outputs[first]):
        return (first,)
    return tuple(shape for shape in shapes if _same(outputs[shape], outputs[first]))


def _same(one: RuntimeOutput, other: RuntimeOutput) -> bool:
    return all(torch.equal(a[: len(b)], b[: len(a)]) for a, b in zip(one, other, strict=True))


def _key(runtime: Runtime, config: ModelConfig) -> str:
    versions = f"{PACKAGES[runtime.name]} {version(PACKAGES[runtime.name])}"
    hardware = f"{describe_device(runtime.device)}, {torch.get_num_threads()} threads"
    return f"{config}, {runtime.name}, {runtime.precision}, {versions}, {hardware}"


def _read(file: object) -> dict[str, object]:
    try:
        known = read_json(file)  # type: ignore[arg-type]
    except (OSError, BadInput):
        return {}
    return known if isinstance(known, dict) else {}
