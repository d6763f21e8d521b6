"""Arrays as people hold images: grey or with alpha, channels first or last, bytes or shares from 0 to 1."""

from typing import Any

import numpy as np
from PIL import Image

from vitrail.data.decode.image import BrokenImage, Pixels, from_pillow

CHANNELS = (1, 3, 4)  # grey, RGB, RGBA


def from_array(array: np.ndarray) -> Pixels:
    """The pixels of one image; alpha is laid on black, as in files.

    Args:
        array: [H, W], [H, W, C] or [C, H, W] with 1, 3 or 4 channels (channels last, where both do): whole numbers
            from 0 to 255, or floats from 0 to 1.

    Raises:
        BrokenImage: another shape, or other numbers, as those of an image that was normalised for a model.
    """
    what = f"an array of {array.dtype} {array.shape}"
    if array.ndim == 3 and array.shape[2] not in CHANNELS and array.shape[0] in CHANNELS:
        array = array.transpose(1, 2, 0)
    if not array.size or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in CHANNELS):
        raise BrokenImage(f"{what}; expected [H, W], [H, W, C] or [C, H, W] with 1, 3 or 4 channels")
    pixels = _bytes(array, what)
    if pixels.ndim == 3 and pixels.shape[2] == 3:
        return pixels
    return from_pillow(Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels))


def _bytes(array: np.ndarray, what: str) -> Any:
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype.kind not in "iuf":
        raise BrokenImage(f"{what}; expected uint8, or floats from 0 to 1")
    low, high = array.min(), array.max()
    most = 1 if array.dtype.kind == "f" else 255
    if not 0 <= low <= high <= most:
        raise BrokenImage(
            f"{what} from {low:g} to {high:g}; expected whole numbers from 0 to 255, or floats from 0 to 1"
        )
    return np.rint(array * 255.0).astype(np.uint8) if most == 1 else array.astype(np.uint8)
