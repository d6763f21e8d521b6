"""The evaluation view as arithmetic: whole images to what the model reads, in operations that every runtime has.

A filter of Pillow is a matrix of weights, one for the columns and one for the rows, made in the graph from the size of
the images. Pillow rounds to whole numbers after the columns and after the rows, and so does this. Pillow's weights have
22 binary digits, so now and then a pixel falls to the other side of a half. Pillow 13 takes the rows first where that
saves work. Where that can be seen (filters that overshoot are clipped in between), and often happens (both sides to the
resolution), both ways are computed and one is taken; with the aspect kept, only images more than twice as high as wide
differ. Where the edge of a filter falls on a pixel (box, nearest), Pillow's sums decide. Only the rows and columns that
the crop keeps are computed.

B batch · H W sides of the images · y x sides of the view · C channels that the model reads
"""

from math import pi

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vitrail.data.loader.normalise import GREY
from vitrail.data.transforms.crops import Interpolation
from vitrail.data.transforms.pipeline import CentreCrop, Preprocess, SquareResize

OVERSHOOTING = ("bicubic", "lanczos")
SUPPORT = {"bicubic": 2.0, "lanczos": 3.0, "hamming": 1.0}


class Preprocessing(nn.Module):
    """uint8 [B, H, W, 3] of one size -> float32 [B, C, y, x], as `eval_transform` and `normalise` make them."""

    def __init__(self, preprocess: Preprocess):
        super().__init__()
        self.preprocess = preprocess
        span = torch.tensor(preprocess.std).mul_(255).view(-1, 1, 1)
        shift = -torch.tensor(preprocess.mean).div_(torch.tensor(preprocess.std)).view(-1, 1, 1)
        self.span: Tensor
        self.shift: Tensor
        self.register_buffer("span", span, persistent=False)
        self.register_buffer("shift", shift, persistent=False)

    def forward(self, images: UInt8[Tensor, "b h w 3"]) -> Float[Tensor, "b c y x"]:
        """The view, normalised."""
        pixels = self.view(images)
        if len(self.preprocess.mean) == 1:
            red, green, blue = (pixels[:, i : i + 1] * GREY[i] for i in range(3))
            pixels = (red + green + blue + 0.5).floor()
        return self.shift + pixels / self.span

    def view(self, images: UInt8[Tensor, "b h w 3"]) -> Float[Tensor, "b 3 y x"]:
        """Whole numbers from 0 to 255."""
        height, width = (torch.scalar_tensor(images.shape[i], dtype=torch.float64) for i in (1, 2))
        filter_, size = self.preprocess.interpolation, self.preprocess.resolution
        larger = enlarged(self.preprocess, height, width)
        numbers = images.permute(0, 3, 1, 2).to(torch.float32)
        columns = weights(images.shape[2], width, larger[1], size[1], filter_)
        rows = weights(images.shape[1], height, larger[0], size[0], filter_)
        columns_first = rounded(rows @ rounded(numbers @ columns.T))
        if not (isinstance(self.preprocess.resize, SquareResize) and filter_ in OVERSHOOTING):
            return columns_first
        rows_first = rounded(rounded(rows @ numbers) @ columns.T)
        saved = (height - larger[0]) - 2 * (width - larger[1])
        return torch.where((height > larger[0]) & (saved > 0), rows_first, columns_first)


def rounded(numbers: Tensor) -> Tensor:
    """To whole numbers that a byte holds, halves upwards, as Pillow does."""
    return (numbers + 0.5).floor().clamp(0, 255)


def enlarged(preprocess: Preprocess, height: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """The size of the image from which the view is cut, in float64 as Python computes it."""
    y, x = preprocess.resolution
    match preprocess.resize:
        case SquareResize(share):
            return height * 0 + round(y / share), width * 0 + round(x / share)
        case CentreCrop(share):
            # divisions of two tensors: a number over a tensor would become a product with its rounded inverse
            scale = torch.maximum(number(y / share) / height, number(x / share) / width)
            return (height * scale).round().clamp(min=y), (width * scale).round().clamp(min=x)


def number(value: float) -> Tensor:
    """In float64."""
    return torch.scalar_tensor(value, dtype=torch.float64)


def weights(count: int, side: Tensor, larger: Tensor, kept: int, interpolation: Interpolation) -> Float[Tensor, "y h"]:
    """How much each of `count` pixels counts for each of the `kept` middle ones of `larger`; rows sum to 1.

    `side` is `count` as a number.
    """
    scale = side / larger
    first = ((larger - kept) / 2).floor()
    centre = (torch.arange(kept, dtype=torch.float64) + first + 0.5)[:, None] * scale
    places = torch.arange(count, dtype=torch.float64)[None]
    if interpolation == "nearest":
        return (places == centre.floor()).to(torch.float32)
    distance = (places - centre + 0.5) * (1 / scale.clamp(min=1.0))
    if interpolation == "box":  # whose edges are sharp
        found = ((distance > -0.5) & (distance <= 0.5)).to(torch.float32)
    else:
        found = of_filter(distance.to(torch.float32), interpolation)
    return found / found.sum(dim=1, keepdim=True)


def of_filter(x: Float[Tensor, "y h"], interpolation: Interpolation) -> Float[Tensor, "y h"]:
    """Pillow's filters at a distance; nothing beyond their SUPPORT."""
    distance = x.abs()
    match interpolation:
        case "bilinear":
            return (1 - distance).clamp(min=0)
        case "hamming":
            value = sinc(x) * (0.54 + 0.46 * (pi * x).cos())
        case "bicubic":
            near = (1.5 * distance - 2.5) * distance * distance + 1
            far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
            value = torch.where(distance < 1, near, far)
        case _:
            value = sinc(x) * sinc(x / 3)
    return torch.where(distance < SUPPORT[interpolation], value, torch.zeros_like(value))


def sinc(x: Tensor) -> Tensor:
    """sin(πx) / πx."""
    safe = torch.where(x == 0, torch.ones_like(x), x) * pi
    return torch.where(x == 0, torch.ones_like(x), safe.sin() / safe)
