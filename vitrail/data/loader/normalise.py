"""Pixels from 0 to 255 to the numbers that a model expects."""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vitrail.core.errors import BadInput
from vitrail.data.decode.image import Pixels
from vitrail.data.transforms.pipeline import Preprocess


def normalise(
    images: UInt8[Tensor, "b 3 h w"] | Float[Tensor, "b 3 h w"], preprocess: Preprocess, device: torch.device
) -> Float[Tensor, "b c h w"]:
    """Pixels from 0 to 255 to the numbers that the model expects, on the device: (x / 255 - mean) / std.

    A model of one channel sees their grey value: Pillow's, 0.299 red + 0.587 green + 0.114 blue, rounded.

    Raises:
        BadInput: a model of other channels than one or three.
    """
    shift, span = _scale(preprocess.mean, preprocess.std, device)
    numbers = images.to(device, non_blocking=True).to(torch.float32, memory_format=torch.contiguous_format)
    if len(preprocess.mean) == 1:
        numbers = torch.einsum("bchw,c->bhw", numbers, _grey(device))[:, None].add_(0.5).floor_()
    elif len(preprocess.mean) != 3:
        raise BadInput(f"this model reads {len(preprocess.mean)} channels; images are read as 3 (RGB) or 1 (grey)")
    # a division, as in the official code: a product with 1 / 127.5 would leave 255 at 1.0000001
    return torch.addcdiv(shift, numbers, span)


# ITU-R 601 as Pillow rounds it: of red, green and blue; they add up to one, so grey images stay as they are
GREY = (19595 / 65536, 38470 / 65536, 7471 / 65536)


@lru_cache(maxsize=4)
def _grey(device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(GREY, device=device)


@lru_cache(maxsize=16)
def _scale(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """-mean / std, and 255 std: made once, since a copy from the CPU would let the device wait at every step."""
    with torch.inference_mode(False):
        span = torch.tensor(std, device=device).mul_(255).view(-1, 1, 1)
        return -torch.tensor(mean, device=device).div_(torch.tensor(std, device=device)).view(-1, 1, 1), span


def stack(pixels: list[Pixels]) -> UInt8[Tensor, "b 3 h w"]:
    """Views of one size as a batch."""
    return torch.from_numpy(np.stack([p.transpose(2, 0, 1) for p in pixels]))
