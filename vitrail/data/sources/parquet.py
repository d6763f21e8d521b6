"""Parquet files in Hugging Face's image layout: `image{bytes, path}` and `label`, names in the schema's metadata."""

import json
from bisect import bisect_right
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as compute
import pyarrow.parquet as parquet

from vitrail.core.errors import BadInput, Unreachable
from vitrail.core.object_store import local
from vitrail.core.progress import say
from vitrail.data.decode import image
from vitrail.data.sources.base import Example, Source, add_files_to
from vitrail.data.sources.class_names import class_indices
from vitrail.data.sources.label_sets import multi_hot

IMAGE = ("image", "img")
LABEL = ("label", "labels", "fine_label", "class")
LARGEST_GROUP = 4 << 30  # bytes of a row group, which is read whole


class ParquetSource(Source):
    """Labels are read at once, images by row group when first asked for; `budget` bytes of them are kept.

    Where it need not be `labelled`, labels are zeros and there are no classes, whatever the files hold.
    """

    budget = 2 << 30

    def __init__(self, files: list[Path] | list[str], labelled: bool = True):
        self.files = [str(f) for f in files]
        first = self.files[0]
        schema = read_schema(first)
        self.image_column = _column(schema, IMAGE, first)
        self.label_column = _column(schema, LABEL, first) if labelled else None
        labels, groups, start = [], [], 0
        for number, file in enumerate(self.files):
            opened = open_parquet(file, fresh=True)
            for name in (self.image_column, self.label_column):
                if name is not None and name not in opened.schema_arrow.names:
                    raise BadInput(f"{file} has no column {name!r}, unlike {first}")
            _check_types(opened.schema_arrow, self.image_column, self.label_column, file)
            if self.label_column is not None:
                labels.append(_labels(opened, self.label_column, file))
            for group in range(opened.num_row_groups):
                facts = opened.metadata.row_group(group)
                if facts.total_byte_size > LARGEST_GROUP:
                    raise BadInput(
                        f"{file}: row group {group} has {facts.total_byte_size / 2**30:.0f} GiB; write it again with "
                        "fewer rows a group, such as 100"
                    )
                groups.append((start, number, group))
                start += facts.num_rows
        if not start:
            raise BadInput(f"{Path(first).parent} holds parquet files without a row")
        self.labels, self.classes = np.broadcast_to(np.int64(0), start), ()
        if self.label_column is not None:
            self.labels, self.classes = _classes(schema, self.label_column, pa.concat_arrays(labels), first)
        self._starts = [g[0] for g in groups]
        self._groups = [(number, group) for _, number, group in groups]
        self._names = [Path(file).name for file in self.files]
        self._cache: OrderedDict[int, tuple[_Values, _Values | None]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": OrderedDict()}

    def _group(self, which: int) -> tuple["_Values", "_Values | None"]:
        """The bytes and the paths of a row group; raises BrokenImage when they cannot be read."""
        if (known := self._cache.get(which)) is not None:
            self._cache.move_to_end(which)
            return known
        number, group = self._groups[which]
        try:
            opened = _opened(local(self.files[number]))
            column = opened.read_row_group(group, columns=[self.image_column])[0]
            column.validate(full=True)
        except (OSError, pa.ArrowException, BadInput) as problem:  # BadInput: the store cannot be opened any more
            name = f"{self._names[number]}, row group {group}"
            raise image.BrokenImage(f"unreadable: {_line(problem)}", name) from None
        struct = pa.types.is_struct(column.type)
        data = _Values(compute.struct_field(column, "bytes") if struct else column)
        named = struct and "path" in {f.name for f in column.type}
        paths = _Values(compute.struct_field(column, "path")) if named else None
        self._cache[which] = (data, paths)
        while len(self._cache) > 1 and sum(c[0].nbytes for c in self._cache.values()) > self.budget:
            self._cache.popitem(last=False)
        return data, paths

    def __getitem__(self, index: int) -> Example:
        index = int(index)
        which = bisect_right(self._starts, index) - 1
        row = index - self._starts[which]
        key = f"{self._names[self._groups[which][0]]}:{index}"
        try:
            images, paths = self._group(which)
        except image.BrokenImage as problem:
            raise image.BrokenImage(str(problem), key) from None
        if row >= len(images):
            raise image.BrokenImage("the row group has fewer rows than the file says", key)
        data, path = images[row], paths[row] if paths is not None else None
        if path:
            key += f":{path.decode() if isinstance(path, bytes) else path}"
        if not isinstance(data, bytes):
            raise image.BrokenImage("no image bytes", key)
        return Example(data, self.label(index), key)

    def add_images_to(self, digest: Any) -> None:
        """Names and stamps of the files."""
        add_files_to(digest, self.files)


class _Values:
    """[row] -> the bytes of a value, or None: taken from Arrow's buffers, in a tenth of the time of its scalars.

    Texts come as bytes in UTF-8. Of other types (a column of nulls, a dictionary) it is Arrow's own value.
    """

    def __init__(self, column: pa.ChunkedArray):
        self.nbytes: int = column.nbytes
        self._length = len(column)
        self._chunks = [_Chunk(chunk) if _is_bytes(column.type) else chunk.to_pylist() for chunk in column.chunks]
        self._starts = [0]
        for chunk in self._chunks[:-1]:
            self._starts.append(self._starts[-1] + len(chunk))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, row: int) -> Any:
        if len(self._chunks) == 1:
            return self._chunks[0][row]
        which = bisect_right(self._starts, row) - 1
        return self._chunks[which][row - self._starts[which]]


class _Chunk:
    """One piece of such a column."""

    def __init__(self, values: pa.Array):
        _, offsets, data = values.buffers()
        wide = pa.types.is_large_binary(values.type) or pa.types.is_large_string(values.type)
        every = np.frombuffer(offsets, np.int64 if wide else np.int32) if len(values) else np.zeros(1, np.int32)
        self._offsets = every[values.offset : values.offset + len(values) + 1]
        self._data = memoryview(data if data is not None else b"")
        self._present = values.is_valid().to_numpy(zero_copy_only=False) if values.null_count else None

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, row: int) -> bytes | None:
        if self._present is not None and not self._present[row]:
            return None
        item = self._offsets.item
        return bytes(self._data[item(row) : item(row + 1)])


def _is_bytes(kind: pa.DataType) -> bool:
    checks = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_string, pa.types.is_large_string)
    return any(check(kind) for check in checks)


def _opened(path: Path) -> parquet.ParquetFile:
    return parquet.ParquetFile(path.absolute(), memory_map=True)  # the relative `a:b/c.parquet` would be an address


def open_parquet(file: str, fresh: bool = False) -> parquet.ParquetFile:
    """Opens a parquet file, local or remote; raises BadInput when it is none."""
    try:
        opened = _opened(local(file, fresh))
        _ = opened.schema_arrow.names  # fails where a name is no UTF-8
        return opened
    except Unreachable:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as problem:
        raise BadInput(f"{file} is not a readable parquet file: {_line(problem)}") from None


def read_schema(file: str) -> pa.Schema:
    """The columns of a parquet file."""
    return open_parquet(file, fresh=True).schema_arrow


def has_images(schema: pa.Schema) -> bool:
    """Whether the images themselves are in the file, and not only their paths."""
    return any(_holds_images(schema.field(i).type) for i in range(len(schema)))


def _line(problem: Exception) -> str:
    return (str(problem).split("\n")[0] or type(problem).__name__)[:300]


def _column(schema: pa.Schema, names: tuple[str, ...], file: str) -> str:
    """The column of a known name, or else the only one that could be it, which is said."""
    for name in names:
        if schema.names.count(name) == 1:
            return name
    images = names == IMAGE
    fitting = [name for name in schema.names if _holds_images(schema.field(name).type) == images]
    if not images:
        fitting = [name for name in fitting if name in _features(schema)] or fitting
    if len(fitting) != 1 or schema.names.count(fitting[0]) != 1:
        raise BadInput(f"{file} has the columns {', '.join(schema.names)}; expected one named {' or '.join(names[:2])}")
    say(f"{file}: the {'image' if images else 'label'} is taken from the column {fitting[0]!r}, the only one that fits")
    return fitting[0]


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _features(schema: pa.Schema) -> dict[str, Any]:
    """The columns that the metadata of the `datasets` library call class labels."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        # of lists: {"feature": {"names": …}, "_type": "Sequence"}, in older files [{"names": …}]
        inner = {
            n: about[0] if isinstance(about, list) else about.get("feature", about) for n, about in features.items()
        }
        return {name: about for name, about in inner.items() if "names" in about}
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return {}


def _check_types(schema: pa.Schema, image_column: str, label_column: str | None, file: str) -> None:
    kind = schema.field(image_column).type
    if pa.types.is_struct(kind):
        places = [i for i in range(kind.num_fields) if kind.field(i).name == "bytes"]
        inner = kind.field(places[0]).type if len(places) == 1 else None
    else:
        inner = kind
    if inner is None or not (pa.types.is_binary(inner) or pa.types.is_large_binary(inner)):
        raise BadInput(f"{file}: column {image_column!r} is {kind}, expected bytes, or a struct with a field 'bytes'")
    if label_column is None:
        return
    kind = schema.field(label_column).type
    value = kind.value_type if pa.types.is_dictionary(kind) or pa.types.is_list(kind) else kind
    if not (pa.types.is_integer(value) or pa.types.is_string(value) or pa.types.is_large_string(value)):
        raise BadInput(f"{file}: column {label_column!r} is {kind}, expected whole numbers or texts")


def _labels(opened: parquet.ParquetFile, column: str, file: str) -> pa.Array:
    """The labels of a file, int64 or texts, or lists of them."""
    try:
        labels = opened.read(columns=[column])[0]
    except (pa.ArrowException, OSError) as problem:
        raise BadInput(f"{file}: column {column!r} cannot be read: {_line(problem)}") from None
    if len(labels) != opened.metadata.num_rows:
        raise BadInput(
            f"{file} says {opened.metadata.num_rows:,} rows, and its labels are {len(labels):,}: it is damaged"
        )
    if pa.types.is_list(labels.type):
        kind = pa.int64() if pa.types.is_integer(labels.type.value_type) else pa.large_string()
        labels = labels.cast(pa.large_list(kind))
    if labels.null_count:
        raise BadInput(f"{file}: {labels.null_count:,} rows of column {column!r} are empty")
    if pa.types.is_dictionary(labels.type):
        labels = labels.cast(labels.type.value_type)
    if not pa.types.is_large_list(labels.type):
        labels = labels.cast(pa.int64() if pa.types.is_integer(labels.type) else pa.large_string())
    return pa.concat_arrays(labels.chunks) if labels.num_chunks else pa.array([], type=labels.type)


def _classes(schema: pa.Schema, column: str, labels: pa.Array, file: str) -> tuple[np.ndarray, tuple[str, ...]]:
    if isinstance(labels, pa.LargeListArray):
        one_each = compute.all(compute.equal(compute.list_value_length(labels), 1)).as_py()
        flat, classes = _classes(schema, column, labels.flatten(), file)
        return (flat if one_each else multi_hot(labels, flat, len(classes), file)), classes
    if not len(labels):
        raise BadInput(f"{file}: column {column!r} holds no label")
    if pa.types.is_integer(labels.type):
        numbers = labels.to_numpy().astype(np.int64)
        return numbers, _class_names(schema, column, numbers)
    named = _features(schema).get(column)
    return class_indices(labels, tuple(named["names"]) if named else None, file)


def _class_names(schema: pa.Schema, column: str, labels: np.ndarray) -> tuple[str, ...]:
    """The names in the metadata that the `datasets` library writes, else the numbers."""
    count = int(labels.max()) + 1
    if int(labels.min()) < 0:
        raise BadInput(f"column {column!r} holds negative labels (unlabelled rows?); expected 0 to classes - 1")
    try:
        names = _features(schema)[column]["names"]
        if isinstance(names, dict):  # as some versions of `datasets` write them
            names = [names[str(i)] for i in range(len(names))]
        names = list(names)
    except (KeyError, TypeError, ValueError):
        if count > 10 * len(labels) + 100_000:  # a name for each would fill the memory
            raise BadInput(f"column {column!r} holds the label {count - 1:,}, with {len(labels):,} rows") from None
        names = [str(i) for i in range(count)]
    if len(names) < count:
        raise BadInput(f"column {column!r} holds label {count - 1}, but the schema names {len(names)} classes")
    return tuple(str(name) for name in names)
