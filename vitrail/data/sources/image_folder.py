"""Folders of images: `root/class/file`, listed once and remembered."""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from vitrail.core.cache import cache_folder
from vitrail.core.errors import BadInput, nearest
from vitrail.core.files import atomic_path
from vitrail.data.decode import image
from vitrail.data.sources.base import FileSource, binary

REMEMBERED = 20_000  # files from which on a listing is worth a file
SETTLED = 2.0  # seconds after which a change of a folder must show in its time
_FORMAT = b"vitrail folder 1"


class Listing(NamedTuple):
    """The images below a folder: `counts[k]` of `classes[k]`, class by class; names as bytes, relative to it."""

    classes: tuple[str, ...]
    counts: np.ndarray
    names: pa.LargeBinaryArray


class FolderSource(FileSource):
    """`root/class/file`: the classes are the folders in alphabetical order, the files may lie deeper.

    Of a large folder the listing is kept in the cache folder; it holds as long as no folder below has changed.
    """

    def __init__(self, root: Path, classes: tuple[str, ...] | None = None):
        listing = list_folder(root)
        if not listing.classes:
            raise BadInput(f"{root} has no sub-folders; expected one folder of images for each class")
        if not len(listing.names):
            suffixes = ", ".join(sorted(image.SUFFIXES))
            raise BadInput(f"{root} holds no images in its {len(listing.classes)} sub-folders (looked for {suffixes})")
        place = {name: label for label, name in enumerate(classes or listing.classes)}
        for name in listing.classes:
            if name not in place:
                raise BadInput(f"{root} has the class {name!r}, which train lacks{nearest(name, place)}")
        labels = np.repeat([place[name] for name in listing.classes], listing.counts)
        super().__init__(str(root), listing.names, labels, tuple(place))


def list_folder(root: Path) -> Listing:
    """The images below `root`, from memory where that still holds."""
    memory = cache_folder() / "folders" / f"{hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:32]}.arrow"
    remembered = _recall(root, memory)
    if remembered is not None:
        return remembered
    start = time.time()
    folders: list[tuple[bytes, int]] = []
    listing = _walk(root, folders)
    # a folder that has just changed may change again without another time
    if len(listing.names) >= REMEMBERED and all(ns / 1e9 < start - SETTLED for _, ns in folders):
        with suppress(OSError):  # a cache that cannot be written costs time, nothing else
            _remember(listing, folders, memory)
    return listing


def _walk(root: Path, folders: list[tuple[bytes, int]]) -> Listing:
    """Lists the disk, and collects the folders that it saw with their times."""
    top = os.fsencode(root)
    folders.append((b"", _time(top)))
    classes = _class_folders(root)
    counts, names = [], []
    for name in classes:
        inside = sorted(_files(top, os.fsencode(name), folders), key=lambda path: path.split(b"/"))
        counts.append(len(inside))
        names += inside
    return Listing(_shown(classes), np.array(counts, dtype=np.int64), binary(names))


def classes_in(root: Path) -> tuple[str, ...]:
    """The classes of a folder, without a look at its images."""
    return _shown(_class_folders(root))


def _class_folders(root: Path) -> list[str]:
    with os.scandir(os.fsencode(root)) as entries:
        return sorted(os.fsdecode(e.name) for e in entries if e.is_dir() and not e.name.startswith(b"."))


def _shown(names: list[str]) -> tuple[str, ...]:
    return tuple(os.fsencode(name).decode("utf-8", "backslashreplace") for name in names)


def _files(top: bytes, below: bytes, folders: list[tuple[bytes, int]]) -> Iterator[bytes]:
    """The names, relative to `top`, of all images below a folder; links to folders may loop and are not followed."""
    waiting = [below]
    while waiting:
        folder = waiting.pop()
        path = os.path.join(top, folder)
        folders.append((folder, _time(path)))
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith(b"."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(folder + b"/" + entry.name)
                elif b"." + entry.name.rpartition(b".")[2].lower() in _SUFFIXES and (
                    entry.is_file()
                    or (entry.is_symlink() and not entry.is_dir())  # a link to nothing is a broken image
                ):
                    yield folder + b"/" + entry.name


def _time(folder: bytes) -> int:
    return os.stat(folder).st_mtime_ns  # noqa: PTH116 - names that are no UTF-8


_SUFFIXES = frozenset(suffix.encode() for suffix in image.SUFFIXES)


def _remember(listing: Listing, folders: list[tuple[bytes, int]], memory: Path) -> None:
    parts = {
        "names": listing.names,
        "classes": binary([name.encode() for name in listing.classes]),
        "counts": pa.array(listing.counts),
        "folders": binary([name for name, _ in folders]),
        "times": pa.array([ns for _, ns in folders], type=pa.int64()),
    }
    row = pa.record_batch({name: _one_row(values) for name, values in parts.items()})
    row = row.replace_schema_metadata({b"vitrail": _FORMAT})
    with atomic_path(memory) as temporary, pa.ipc.new_file(str(temporary), row.schema) as writer:
        writer.write_batch(row)


def _one_row(values: pa.Array) -> pa.LargeListArray:
    return pa.LargeListArray.from_arrays(pa.array([0, len(values)], type=pa.int64()), values)


def _recall(root: Path, memory: Path) -> Listing | None:
    """The remembered listing, or None where there is none, it cannot be read, or a folder has changed since."""
    try:
        with pa.memory_map(str(memory)) as file:
            opened = pa.ipc.open_file(file)
            if opened.schema.metadata != {b"vitrail": _FORMAT} or opened.num_record_batches != 1:
                return None
            row = opened.get_batch(0)
            row.validate(full=True)
            names, classes, counts, folders, times = (
                row[c][0].values for c in ("names", "classes", "counts", "folders", "times")
            )
        for folder, ns in zip(folders.to_pylist(), times.to_pylist(), strict=True):
            if _time(os.path.join(os.fsencode(root), folder)) != ns:
                return None
    except (OSError, pa.ArrowInvalid, KeyError, ValueError):
        return None
    return Listing(tuple(c.decode() for c in classes.to_pylist()), counts.to_numpy(), names)
