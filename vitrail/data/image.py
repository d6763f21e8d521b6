"""Bytes to uint8 pixels [H, W, 3], upright; and what is broken, and why."""

import io
import warnings
from pathlib import Path

import numpy as np
import simplejpeg
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

Pixels = UInt8[np.ndarray, "_h _w 3"]  # sizes may differ between arguments and result

MAX_PIXELS = 2 * 89_478_485  # 179 megapixels, 0.5 GB decoded: above it Pillow, too, takes a file for an attack
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".avif"})


class BrokenImage(Exception):
    """An image that cannot be decoded; the message is the reason, `key` the name of the image where it is known."""

    def __init__(self, reason: str, key: str | None = None):
        super().__init__(reason)
        self.key = key


def decode(data: bytes) -> Pixels:
    """Decodes an encoded image to RGB, turned upright by its EXIF orientation, alpha laid on black.

    JPEG goes through simplejpeg (libjpeg-turbo), everything else, and the JPEGs that it declines, through Pillow.

    Raises:
        BrokenImage: empty, truncated, not an image, or more than MAX_PIXELS pixels.
    """
    if not data:
        raise BrokenImage("empty file")
    if simplejpeg.is_jpeg(data) and _orientation_is_plain(data):
        try:
            height, width, _, _ = simplejpeg.decode_jpeg_header(data)
            _refuse_bomb(width, height)
            return simplejpeg.decode_jpeg(data, colorspace="RGB")
        except ValueError:
            pass  # CMYK, or damaged: Pillow converts the one and has the better sentence for the other
    return _decode_with_pillow(data)


def read(path: Path) -> bytes:
    """The bytes of a file; an unreadable one is a broken image, not the end of a run."""
    try:
        return path.read_bytes()
    except OSError as problem:
        raise BrokenImage(problem.strerror or str(problem), str(path)) from None


def _refuse_bomb(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise BrokenImage(f"{width} x {height} pixels are more than the {MAX_PIXELS:,} allowed")


def _orientation_is_plain(data: bytes) -> bool:
    """False when the file may ask to be turned: decoded by Pillow, which applies the EXIF orientation."""
    return data.find(b"Exif\x00", 0, 1 << 20) < 0  # colour profiles of many kilobytes may come before it


def _decode_with_pillow(data: bytes) -> Pixels:
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as image:
            return from_pillow(image)  # warnings of metadata and of size: what cannot be decoded raises
    except BrokenImage:
        raise
    except UnidentifiedImageError:
        raise BrokenImage("not an image of a known format") from None
    except Exception as problem:  # decoders raise OSError, SyntaxError, struct.error, ... on damaged files
        raise BrokenImage(f"{problem}" or type(problem).__name__) from None


def from_pillow(image: Image.Image) -> Pixels:
    """The pixels of an open Pillow image, treated as its file would be: upright, RGB, alpha laid on black."""
    _refuse_bomb(*image.size)
    return np.asarray(_to_rgb(ImageOps.exif_transpose(image)))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":  # Pillow clips 16 bits to 8 instead of scaling
        values = np.asarray(image, dtype=np.int64) >> 8
        return Image.fromarray(values.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba).convert("RGB")
    return image.convert("RGB")
