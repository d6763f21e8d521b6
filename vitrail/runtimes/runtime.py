"""What computes a model: float images in, logits and representation out, whatever library does the arithmetic.

B batch · K classes · D features
"""

from abc import ABC, abstractmethod
from importlib.metadata import version
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitrail.records.runtime import RuntimeInfo, RuntimeName, RuntimePrecision

PACKAGES: dict[RuntimeName, str] = {"torch": "torch", "onnx": "onnxruntime", "openvino": "openvino"}


class RuntimeOutput(NamedTuple):
    """logits [B, K] and representation [B, D] as `ModelOutput` has them, in float32."""

    logits: Float[Tensor, "b k"]
    representation: Float[Tensor, "b d"]


class Runtime(ABC):
    """A model in use. Threads may call it at the same time; the weights are held once, in its precision.

    `batch`: the number of images of every pass, or None for whatever comes. With a number, fewer images are filled up
    with grey ones and more are split, so that an answer is the same bits whatever shares its batch.
    """

    name: RuntimeName

    def __init__(self, precision: RuntimePrecision, batch: int | None = None, device: str | torch.device = "cpu"):
        self.precision = precision
        self.device = torch.device(device)
        self.batch = batch
        self.trusted = False

    @abstractmethod
    def compute(self, pixels: Float[Tensor, "b c y x"]) -> RuntimeOutput:
        """One pass over what fits into it."""

    def __call__(self, pixels: Float[Tensor, "b c y x"] | Float[np.ndarray, "b c y x"]) -> RuntimeOutput:
        """Normalised images [B, C, H, W], as `vitrail.data.loader.normalise.normalise` makes them."""
        images = torch.as_tensor(pixels)
        if self.batch is None:
            return self.compute(images)
        parts = [self._filled_up(part) for part in images.split(self.batch)]
        return RuntimeOutput(*(torch.cat(some) for some in zip(*parts, strict=True)))

    def _filled_up(self, images: Float[Tensor, "b c y x"]) -> RuntimeOutput:
        assert self.batch is not None
        count = images.shape[0]
        empty = images.new_zeros(self.batch - count, *images.shape[1:])
        output = self.compute(torch.cat([images, empty]) if len(empty) else images)
        return RuntimeOutput(output.logits[:count], output.representation[:count])

    def trust(self, trusted: bool) -> None:
        """Whether its first answers need no comparison with PyTorch's, as others are going to be compared."""
        self.trusted = trusted

    def info(self) -> RuntimeInfo:
        """What a result says of it."""
        return RuntimeInfo(name=self.name, version=version(PACKAGES[self.name]), precision=self.precision)

    def __repr__(self) -> str:
        return f"{self.name}, {self.precision}" + ("" if self.batch is None else f", batches of {self.batch}")
