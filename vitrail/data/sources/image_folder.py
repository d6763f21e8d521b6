"""Folders of images: `root/class/file`, listed once and remembered."""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from vitrail.core.cache import cache_folder
from vitrail.core.errors import BadInput
from vitrail.core.files import atomic_path
from vitrail.core.progress import say
from vitrail.data.decode import image
from vitrail.data.sources.base import FileSource, binary
from vitrail.data.sources.class_names import composed, places_of, say_alike
from vitrail.data.sources.junk import is_junk
from vitrail.data.sources.skipped import Skipped

REMEMBERED = 20_000  # files from which on a listing is worth a file
SETTLED = 2.0  # seconds after which a change of a folder must show in its time
_FORMAT = b"vitrail folder 3"


class Listing(NamedTuple):
    """The images below a folder: `counts[k]` of `classes[k]`, class by class; names as bytes, relative to it."""

    classes: tuple[str, ...]
    counts: np.ndarray
    names: pa.LargeBinaryArray
    skipped: Skipped = Skipped()  # files that are no images, and links that lead nowhere new
    lost: tuple[str, ...] = ()  # classes of whose files none is an image


class FolderSource(FileSource):
    """`root/class/file`: the classes are the folders in alphabetical order, the files may lie deeper.

    Files are images by their content, whatever their names; what is left out is counted and said. Of a large folder the
    listing is kept in the cache folder; it holds as long as no folder below has changed.

    Args:
        classes: of the training split; None: the folders are the classes.

    Raises:
        BadInput: no folders, no images, a class of which no file is an image, or a class that `classes` lacks.
    """

    def __init__(self, root: Path, classes: tuple[str, ...] | None = None):
        listing = list_folder(root)
        if not listing.classes:
            raise BadInput(f"{root} has no sub-folders; expected one folder of images for each class{_table(root)}")
        self.skipped = listing.skipped if len(listing.skipped) else None
        if not len(listing.names):
            why = str(listing.skipped) if len(listing.skipped) else f"looked for {', '.join(sorted(image.SUFFIXES))}"
            raise BadInput(f"{root} holds no images in its {len(listing.classes)} sub-folders ({why}){_table(root)}")
        if listing.lost:
            raise BadInput(
                f"{root}: of the class {listing.lost[0]} not one file is an image ({listing.skipped}); convert them, "
                "or take the folder away"
            )
        if self.skipped is not None:
            say(f"{root}: {len(self.skipped):,} files and links are not used: {self.skipped}")
        empty = [name for name, count in zip(listing.classes, listing.counts, strict=True) if not count]
        if empty and classes is None:
            shown = ", ".join(empty[:5]) + (", …" if len(empty) > 5 else "")
            say(f"{root}: {len(empty)} of {len(listing.classes)} classes have no image and cannot be learned: {shown}")
        classes = classes or listing.classes
        if len({composed(name) for name in classes}) < len(classes):
            raise BadInput(f"{root}: two classes have one name, written in two Unicode forms; give them one folder")
        say_alike(listing.classes, str(root))
        places = places_of(listing.classes, classes, str(root))
        super().__init__(str(root), listing.names, np.repeat(places, listing.counts), classes)


def _table(root: Path) -> str:
    """Where tables or archives lie in a folder or beside it: what to do with one."""
    archives = sorted(p.name for p in root.iterdir() if p.suffix.lower() in (".zip", ".7z", ".rar", ".gz", ".tgz"))
    if archives:
        return f"; unpack {archives[0]} first"
    tables = sorted([*root.glob("*.csv"), *root.parent.glob("*.csv")])
    return f"; a table of labels is DATA by its own name, as in {tables[0]}" if tables else ""


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
    folders.append((b"", os.stat(top).st_mtime_ns))  # noqa: PTH116 - names that are no UTF-8
    classes, skipped = _class_folders(root), Skipped()
    counts, names, lost = [], [], []
    seen: set[tuple[int, int]] = set()
    if classes:
        for name in _images_in(top):
            skipped.add("lie beside the folders of the classes", repr(name))
    for name in classes:
        before = len(skipped)
        node = _node((root / name).stat())
        if node in seen:  # a link from one class to another would give its images two labels
            skipped.add("a link to another class", repr(name))
            inside = []
        else:
            inside = images_below(top, os.fsencode(name), folders, skipped)
        seen.add(node)
        counts.append(len(inside))
        names += inside
        lost += [name] if not inside and len(skipped) > before else []
    return Listing(shown_names(classes), np.array(counts, dtype=np.int64), binary(names), skipped, shown_names(lost))


def classes_in(root: Path) -> tuple[str, ...]:
    """The classes of a folder, without a look at its images."""
    return shown_names(_class_folders(root))


def _class_folders(root: Path) -> list[str]:
    with os.scandir(os.fsencode(root)) as entries:
        return sorted(os.fsdecode(e.name) for e in entries if e.is_dir() and not is_junk(e.name))


def _images_in(folder: bytes) -> list[str]:
    """What is called like an image and lies in the folder itself."""
    with os.scandir(folder) as entries:
        names = sorted(e.name for e in entries if not is_junk(e.name) and e.is_file())
    return [os.fsdecode(n) for n in names if os.path.splitext(n)[1].lower() in _SUFFIXES]  # noqa: PTH122


def shown_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names of files as texts that fit into JSON."""
    return tuple(os.fsencode(name).decode("utf-8", "backslashreplace") for name in names)


def images_below(top: bytes, below: bytes, folders: list[tuple[bytes, int]], skipped: Skipped) -> list[bytes]:
    """The names, relative to `top`, of all images below a folder, in order of the parts of their names.

    Links to folders are followed, but into no folder twice and not upwards. Collects the folders that it saw with their
    times, and what it left out.
    """
    root = Path(os.fsdecode(top)).resolve()
    seen = {_node(folder.stat()) for folder in (root, *root.parents) if below or folder != root}
    waiting, found = [below], []
    while waiting:
        folder = waiting.pop()
        path = os.path.join(top, folder)
        about = os.stat(path)  # noqa: PTH116 - names that are no UTF-8
        if _node(about) in seen:
            skipped.add("a link to a folder that is read already", repr(os.fsdecode(folder)))
            continue
        seen.add(_node(about))
        folders.append((folder, about.st_mtime_ns))
        linked = []
        with os.scandir(path) as entries:
            for entry in entries:
                if is_junk(entry.name):
                    continue
                name = folder + b"/" + entry.name if folder else entry.name
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(name)
                elif entry.is_symlink() and entry.is_dir():
                    linked.append(name)
                elif entry.is_file() or (entry.is_symlink() and not entry.is_dir()):
                    reason = _left_out(entry)
                    if reason:
                        skipped.add(reason, repr(os.fsdecode(entry.name)))
                    else:
                        found.append(name)
        waiting = linked + waiting  # what lies there itself comes first
    return sorted(found, key=lambda name: name.split(b"/"))


def _node(about: os.stat_result) -> tuple[int, int]:
    return about.st_dev, about.st_ino


def _left_out(entry: os.DirEntry[bytes]) -> str:
    """Why a file is no image; empty where it is one, or is called like one and may turn out to be broken."""
    suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
    if suffix in _SUFFIXES:
        return ""
    try:
        with open(entry.path, "rb", buffering=0) as file:
            kind = image.kind_of(file.read(image.HEAD))
    except OSError:
        return "cannot be opened"
    if kind == "HEIC" and not image.reads_heic():
        return "are in HEIC, which needs `pip install 'vitrail[heic]'`"
    return "" if kind else f"are no image ({os.fsdecode(suffix) or 'without a suffix'})"


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
    skipped = json.dumps([listing.skipped.counts, listing.skipped.first, listing.lost]).encode()
    row = row.replace_schema_metadata({b"vitrail": _FORMAT, b"skipped": skipped})
    with atomic_path(memory) as temporary, pa.ipc.new_file(str(temporary), row.schema) as writer:
        writer.write_batch(row)


def _one_row(values: pa.Array) -> pa.LargeListArray:
    return pa.LargeListArray.from_arrays(pa.array([0, len(values)], type=pa.int64()), values)


def _recall(root: Path, memory: Path) -> Listing | None:
    """The remembered listing, or None where there is none, it cannot be read, or a folder has changed since."""
    try:
        with pa.memory_map(str(memory)) as file:
            opened = pa.ipc.open_file(file)
            about = opened.schema.metadata or {}
            if about.get(b"vitrail") != _FORMAT or opened.num_record_batches != 1:
                return None
            skipped = Skipped()
            skipped.counts, skipped.first, lost = json.loads(about[b"skipped"])
            row = opened.get_batch(0)
            row.validate(full=True)
            names, classes, counts, folders, times = (
                row[c][0].values for c in ("names", "classes", "counts", "folders", "times")
            )
        for folder, ns in zip(folders.to_pylist(), times.to_pylist(), strict=True):
            if os.stat(os.path.join(os.fsencode(root), folder)).st_mtime_ns != ns:  # noqa: PTH116
                return None
    except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError):
        return None
    return Listing(tuple(c.decode() for c in classes.to_pylist()), counts.to_numpy(), names, skipped, tuple(lost))
