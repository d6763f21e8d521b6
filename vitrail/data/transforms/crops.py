"""Augmentations: functions of (pixels, rng) to pixels. Pixels are uint8 [H, W, 3].

Resizing is done by Pillow's filters (bilinear, bicubic, ...), which average over what is lost when an image shrinks.
Random boxes are resized by torch's bilinear filter, which is the same but for rounding, and several times as fast.
"""

from functools import lru_cache
from math import ceil, exp, floor, log, sqrt
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from vitrail.data.decode.image import Box, FloatBox, Picture, Pixels, Size, part_of, size_of

Interpolation = Literal["bilinear", "bicubic", "nearest", "lanczos", "box", "hamming"]
_FILTERS = {name: Image.Resampling[name.upper()] for name in get_args(Interpolation)}

# TensorFlow's default, which the official code leaves as it is: 1.33, not 4/3.
ASPECT = (0.75, 1.33)  # width over height


def resize(
    pixels: Pixels, size: Size, box: FloatBox | None = None, interpolation: Interpolation = "bilinear"
) -> Pixels:
    """Resizes the image, or the box of it, to exactly `size`; aspect is not kept.

    Of a box, what lies outside is not looked at, as if it were cut out first.
    """
    height, width = size
    if box is None and pixels.shape[:2] == size:
        return pixels
    if box is not None:
        left, top, right, bottom = box
        y, x = floor(top), floor(left)
        pixels, box = pixels[y : ceil(bottom), x : ceil(right)], (left - x, top - y, right - x, bottom - y)
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize((width, height), _FILTERS[interpolation], box=box))


def resize_fast(pixels: Pixels, size: Size) -> Pixels:
    """`resize`, bilinear, by torch: in a fifth of the time, and rounded otherwise (pixels differ by 2 at most)."""
    import torch  # here: the decoders of a server need none of it, and it takes a second

    # what `functional.interpolate(..., mode="bilinear", antialias=True)` calls; its checks take a fifth as long
    return _as_pixels(torch._C._nn._upsample_bilinear2d_aa(_as_tensor(pixels), size, False, None))


def _as_tensor(pixels: Pixels) -> Any:
    """uint8 [1, 3, H, W]: the same memory where it can be; channels last, for which torch has fast kernels."""
    import torch

    # torch warns of memory that it cannot write to, and has no negative strides
    pixels = np.ascontiguousarray(pixels) if pixels.flags.writeable else pixels.copy()
    return torch.from_numpy(pixels.reshape(1, *pixels.shape).transpose(0, 3, 1, 2))  # numpy turns views faster


def _as_pixels(image: Any) -> Pixels:
    found: Pixels = image.numpy()[0].transpose(1, 2, 0)
    return found


def cover(pixels: Pixels, size: Size, share: float = 1.0, interpolation: Interpolation = "bilinear") -> Pixels:
    """Resizes to the smallest image of the same aspect that covers `size` / `share` in both directions."""
    height, width = size
    scale = max(height / share / pixels.shape[0], width / share / pixels.shape[1])
    larger = (max(height, round(pixels.shape[0] * scale)), max(width, round(pixels.shape[1] * scale)))
    return resize(pixels, larger, interpolation=interpolation)


def centre_crop(pixels: Pixels, size: Size) -> Pixels:
    """The middle `size` of the image, which must be at least that large."""
    height, width = size
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width]


def random_crop(pixels: Pixels, size: Size, rng: np.random.Generator) -> Pixels:
    """A random `size` of the image, which must be at least that large."""
    height, width = size
    top = int(rng.integers(pixels.shape[0] - height + 1))
    left = int(rng.integers(pixels.shape[1] - width + 1))
    return pixels[top : top + height, left : left + width]


def flip(pixels: Pixels) -> Pixels:
    """Left becomes right."""
    # a view with a negative stride would be copied in 150 µs (224 pixels), and torch has a kernel that takes 9
    return _as_pixels(_as_tensor(pixels).flip(3))


def inception_crop(picture: Picture, size: Size, area: tuple[float, float], rng: np.random.Generator) -> Pixels:
    """A box of random area and aspect, resized to `size` (the crop of Inception); raises BrokenImage."""
    return _box_resized(picture, size, inception_box(*size_of(picture), area, rng))


def random_resized_crop(
    picture: Picture, size: Size, area: tuple[float, float], aspect: tuple[float, float], rng: np.random.Generator
) -> Pixels:
    """A box as torchvision's RandomResizedCrop draws it, resized to `size`; raises BrokenImage."""
    return _box_resized(picture, size, torchvision_box(*size_of(picture), area, rng, aspect))


def _box_resized(picture: Picture, size: Size, box: Box) -> Pixels:
    pixels, (left, top, right, bottom) = part_of(picture, box, size)
    y, x, below, beyond = int(top), int(left), int(bottom), int(right)
    if (x, y, beyond, below) == (left, top, right, bottom):
        return resize_fast(pixels[y:below, x:beyond], size)
    return resize(pixels, size, (left, top, right, bottom))


def inception_box(
    height: int,
    width: int,
    area: tuple[float, float],
    rng: np.random.Generator,
    aspect: tuple[float, float] = ASPECT,
) -> Box:
    """A random box as TensorFlow's `sample_distorted_bounding_box` draws it.

    The aspect is uniform, then the *height* is uniform among those that keep the share of the area within `area`
    (so the area itself is not uniform), then the place is uniform. The whole image when 100 draws fit nothing.
    """
    low, high = area[0] * height * width, area[1] * height * width
    for _ in range(100):
        ratio = rng.uniform(*aspect)
        least = round(sqrt(low / ratio))
        most = round(sqrt(high / ratio))
        if round(most * ratio) > width:
            most = int((width + 0.5 - 1e-7) / ratio)
            most -= round(most * ratio) > width
        most = min(most, height)
        box_height = min(least, most)
        if box_height < most:
            box_height += _below(most - box_height + 1, rng)
        box_width = round(box_height * ratio)
        if box_height * box_width < low:  # rounding may have lost a little
            box_height += 1
            box_width = round(box_height * ratio)
        elif box_height * box_width > high:
            box_height -= 1
            box_width = round(box_height * ratio)
        fits = 0 < box_width <= width and 0 < box_height <= height
        if fits and low <= box_height * box_width <= high:
            # TensorFlow draws the offset below size - box, so it never touches the far edge; kept
            top, left = _below(height - box_height, rng), _below(width - box_width, rng)
            return left, top, left + box_width, top + box_height
    return 0, 0, width, height


def _below(count: int, rng: np.random.Generator) -> int:
    """A random number from 0 to `count` - 1 (0 where that is none), in a third of the time of `integers`."""
    return int(rng.random() * count)


def torchvision_box(
    height: int,
    width: int,
    area: tuple[float, float],
    rng: np.random.Generator,
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
) -> Box:
    """A random box as torchvision's `RandomResizedCrop` draws it.

    The share of the area is uniform, and so is the logarithm of the aspect. When 10 draws do not fit, the largest box
    in the middle whose aspect is within the range.
    """
    for _ in range(10):
        share = rng.uniform(*area) * height * width
        ratio = exp(rng.uniform(log(aspect[0]), log(aspect[1])))
        box_width, box_height = round(sqrt(share * ratio)), round(sqrt(share / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            top, left = int(rng.integers(height - box_height + 1)), int(rng.integers(width - box_width + 1))
            return left, top, left + box_width, top + box_height
    ratio = min(max(width / height, aspect[0]), aspect[1])
    box_width, box_height = min(width, round(height * ratio)), min(height, round(width / ratio))
    left, top = (width - box_width) // 2, (height - box_height) // 2
    return left, top, left + box_width, top + box_height


def pad_crop(pixels: Pixels, padding: int, rng: np.random.Generator, size: Size | None = None) -> Pixels:
    """Pads by reflection on all sides and cuts out a random window, of the old size where none is given."""
    height, width = pixels.shape[:2]
    rows, columns = size or (height, width)
    top = int(rng.integers(height + 2 * padding - rows + 1))
    left = int(rng.integers(width + 2 * padding - columns + 1))
    window = pixels.take(_reflected(height, padding)[top : top + rows], axis=0)
    return window.take(_reflected(width, padding)[left : left + columns], axis=1)


@lru_cache
def _reflected(size: int, padding: int) -> np.ndarray:
    """The indices -padding … size + padding - 1, reflected at both ends without repeating the border."""
    return np.pad(np.arange(size), padding, mode="reflect")


def colour_jitter(pixels: Pixels, strengths: tuple[float, float, float], rng: np.random.Generator) -> Pixels:
    """Brightness, contrast and saturation in random order, each times a factor from 1 - strength to 1 + strength."""
    image = Image.fromarray(pixels)
    for i in rng.permutation(3):
        factor = rng.uniform(max(0.0, 1 - strengths[i]), 1 + strengths[i])
        image = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)[i](image).enhance(factor)
    return np.asarray(image)


def three_augment(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """One of three: grey; values from 128 on inverted; a Gaussian blur with a deviation of 0.1 to 2 pixels."""
    image = Image.fromarray(pixels)
    match int(rng.integers(3)):
        case 0:
            image = image.convert("L").convert("RGB")
        case 1:
            image = ImageOps.solarize(image)
        case _:
            image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.1, 2.0)))
    return np.asarray(image)
