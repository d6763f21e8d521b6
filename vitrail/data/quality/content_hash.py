"""Which images a source holds, as a digest: another one when an image, a label or their order changes.

Cheap for a million images: files are known by name, size and time of change, and are not read. What has no files
(arrays, drawn digits, the hub) is read once, without decoding.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from vitrail.core.object_store import is_remote, local
from vitrail.data.catalog.imagenet_real import RealSource
from vitrail.data.decode.image import BrokenImage
from vitrail.data.sources.arrow import ArrowSource
from vitrail.data.sources.base import ArraySource, FileSource, Source
from vitrail.data.sources.parquet import ParquetSource
from vitrail.data.sources.subset import ConcatSource, Subset
from vitrail.data.sources.webdataset import TarSource
from vitrail.data.transforms.pipeline import Squared


def content_hash(source: Source) -> str:
    """The digest, 64 hexadecimal digits. A folder that was moved keeps its own; a copy with new times does not."""
    digest = hashlib.sha256()
    _add(digest, type(source).__name__, list(source.classes), source.labels)
    match source:
        case Subset() | RealSource():
            _add(digest, content_hash(source.source), source.indices)
        case Squared():
            _add(digest, content_hash(source.source), list(source.size))
        case ConcatSource():
            _add(digest, *(content_hash(part) for part in source.sources))
        case ArraySource():
            _add(digest, source.images, source.keys)
        case FileSource():
            for index, name in enumerate(source.names):
                digest.update(name.as_py() + b"\0" + _stamp(source.place(index)))
        case ParquetSource() | ArrowSource() | TarSource():
            for file in source.files:
                _add(digest, Path(str(file)).name)
                digest.update(_stamp(str(file)))
        case _:
            for index in range(len(source)):
                _add(digest, *_read(source, index))
    return digest.hexdigest()


def _stamp(place: str) -> bytes:
    """Size and time of change of a file; of a remote one, of which there may be a new copy, its address and size."""
    try:
        about = Path(local(place) if is_remote(place) else place).stat()
    except (OSError, ValueError) as problem:
        return f"{type(problem).__name__}\0".encode()
    return f"{place if is_remote(place) else about.st_mtime_ns} {about.st_size}\0".encode()


def _read(source: Source, index: int) -> tuple[Any, ...]:
    try:
        example = source[index]
    except BrokenImage as problem:
        return ("broken", str(problem))
    return example.image, example.key


def _add(digest: Any, *values: Any) -> None:
    """Adds values with their kinds and lengths, so that no two lists of them look alike."""
    for value in values:
        if isinstance(value, np.ndarray):
            digest.update(f"{value.dtype.str} {value.shape} ".encode())
            digest.update(np.ascontiguousarray(value).data)
        elif isinstance(value, bytes):
            digest.update(f"bytes {len(value)} ".encode() + value)
        else:
            digest.update(json.dumps(value).encode() + b"\n")
