"""Sources of images: `len()`, `classes`, `labels`, and `[i]` -> Example. Random access, picklable, nothing decoded."""

import os
import stat
from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from vitrail.core.object_store import is_remote, local
from vitrail.data.decode import image
from vitrail.data.decode.image import Pixels
from vitrail.data.sources.skipped import Skipped


class Example(NamedTuple):
    """One image as it is stored: encoded bytes, or pixels [H, W, 3]; its class; and the name people know it by."""

    image: bytes | Pixels
    label: int
    key: str


class Source(ABC):
    """A set of labelled images. `classes[label]` is a name; `labels` is int64 [len]."""

    classes: tuple[str, ...]
    labels: np.ndarray
    several: bool = False  # whether an image may have several right labels
    skipped: Skipped | None = None  # what was left out when the source was opened

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def __getitem__(self, index: int) -> Example:
        """The example; raises BrokenImage when its file cannot be read."""

    def valid_labels(self, key: str) -> tuple[int, ...]:
        """All labels that are right for the image of that name; only where there are `several`."""
        raise ValueError(f"each image of a {type(self).__name__} has one right label")


class ArraySource(Source):
    """Pixels in memory: uint8 [N, H, W, 3]."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], keys: list[str]):
        self.images, self.labels, self.classes, self.keys = images, labels.astype(np.int64), classes, keys

    def __getitem__(self, index: int) -> Example:
        return Example(self.images[index], int(self.labels[index]), self.keys[index])


class FileSource(Source):
    """Images that are files: `names` below `root`, a folder or the address of one in an object store.

    `names` is an Arrow array of bytes: a name need not be UTF-8, and worker processes share it. A list of strings they
    would copy, page by page, as they count references in it.
    """

    def __init__(self, root: str, names: pa.LargeBinaryArray, labels: np.ndarray, classes: tuple[str, ...]):
        self.root, self.names, self.classes = root, names, classes
        self.labels = np.asarray(labels, dtype=np.int64)

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
            return Example(image.read(path), int(self.labels[index]), key)
        except (OSError, ValueError) as problem:  # ValueError: a zero in the name
            raise image.BrokenImage(getattr(problem, "strerror", None) or str(problem), key) from None


def binary(names: list[bytes]) -> pa.LargeBinaryArray:
    """File names as FileSource holds them."""
    return pa.array(names, type=pa.large_binary())
