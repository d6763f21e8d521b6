"""Sources of images: `len()`, `classes`, `labels`, and `[i]` -> Example. Random access, picklable, nothing decoded."""

import json
from abc import ABC, abstractmethod
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as compute
import pyarrow.parquet as parquet

from vitrail.core.errors import BadInput
from vitrail.data import image
from vitrail.data.image import Pixels


class Example(NamedTuple):
    """One image as it is stored: encoded bytes, or pixels [H, W, 3]; its class; and the name people know it by."""

    image: bytes | Pixels
    label: int
    key: str


class Source(ABC):
    """A set of labelled images. `classes[label]` is a name; `labels` is int64 [len]."""

    classes: tuple[str, ...]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def __getitem__(self, index: int) -> Example:
        """The example; raises BrokenImage when its file cannot be read."""


class ArraySource(Source):
    """Pixels in memory: uint8 [N, H, W, 3]."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], keys: list[str]):
        self.images, self.labels, self.classes, self.keys = images, labels.astype(np.int64), classes, keys

    def __getitem__(self, index: int) -> Example:
        return Example(self.images[index], int(self.labels[index]), self.keys[index])


class FolderSource(Source):
    """`root/class/file`: the classes are the folders in alphabetical order, the files may lie deeper."""

    def __init__(self, root: Path, classes: tuple[str, ...] | None = None):
        self.root = root
        folders = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
        if not folders:
            raise BadInput(f"{root} has no sub-folders; expected one folder of images for each class")
        self.classes = classes or tuple(folders)
        self.paths: list[str] = []
        labels = []
        for label, name in enumerate(self.classes):
            inside = sorted(p.relative_to(root) for p in (root / name).rglob("*") if p.suffix.lower() in image.SUFFIXES)
            files = [str(p) for p in inside if not any(part.startswith(".") for part in p.parts)]
            self.paths += files
            labels += [label] * len(files)
        self.labels = np.array(labels, dtype=np.int64)
        if not self.paths:
            suffixes = ", ".join(sorted(image.SUFFIXES))
            raise BadInput(f"{root} holds no images in its {len(folders)} sub-folders (looked for {suffixes})")

    def __getitem__(self, index: int) -> Example:
        path = self.root / self.paths[index]
        return Example(image.read(path), int(self.labels[index]), str(path))


class ParquetSource(Source):
    """Parquet files in Hugging Face's image layout: `image{bytes, path}` and `label`, names in the schema's metadata.

    Labels are read at once, images by row group when first asked for; `budget` bytes of them are kept.
    """

    budget = 2 << 30

    def __init__(self, files: list[Path]):
        self.files = [str(f) for f in files]
        schema = _schema(files[0])
        self.image_column = _column(schema, ("image", "img"), files[0])
        self.label_column = _column(schema, ("label", "labels", "fine_label"), files[0])
        labels, groups, start = [], [], 0
        for number, file in enumerate(files):
            opened = _open(file)
            for name in (self.image_column, self.label_column):
                if name not in opened.schema_arrow.names:
                    raise BadInput(f"{file} has no column {name!r}, unlike {files[0]}")
            labels.append(opened.read(columns=[self.label_column])[0].to_numpy())
            for group in range(opened.num_row_groups):
                groups.append((start, number, group))
                start += opened.metadata.row_group(group).num_rows
        self.labels = np.concatenate(labels)
        if not len(self.labels):
            raise BadInput(f"{files[0].parent} holds parquet files without a row")
        if not np.issubdtype(self.labels.dtype, np.integer):
            raise BadInput(f"{files[0]}: column {self.label_column!r} is {self.labels.dtype}, expected whole numbers")
        self.labels = self.labels.astype(np.int64)
        self.classes = _class_names(schema, self.label_column, self.labels)
        self._starts = np.array([g[0] for g in groups])
        self._groups = [(number, group) for _, number, group in groups]
        self._names = [file.name for file in files]
        self._cache: OrderedDict[int, tuple[pa.ChunkedArray, pa.ChunkedArray | None]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": OrderedDict()}

    def _group(self, which: int) -> tuple[pa.ChunkedArray, pa.ChunkedArray | None]:
        """The bytes and the paths of a row group."""
        if which in self._cache:
            self._cache.move_to_end(which)
            return self._cache[which]
        number, group = self._groups[which]
        column = _open(Path(self.files[number])).read_row_group(group, columns=[self.image_column])[0]
        names = {field.name for field in column.type} if pa.types.is_struct(column.type) else set()
        data = compute.struct_field(column, "bytes") if "bytes" in names else column
        paths = compute.struct_field(column, "path") if "path" in names else None
        self._cache[which] = (data, paths)
        while len(self._cache) > 1 and sum(c[0].nbytes for c in self._cache.values()) > self.budget:
            self._cache.popitem(last=False)
        return data, paths

    def __getitem__(self, index: int) -> Example:
        which = int(np.searchsorted(self._starts, index, side="right")) - 1
        row = index - int(self._starts[which])
        images, paths = self._group(which)
        data, path = images[row].as_py(), paths[row].as_py() if paths is not None else None
        key = f"{self._names[self._groups[which][0]]}:{index}" + (f":{path}" if path else "")
        if not isinstance(data, bytes):
            raise image.BrokenImage("no image bytes", key)
        return Example(data, int(self.labels[index]), key)


def _open(file: Path) -> parquet.ParquetFile:
    try:
        return parquet.ParquetFile(file, memory_map=True)
    except (pa.ArrowInvalid, OSError) as problem:
        raise BadInput(f"{file} is not a readable parquet file: {problem}") from None


def _schema(file: Path) -> pa.Schema:
    return _open(file).schema_arrow


def _column(schema: pa.Schema, names: tuple[str, ...], file: Path) -> str:
    for name in names:
        if name in schema.names:
            return name
    raise BadInput(f"{file} has the columns {', '.join(schema.names)}; expected one named {' or '.join(names)}")


def _class_names(schema: pa.Schema, column: str, labels: np.ndarray) -> tuple[str, ...]:
    """The names in the metadata that the `datasets` library writes, else the numbers."""
    count = int(labels.max()) + 1
    if int(labels.min()) < 0:
        raise BadInput(f"column {column!r} holds negative labels (unlabelled rows?); expected 0 to classes - 1")
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[column]["names"]
    except (KeyError, TypeError, ValueError):
        names = [str(i) for i in range(count)]
    if len(names) < count:
        raise BadInput(f"column {column!r} holds label {count - 1}, but the schema names {len(names)} classes")
    return tuple(str(name) for name in names)
