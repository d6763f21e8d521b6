"""One pass over a source: format, mode, size, turn, digest and small picture of each image, or why there is none."""

import hashlib
import io
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import partial
from pathlib import PurePath
from typing import NamedTuple

import numpy as np
from PIL import Image

from vitrail.core.cluster import Cluster, cluster_mapping
from vitrail.core.pool import mapping, usable_cores
from vitrail.core.progress import progress
from vitrail.data.decode import image
from vitrail.data.decode.image import BrokenImage
from vitrail.data.quality.phash import SIDE, thumbnail
from vitrail.data.sources.base import Source
from vitrail.records.images import ImageReference

CHUNK = 256  # images that a process examines at a time
ALONE = 2000  # images up to which starting processes is not worth it
ORIENTATION = 274  # the EXIF tag

# What the suffixes promise; several names of Pillow's hold the same kind of file.
FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k", ".jpf", ".jpx"),
    "HEIC": (".heic", ".heif"),
}
SAME = {"MPO": "JPEG", "DIB": "BMP"}


@dataclass
class Scanned:
    """What was seen of n images; each column has n rows, and an unreadable image has zeros and empty texts."""

    index: np.ndarray  # int64: the place in the source
    key: np.ndarray  # objects, text: the name that people know it by
    reason: np.ndarray  # objects, text: why it cannot be read; empty where it can
    kind: np.ndarray  # text: the format of the file, "JPEG"; empty for bare pixels
    mode: np.ndarray  # text: Pillow's mode of the file, "RGB", "CMYK"; empty for bare pixels
    size: np.ndarray  # int32 [n, 2]: height and width as seen, upright
    turn: np.ndarray  # int8: EXIF orientation, 1 to 8; 1 is upright
    digest: np.ndarray  # uint64 [n, 2]: of the pixels; equal for equal pictures, whatever the format of the file
    thumbnail: np.ndarray  # uint8 [n, 32, 32]

    def __len__(self) -> int:
        return len(self.index)

    @property
    def readable(self) -> np.ndarray:
        """bool [n]."""
        return np.asarray(self.digest.any(axis=1))

    @staticmethod
    def empty(count: int) -> "Scanned":
        """A table of `count` images of which nothing is known yet."""
        texts = np.full((2, count), "", dtype=object)
        return Scanned(
            np.zeros(count, np.int64),
            texts[0],
            texts[1],
            np.zeros(count, "U8"),
            np.zeros(count, "U8"),
            np.zeros((count, 2), np.int32),
            np.ones(count, np.int8),
            np.zeros((count, 2), np.uint64),
            np.zeros((count, SIDE, SIDE), np.uint8),
        )


class Looked(NamedTuple):
    """What is seen of an encoded image; as in Scanned."""

    kind: str
    mode: str
    turn: int
    pixels: image.Pixels


Look = Callable[[bytes], Looked]


def look(data: bytes) -> Looked:
    """Decodes an image here; raises BrokenImage."""
    return Looked(*header(data), image.decode(data))


def scan(
    source: Source,
    indices: np.ndarray | None = None,
    *,
    workers: int | None = None,
    title: str = "examining",
    looking: Look = look,
    cluster: Cluster | None = None,
) -> Scanned:
    """Reads and decodes the images at `indices` (None: all), in several processes; never raises for a broken one.

    1.1 KB are held for each image. `looking`: what decodes; it is sent to each process. `cluster`: whose nodes
    are the processes, in place of `workers`.
    """
    indices = np.arange(len(source)) if indices is None else np.asarray(indices, np.int64)
    whole, done, broken = Scanned.empty(len(indices)), 0, 0
    if workers is None:
        workers = usable_cores() if len(indices) > ALONE else 1
    parts = (indices[i : i + CHUNK] for i in range(0, len(indices), CHUNK))
    examine = partial(examine_part, looking=looking)
    with (
        mapping(examine, source, workers) if cluster is None else cluster_mapping(examine, source) as mapped,
        progress(title, len(indices)) as bar,
    ):
        for part in mapped(parts):
            for field in fields(Scanned):
                getattr(whole, field.name)[done : done + len(part)] = getattr(part, field.name)
            done += len(part)
            broken += int((~part.readable).sum())
            bar.advance(f"{broken:,} unreadable", by=len(part))
    return whole


@dataclass(frozen=True)
class ScannedSet:
    """A data set by its name, and what was seen of it. `judged` is false where others are only compared with it."""

    name: str
    source: Source
    table: Scanned
    start: int = 0  # the place of its first image among those of all sets
    judged: bool = True

    @property
    def places(self) -> range:
        """Of its images among all."""
        return range(self.start, self.start + len(self.table))

    def row_of(self, place: int) -> int:
        """The row of an image, from its place among all."""
        return place - self.start

    def label(self, row: int) -> str:
        """The name of the class of the image in that row of the table."""
        return self.source.classes[int(self.source.labels[self.table.index[row]])]

    def about(self, row: int) -> ImageReference:
        """Which image that is."""
        index, key = int(self.table.index[row]), str(self.table.key[row])
        return ImageReference(data=self.name, index=index, key=key, label=self.label(row))


def scan_sets(
    named: Iterable[tuple[str, Source]],
    workers: int | None = None,
    *,
    sample: Callable[[Source], np.ndarray] | None = None,
    looking: Look = look,
    cluster: Cluster | None = None,
) -> list[ScannedSet]:
    """Scans each set, whole or at the indices that `sample` returns; places count on through them."""
    sets, start = [], 0
    for name, source in named:
        indices = None if sample is None else sample(source)
        seen = scan(source, indices, workers=workers, title=name, looking=looking, cluster=cluster)
        sets.append(ScannedSet(name, source, seen, start))
        start += len(sets[-1].table)
    return sets


def examine_part(source: Source, indices: np.ndarray, looking: Look = look) -> Scanned:
    """Some images of a source, in this process."""
    seen = Scanned.empty(len(indices))
    seen.index[:] = indices
    for row, index in enumerate(indices):
        try:
            example = source[int(index)]
            seen.key[row] = example.key.encode("utf-8", "backslashreplace").decode()
            _examine(example.image, seen, row, looking)
        except BrokenImage as problem:
            seen.key[row] = seen.key[row] or problem.key or f"example {index}"
            seen.reason[row] = str(problem)
        except (OSError, MemoryError) as problem:
            seen.key[row] = seen.key[row] or f"example {index}"
            seen.reason[row] = str(problem) or type(problem).__name__
    return seen


def _examine(stored: bytes | image.Pixels, seen: Scanned, row: int, looking: Look) -> None:
    if isinstance(stored, bytes):
        seen.kind[row], seen.mode[row], seen.turn[row], pixels = looking(stored)
    else:
        pixels = stored
    seen.size[row] = pixels.shape[:2]
    seen.thumbnail[row] = thumbnail(pixels)
    hashed = hashlib.blake2b(
        np.ascontiguousarray(pixels).data, digest_size=16, person=b"%dx%d" % pixels.shape[:2]
    ).digest()
    seen.digest[row] = np.frombuffer(hashed, np.uint64)


def header(data: bytes) -> tuple[str, str, int]:
    """The format, Pillow's mode and the EXIF orientation that a file says of itself; empty and 1 where it does not."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data), formats=image.FORMATS) as opened:
            kind, mode = SAME.get(opened.format or "", opened.format or ""), opened.mode
            turn = opened.getexif().get(ORIENTATION, 1)
            return kind, mode, turn if isinstance(turn, int) and 1 <= turn <= 8 else 1
    except Exception:  # of damaged files Pillow raises anything; decoding says what is wrong
        return "", "", 1


def promised(key: str) -> str:
    """The format that the suffix of a name promises; empty where it promises none."""
    suffix = PurePath(key).suffix.lower()
    return next((kind for kind, suffixes in FORMATS.items() if suffix in suffixes), "")
