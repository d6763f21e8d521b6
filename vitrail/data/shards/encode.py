"""An image made small and encoded anew, as it lies in a shard.

It is decoded in full, turned upright, made smaller where its shorter side is longer than `side` (never larger), and
encoded. One that is small enough and has the right encoding already keeps its bytes.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from vitrail.data.decode import image
from vitrail.data.decode.image import BrokenImage, Pixels
from vitrail.data.sources.base import Source


@dataclass(frozen=True)
class Jpeg:
    """Baseline JPEG, colour at half the resolution (4:2:0), a restart marker after every row of blocks."""

    quality: int = 90


@dataclass(frozen=True)
class Png:
    """Lossless: the pixels after resizing are kept exactly."""


@dataclass(frozen=True)
class Webp:
    """Lossless WebP: a quarter smaller than PNG, read faster, and much slower to write."""


Encoding = Jpeg | Png | Webp
Container = Literal["arrow", "tar"]
NAMES: dict[type, tuple[str, str]] = {Jpeg: ("JPEG", "jpg"), Png: ("PNG", "png"), Webp: ("WEBP", "webp")}


@dataclass(frozen=True)
class Form:
    """What becomes of the images of a source."""

    side: int = 256  # pixels of the shorter side, at most
    encoding: Encoding = Jpeg()
    container: Container = "arrow"
    root: str = ""  # the folder that keys which are paths are relative to, so that shards do not depend on the place


class Entry(NamedTuple):
    """A prepared image; `row` is its place in the source, `copied` whether its bytes are those of the source."""

    image: bytes
    label: int
    key: str
    row: int
    copied: bool


class Dropped(NamedTuple):
    """An image that cannot be read."""

    key: str
    reason: str
    row: int


def prepare_rows(shared: tuple[Source, Form], rows: Sequence[int]) -> list[Entry | Dropped]:
    """Some rows of a source, in the order given."""
    source, form = shared
    return [prepare_row(source, index, form) for index in rows]


def prepare_row(source: Source, index: int, form: Form) -> Entry | Dropped:
    """One image of a source in its prepared form; never raises BrokenImage."""
    key = None
    try:
        example = source[index]
        key = example.key
        data, copied = prepare_image(example.image, form)
    except BrokenImage as problem:
        return Dropped(_relative(problem.key or key or f"example {index}", form.root), str(problem), index)
    return Entry(data, example.label, _relative(example.key, form.root), index, copied)


def prepare_image(stored: bytes | Pixels, form: Form) -> tuple[bytes, bool]:
    """The encoded image, and whether these are the bytes that were given.

    Raises:
        BrokenImage: it cannot be decoded, or has a side that its new encoding cannot express.
    """
    pixels = image.decode(stored) if isinstance(stored, bytes) else stored
    height, width = pixels.shape[:2]
    shorter = min(height, width)
    if shorter > form.side:
        scale = form.side / shorter
        size = (max(form.side, round(width * scale)), max(form.side, round(height * scale)))
        # Pillow's filter to the bit, and no torch in processes that only prepare
        pixels = np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.BILINEAR))
    elif isinstance(stored, bytes) and _is_plain(stored, form.encoding):
        return stored, True
    return encode(pixels, form.encoding), False


def encode(pixels: Pixels, encoding: Encoding) -> bytes:
    """Pixels as the bytes of a file; raises BrokenImage for a side that is too long for its format."""
    name, _ = NAMES[type(encoding)]
    buffer = io.BytesIO()
    try:
        match encoding:
            case Jpeg(quality):
                # markers after every row of blocks: loading skips the rows that a crop does not show
                Image.fromarray(np.ascontiguousarray(pixels)).save(
                    buffer, name, quality=quality, subsampling="4:2:0", restart_marker_rows=1
                )
            case Png():
                Image.fromarray(pixels).save(buffer, name)
            case Webp():
                Image.fromarray(pixels).save(buffer, name, lossless=True)
    except (ValueError, OSError) as problem:
        height, width = pixels.shape[:2]
        raise BrokenImage(f"{width} x {height} pixels cannot be written as {name}: {problem}") from None
    return buffer.getvalue()


def _is_plain(data: bytes, encoding: Encoding) -> bool:
    """Whether readable bytes are of this encoding, and mean what they show: upright, RGB or grey, one frame, opaque."""
    name, _ = NAMES[type(encoding)]
    try:
        with Image.open(io.BytesIO(data), formats=(name,)) as opened:
            return (
                opened.format == name  # and not MPO, which opens as JPEG
                and opened.mode in ("RGB", "L")
                and "transparency" not in opened.info
                and getattr(opened, "n_frames", 1) == 1
                and opened.getexif().get(0x0112, 1) == 1
            )
    except Exception:  # another format, or metadata that Pillow does not understand
        return False


def _relative(key: str, root: str) -> str:
    key = key.removeprefix(root + "/") if root else key
    return key.encode("utf-8", "backslashreplace").decode()  # names of files may be no UTF-8
