"""Sources of images: `len()`, `classes`, `labels`, and `[i]` -> Example. Random access, picklable, nothing decoded."""

import hashlib
import json
import os
import stat
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from vitrail.core.object_store import is_remote, local
from vitrail.data.decode import image
from vitrail.data.decode.image import Pixels
from vitrail.data.sources.skipped import Skipped

Label = Any  # int; or uint8 [K], a one for each class that the image has


class Example(NamedTuple):
    """One image as it is stored: encoded bytes, or pixels [H, W, 3]; its class; and the name people know it by."""

    image: bytes | Pixels
    label: Label
    key: str


class Source(ABC):
    """A set of labelled images. `classes[label]` is a name; `labels` is int64 [len].

    Where an image may have several classes (`multi_label`), `labels` is uint8 [len, classes]: ones and zeros.
    """

    classes: tuple[str, ...]
    labels: np.ndarray
    several: bool = False  # whether an image may have several right labels, of which one is enough
    skipped: Skipped | None = None  # what was left out when the source was opened

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def multi_label(self) -> bool:
        """Whether images have several classes each, or none, all of which are to be found."""
        return self.labels.ndim == 2

    @property
    def counts(self) -> np.ndarray:
        """int64 [classes]: the images of each."""
        if self.multi_label:
            return self.labels.sum(axis=0, dtype=np.int64)
        return np.bincount(self.labels, minlength=len(self.classes))

    def label(self, index: int) -> Label:
        """Of the example at a place."""
        return self.labels[index] if self.multi_label else int(self.labels[index])

    @abstractmethod
    def __getitem__(self, index: int) -> Example:
        """The example; raises BrokenImage when its file cannot be read."""

    def __repr__(self) -> str:
        shown = ", ".join(self.classes[:3]) + (", …" if len(self.classes) > 3 else "")
        return f"{type(self).__name__} of {len(self):,} images, {len(self.classes)} classes ({shown})"

    def valid_labels(self, key: str) -> tuple[int, ...]:
        """All labels that are right for the image of that name; only where there are `several`."""
        raise ValueError(f"each image of a {type(self).__name__} has one right label")

    def base(self) -> "Source":
        """The source of which this one is a subset; itself where it is none."""
        return self

    def content_hash(self) -> str:
        """Which images these are, 64 hexadecimal digits: others when an image, a label or their order changes.

        Cheap for a million images: files are known by name, size and time of change, and are not read. A folder that
        was moved keeps its hash; a copy with new times does not.
        """
        digest = hashlib.sha256()
        add_to(digest, type(self).__name__, list(self.classes), self.labels)
        self.add_images_to(digest)
        return digest.hexdigest()

    def add_images_to(self, digest: Any) -> None:
        """The part of `content_hash` that tells the images: here each is read once, without decoding."""
        for index in range(len(self)):
            try:
                example = self[index]
                add_to(digest, example.image, example.key)
            except image.BrokenImage as problem:
                add_to(digest, "broken", str(problem))


def add_to(digest: Any, *values: Any) -> None:
    """Adds values with their kinds and lengths, so that no two lists of them look alike."""
    for value in values:
        if isinstance(value, np.ndarray):
            digest.update(f"{value.dtype.str} {value.shape} ".encode())
            digest.update(np.ascontiguousarray(value).data)
        elif isinstance(value, bytes):
            digest.update(f"bytes {len(value)} ".encode() + value)
        else:
            digest.update(json.dumps(value).encode() + b"\n")


def stamp(place: str) -> bytes:
    """Size and time of change of a file; of a remote one, of which there may be a new copy, its address and size."""
    try:
        about = Path(local(place) if is_remote(place) else place).stat()
    except (OSError, ValueError) as problem:
        return f"{type(problem).__name__}\0".encode()
    return f"{place if is_remote(place) else about.st_mtime_ns} {about.st_size}\0".encode()


def add_files_to(digest: Any, files: list[str]) -> None:
    """Files that hold many images, by their names and stamps."""
    for file in files:
        add_to(digest, Path(file).name)
        digest.update(stamp(file))


def as_labels(labels: np.ndarray) -> np.ndarray:
    """Labels as a source holds them: int64 [N], or uint8 [N, K] of zeros and ones."""
    return np.asarray(labels, dtype=np.uint8 if np.ndim(labels) == 2 else np.int64)


class ArraySource(Source):
    """Pixels in memory: uint8 [N, H, W, 3]."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], keys: list[str]):
        self.images, self.labels, self.classes, self.keys = images, as_labels(labels), classes, keys

    def __getitem__(self, index: int) -> Example:
        return Example(self.images[index], self.label(index), self.keys[index])

    def add_images_to(self, digest: Any) -> None:
        """Pixels and names."""
        add_to(digest, self.images, self.keys)


class FileSource(Source):
    """Images that are files: `names` below `root`, a folder or the address of one in an object store.

    `names` is an Arrow array of bytes: a name need not be UTF-8, and worker processes share it. A list of strings they
    would copy, page by page, as they count references in it.
    """

    def __init__(self, root: str, names: pa.LargeBinaryArray, labels: np.ndarray, classes: tuple[str, ...]):
        self.root, self.names, self.classes = root, names, classes
        self.labels = as_labels(labels)

    def place(self, index: int) -> str:
        """Where the file lies: a path, or an address."""
        name = os.fsdecode(self.names[int(index)].as_py())
        if is_remote(name):
            return name
        return f"{self.root}/{name}" if is_remote(self.root) else os.path.join(self.root, name)

    def __getitem__(self, index: int) -> Example:
        place = self.place(index)
        key = os.fsencode(place).decode("utf-8", "backslashreplace")  # it must fit into JSON
        try:
            path = local(place)
            if not stat.S_ISREG(path.stat().st_mode):  # a pipe or a device might never end
                raise image.BrokenImage("not a regular file", key)
            return Example(image.read(path), self.label(index), key)
        except (OSError, ValueError) as problem:  # ValueError: a zero in the name
            raise image.BrokenImage(getattr(problem, "strerror", None) or str(problem), key) from None

    def add_images_to(self, digest: Any) -> None:
        """Names and stamps of the files."""
        for index, name in enumerate(self.names):
            digest.update(name.as_py() + b"\0" + stamp(self.place(index)))


def binary(names: list[bytes]) -> pa.LargeBinaryArray:
    """File names as FileSource holds them."""
    return pa.array(names, type=pa.large_binary())
