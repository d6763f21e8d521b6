"""The augmentations of `augment` and `erasing` for a whole batch at once, as tensor arithmetic on any device.

The same distributions, and of the same numbers the same boxes. Resizing is Pillow's bilinear filter, first along rows
and then along columns, to the bit: its weights are whole multiples of 2^-22, so products with pixels and their sums are
exact in float64, in any order and on any device. Where Pillow takes the columns first (from version 13 on, when that is
cheaper) pixels differ by at most 1.

B images · H W their pixels · h w pixels of a view · K attempts
"""

from functools import lru_cache
from math import log

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from vitrail.data.decode.image import Size
from vitrail.data.transforms.counter_rng import CounterRNG
from vitrail.data.transforms.crops import ASPECT
from vitrail.data.transforms.random_erasing import DEVIATION, GREY, RandomErasing

ATTEMPTS = 100  # of an inception box: as many as one image has in `augment.inception_box`
_WEIGHT = 2.0**22  # Pillow's weights are whole numbers of this
# Numbers in float64 that are resized at once: a processor is two to four times as fast on what its cache holds.
_AT_ONCE = {"cpu": 1 << 17, "cuda": 1 << 25}

Boxes = tuple[Tensor, Tensor, Tensor, Tensor]  # top, left, height, width, each [B]


def inception_boxes(
    sizes: Int64[Tensor, "b 2"],
    area: tuple[float, float],
    draws: CounterRNG,
    first: int,
    aspect: tuple[float, float] = ASPECT,
) -> Boxes:
    """`augment.inception_box` for images of `sizes` (height, width); takes 2 · ATTEMPTS + 2 draws from `first` on."""
    height, width = sizes.double().unsqueeze(2).unbind(1)
    low, high = area[0] * height * width, area[1] * height * width
    u = draws.uniform(first, 2 * ATTEMPTS)
    ratio = u[:, :ATTEMPTS] * (aspect[1] - aspect[0]) + aspect[0]
    least = (low / ratio).sqrt_().round_()
    most = (high / ratio).sqrt_().round_()
    fitting = ((width + 0.5 - 1e-7) / ratio).floor_()
    fitting -= ((fitting * ratio).round_() > width).double()
    most = torch.where((most * ratio).round_() > width, fitting, most).minimum(height)
    box_height = least.minimum(most)
    box_height += (u[:, ATTEMPTS:] * (most - box_height + 1)).floor_()
    covered = box_height * (box_height * ratio).round_()
    box_height += (covered < low).double() - (covered > high).double()  # rounding may have lost a little
    box_width = (box_height * ratio).round_()
    covered = box_height * box_width
    fits = (box_width > 0) & (box_width <= width) & (box_height > 0) & (box_height <= height)
    fits &= (covered >= low) & (covered <= high)
    which = fits.byte().argmax(dim=1, keepdim=True)  # the first that fits
    found = fits.gather(1, which)
    box_height = torch.where(found, box_height.gather(1, which), height)
    box_width = torch.where(found, box_width.gather(1, which), width)
    place = draws.uniform(first + 2 * ATTEMPTS, 2)
    # as in TensorFlow, the box never touches the far edge, unless it is as long as the image
    top = (place[:, :1] * (height - box_height)).floor_()
    left = (place[:, 1:] * (width - box_width)).floor_()
    return top[:, 0], left[:, 0], box_height[:, 0], box_width[:, 0]


def resized(
    images: UInt8[Tensor, "b 3 _ _"], boxes: Boxes, size: Size, mirrored: Bool[Tensor, " b"]
) -> UInt8[Tensor, "b 3 {size[0]} {size[1]}"]:
    """The boxes of the images, resized to `size` by Pillow's bilinear filter, and mirrored where asked for."""
    each = max(1, _AT_ONCE[images.device.type] // (3 * images.shape[2] * max(images.shape[3], size[1])))
    parts = zip(images.split(each), *(b.split(each) for b in boxes), mirrored.split(each), strict=True)
    return torch.cat([_resized(part, (y, x, h, w), size, m) for part, y, x, h, w, m in parts])


def _resized(images: Tensor, boxes: Boxes, size: Size, mirrored: Tensor) -> Tensor:
    b, _, rows, columns = images.shape
    top, left, height, width = boxes
    across = _weights(left, width, columns, size[1], mirrored)  # [B, w, W]
    down = _weights(top, height, rows, size[0], torch.zeros_like(mirrored))  # [B, h, H]
    lines = torch.empty(b, rows, 3, columns, dtype=torch.float64, device=images.device)
    lines.copy_(images.transpose(1, 2))
    wide = torch.bmm(lines.view(b, rows * 3, columns), across.mT).add_(0.5).floor_()  # Pillow rounds in between
    small = torch.bmm(down, wide.view(b, rows, 3 * size[1])).add_(0.5)  # weights are not negative: 0 to 255.5
    return small.view(b, size[0], 3, size[1]).transpose(1, 2).to(torch.uint8, memory_format=torch.contiguous_format)


def _weights(start: Tensor, length: Tensor, pixels: int, out: int, mirrored: Tensor) -> Float[Tensor, "b out pixels"]:
    """What each of `pixels` gives to each of `out`, for a box from `start` on: Pillow's `precompute_coeffs`."""
    places = torch.arange(out, dtype=torch.float64, device=start.device)
    places = torch.where(mirrored[:, None], out - 1 - places, places)
    scale = length[:, None] / out
    centre = start[:, None] + (places + 0.5) * scale
    weights = torch.arange(pixels, dtype=torch.float64, device=start.device) - centre[:, :, None]
    weights = weights.add_(0.5).mul_(1.0 / scale.clamp(min=1.0)[:, :, None])
    weights = weights.abs_().neg_().add_(1.0).clamp_(min=0.0)
    pixel = torch.arange(pixels, device=start.device)
    inside = (pixel >= start[:, None].floor()) & (pixel < (start + length)[:, None].ceil())  # as if it were cut out
    weights.mul_(inside[:, None, :])
    return weights.div_(weights.sum(dim=2, keepdim=True)).mul_(_WEIGHT).add_(0.5).floor_().mul_(1 / _WEIGHT)


def windows(
    images: UInt8[Tensor, "n 3 _ _"],
    which: Int64[Tensor, " b"],
    rows: Int64[Tensor, "b h"],
    columns: Int64[Tensor, "b w"],
) -> UInt8[Tensor, "b 3 h w"]:
    """Of image `which` the given rows and columns, in that order."""
    b, h = rows.shape
    _, _, height, width = images.shape
    channels = which[:, None] * 3 + torch.arange(3, device=which.device)
    lines = channels[:, :, None] * height + rows[:, None, :]
    whole = (
        images.view(-1, width).index_select(0, lines.view(-1)).view(b, 3 * h, width)
    )  # whole lines: few, long copies
    return whole.gather(2, columns[:, None, :].expand(-1, 3 * h, -1)).view(b, 3, h, -1)


def window_places(
    length: Int64[Tensor, " b"], out: int, padding: int, u: Float[Tensor, " b"], mirrored: Bool[Tensor, " b"]
) -> Int64[Tensor, "b {out}"]:
    """The pixels of `out` neighbouring places at random along a side, which `padding` lengthens by reflection."""
    first = (u * (length + 2 * padding - out + 1)).floor_().long() - padding
    along = torch.arange(out, device=length.device)
    places = first[:, None] + torch.where(mirrored[:, None], out - 1 - along, along)
    period = (2 * (length - 1)).clamp(min=1)[:, None]  # reflection does not repeat the border
    places = places.remainder(period)
    return torch.minimum(places, period - places)


def erased(
    images: UInt8[Tensor, "b 3 h w"], config: RandomErasing, draws: CounterRNG, first: int
) -> UInt8[Tensor, "b 3 h w"]:
    """`erasing.erase` for each image; takes 23 draws from number `first` on, and those of the noise behind them."""
    height, width = images.shape[2:]
    tries = 10
    u = draws.uniform(first, 2 * tries + 3)
    area = (u[:, :tries] * (config.area[1] - config.area[0]) + config.area[0]) * (height * width)
    least, most = log(config.aspect[0]), log(config.aspect[1])
    # of all functions here the exponential alone may be rounded otherwise on another device
    aspect = (u[:, tries : 2 * tries] * (most - least) + least).exp_()
    rows, columns = (area * aspect).sqrt_().round_(), (area / aspect).sqrt_().round_()
    fits = (rows < height) & (columns < width)
    which = fits.byte().argmax(dim=1, keepdim=True)
    there = fits.gather(1, which) & (u[:, -1:] < config.probability)
    rows, columns = rows.gather(1, which) * there, columns.gather(1, which)
    top = (u[:, -3:-2] * (height - rows + 1)).floor_()
    left = (u[:, -2:-1] * (width - columns + 1)).floor_()
    y, x = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    inside = ((y >= top) & (y < top + rows))[:, None, :, None] & ((x >= left) & (x < left + columns))[:, None, None, :]
    if config.fill == "constant":
        return images.masked_fill(inside, GREY)
    sixteen = draws.bits(first + 2 * tries + 3, -(-3 * height * width // 4)).view(torch.int16)[:, : 3 * height * width]
    noise = _noise(images.device)[sixteen.int() + (1 << 15)].view(images.shape)
    return torch.where(inside, noise, images)


@lru_cache
def _noise(device: torch.device) -> UInt8[Tensor, " levels"]:
    """The pixel values of normal noise, rounded and clipped, at 2^16 even steps of their distribution."""
    edges = (torch.arange(255, dtype=torch.float64) + 0.5 - GREY) / DEVIATION
    steps = (torch.arange(1 << 16, dtype=torch.float64) + 0.5) / (1 << 16)
    return torch.searchsorted(torch.special.ndtr(edges), steps).to(device=device, dtype=torch.uint8)
