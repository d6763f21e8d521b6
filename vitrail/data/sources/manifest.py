"""Manifests: a table (CSV, JSON lines, parquet) with a row for each image: its name, its label, perhaps its split."""

import csv as plain_csv
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as compute
import pyarrow.csv as csv
import pyarrow.json as json_lines

from vitrail.core.errors import BadInput, Unreachable
from vitrail.core.object_store import local
from vitrail.core.progress import say
from vitrail.data.sources.base import FileSource
from vitrail.data.sources.class_names import class_indices, labels_of
from vitrail.data.sources.columns import Columns, find_columns, split_words
from vitrail.data.sources.image_names import ImageNames
from vitrail.data.sources.label_sets import from_columns, label_sets, multi_hot
from vitrail.data.sources.parquet import open_parquet
from vitrail.data.sources.skipped import NAMED, Skipped
from vitrail.data.sources.split_names import meaning

SUFFIXES = (".csv", ".tsv", ".jsonl")
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")  # of the Hugging Face hub, beside the images
_BLOCK = 4 << 20  # bytes of a CSV that are parsed at once; a row must fit
_HEADER = 1 << 16
_SAMPLED = 5  # rows that tell which column is which


class Manifest:
    """The rows of a manifest. Paths are absolute, or relative to the folder of the manifest.

    Labels are names, or whole numbers, which then name the classes; or several of them (label_sets.py). `splits` is
    empty where there is no such column.

    Raises:
        BadInput: missing or mistyped columns, or rows that cannot be used: each kind counted, the first of each named.
    """

    def __init__(self, file: str):
        self.file = file
        self.skipped = Skipped()
        read = {".parquet": _read_parquet, ".jsonl": _read_json}.get(Path(file).suffix.lower(), _read_csv)
        self.paths, self.labels, self._split = read(file, ImageNames(file), self.skipped)
        misshapen = len(self.skipped)
        if not len(self.paths) and not misshapen:
            raise BadInput(f"{file} has no rows")
        empty = compute.equal(compute.binary_length(self.paths), 0).to_numpy(zero_copy_only=False)
        _refuse_rows(self.skipped, "without a path", empty)
        if self._split is not None:
            _refuse_rows(self.skipped, "without a split", compute.equal(self._split, "").to_numpy(zero_copy_only=False))
        if len(self.skipped):
            rows = len(self.paths) + misshapen
            raise BadInput(f"{file} has {len(self.skipped):,} bad rows of {rows:,}: {self.skipped}")
        if not self.multi_label:
            self.labels = sets if (sets := label_sets(self.labels, file)) is not None else self.labels
        self.splits: tuple[str, ...] = ()
        if self._split is not None:
            self.splits = tuple(sorted(str(name) for name in compute.unique(self._split).to_pylist()))

    @property
    def multi_label(self) -> bool:
        """Whether a row names several classes."""
        return isinstance(self.labels, pa.LargeListArray)

    def classes(self) -> tuple[str, ...]:
        """The classes of the rows of `train`, where there are any, else of all."""
        train = next((split for split in self.splits if meaning(split) == "train"), None)
        return class_indices(_flat(self._texts(self._where(train))), None, self.file)[1]

    def open(self, split: str | None = None, classes: tuple[str, ...] | None = None) -> FileSource:
        """The images of a split, or all; `classes` are those of the training data, where another file has them."""
        chosen = self._where(split)
        sets = self._texts(chosen)
        labels = _flat(sets)
        if split is not None or classes is not None:
            numbers = labels_of(labels, classes or self.classes(), self.file)
            classes = classes or self.classes()
        else:
            numbers, classes = class_indices(labels, None, self.file)
        if self.multi_label:
            numbers = multi_hot(sets, numbers, len(classes), self.file)
        root = self.file.rpartition("/")[0] or ("." if "/" not in self.file else "/")
        return FileSource(root, self.paths if chosen is None else self.paths.filter(chosen), numbers, classes)

    def _where(self, split: str | None) -> pa.BooleanArray | None:
        return None if split is None or self._split is None else compute.equal(self._split, split)

    def _texts(self, chosen: pa.BooleanArray | None) -> "_Labels":
        labels = self.labels if chosen is None else self.labels.filter(chosen)
        if self.multi_label:
            return labels  # an image may have no class
        refused = Skipped()
        rows = None if chosen is None else np.flatnonzero(chosen.to_numpy(zero_copy_only=False))
        _refuse_rows(refused, "without a label", compute.equal(labels, "").to_numpy(zero_copy_only=False), rows)
        if len(refused):
            raise BadInput(f"{self.file} has {len(refused):,} bad rows of {len(labels):,}: {refused}")
        return labels


def _refuse_rows(refused: Skipped, reason: str, bad: np.ndarray, rows: np.ndarray | None = None) -> None:
    found = np.flatnonzero(bad)
    for i, row in enumerate(found[:4]):
        refused.add(reason, f"row {(row if rows is None else rows[row]) + 1}", len(found) - 3 if i == 3 else 1)


def _flat(labels: "_Labels") -> pa.LargeStringArray:
    return labels.flatten() if isinstance(labels, pa.LargeListArray) else labels


_Labels: TypeAlias = Any  # pa.LargeStringArray, or Sets
_Read = tuple[pa.LargeBinaryArray, _Labels, pa.LargeStringArray | None]


def _read_csv(file: str, images: ImageNames, refused: Skipped) -> _Read:
    try:
        path = local(file, fresh=True)
        names, delimiter, sample, opened = _header(path, file)
        headless = any(map(images.exists, names))
        if headless:
            sample = [names, *sample]
            names = [f"column {i + 1}" for i in range(len(names))]
            say(f"{file} has no header: its first line names an image")
        rows = [dict(zip(names, row, strict=True)) for row in sample if len(row) == len(names)]
        found = find_columns(names, rows, images.exists, file)
        columns = [found.path, *found.labels, *([found.split] if found.split else [])]
        misshapen: dict[int, int] = {}

        def skip(row: csv.InvalidRow) -> str:
            count = row.actual_columns
            misshapen[count] = misshapen.get(count, 0) + 1
            if misshapen[count] <= NAMED:  # there may be millions
                refused.add(_columns_of(count, names), f"line {row.number}: {row.text[:60]!r}")
            return "skip"

        read = csv.ReadOptions(use_threads=False, block_size=_BLOCK, column_names=names if headless else None)
        parse = csv.ParseOptions(delimiter=delimiter, invalid_row_handler=skip)
        convert = csv.ConvertOptions(
            column_types={name: pa.binary() for name in names}, include_columns=columns, strings_can_be_null=False
        )
        with _quiet_about(skip):
            table = csv.read_csv(opened, read, parse, convert)  # open_csv calls `skip` from a thread: 10 times slower
        for count, rows_of_it in misshapen.items():
            refused.add(_columns_of(count, names), "", max(0, rows_of_it - NAMED))
    except pa.ArrowInvalid as problem:
        raise BadInput(f"{file} cannot be read as a CSV: {str(problem).split(chr(10))[0][:300]}") from None
    except Unreachable:
        raise
    except OSError as problem:
        raise BadInput(f"{file} cannot be read: {problem.strerror or problem}") from None
    return _columns(table, found, images, file)


@contextmanager
def _quiet_about(skip: Callable[..., str]) -> Iterator[None]:
    """pyarrow decodes a bad row before it asks `skip`; of one that is no UTF-8 it prints a traceback, and ends."""
    before = sys.unraisablehook

    def hook(about: "sys.UnraisableHookArgs") -> None:
        if about.object is not skip or not isinstance(about.exc_value, UnicodeDecodeError):
            before(about)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def _columns_of(found: int, names: list[str]) -> str:
    return f"with {found} columns instead of {len(names)}"


def _header(path: Path, file: str) -> tuple[list[str], str, list[list[str]], Any]:
    """The names of the columns, what separates them, the first rows, and what the rest is to be read from."""
    with open(path, "rb") as opened:
        line = opened.readline(_HEADER)
        sample = [opened.readline(_HEADER) for _ in range(_SAMPLED)]
    content: Any = path
    if line.startswith((b"\xff\xfe", b"\xfe\xff")) or (b"\r" in line[:-2] and not sample[0]):
        content = _from_utf16(path, file) if line[:1] in b"\xff\xfe" else path.read_bytes().replace(b"\r", b"\n")
        line, *sample = content.splitlines(keepends=True)[: 1 + _SAMPLED] or [b""]
        content = pa.BufferReader(content)
    try:
        text = line.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise BadInput(f"{file} is no text in UTF-8") from None
    if len(line) == _HEADER:
        raise BadInput(f"{file} has a first line of more than {_HEADER:,} bytes; expected the names of the columns")
    if not text:
        raise BadInput(f"{file} is empty; expected a header such as path,label and a row for each image")
    if not any(sample):
        raise BadInput(f"{file} has no rows")
    delimiters = ("\t",) if file.endswith(".tsv") else (",", ";", "\t", "|")
    delimiter = max(delimiters, key=lambda mark: len(_cells(text, mark, file)))  # the first of equal ones
    rows = [row.decode("utf-8", "replace").rstrip("\r\n") for row in sample]
    return (
        _cells(text, delimiter, file),
        delimiter,
        [_cells(row, delimiter, file) for row in rows if row and len(row) < _HEADER - 1],
        content,
    )


def _from_utf16(path: Path, file: str) -> bytes:
    try:
        return path.read_bytes().decode("utf-16").encode()
    except UnicodeDecodeError:
        raise BadInput(f"{file} is no text in UTF-8, nor in UTF-16") from None


def _cells(line: str, delimiter: str, file: str) -> list[str]:
    try:
        return next(plain_csv.reader([line], delimiter=delimiter))
    except (plain_csv.Error, StopIteration) as problem:
        raise BadInput(f"{file}: the first line cannot be read: {problem}") from None


def _read_json(file: str, images: ImageNames, refused: Skipped) -> _Read:
    try:
        table = json_lines.read_json(local(file, fresh=True))
    except (pa.ArrowException, OSError) as problem:
        raise BadInput(f"{file} cannot be read as JSON lines: {str(problem).split(chr(10))[0][:300]}") from None
    return _of_table(table, file, images)


def _read_parquet(file: str, images: ImageNames, refused: Skipped) -> _Read:
    try:
        table = open_parquet(file, fresh=True).read()
    except (pa.ArrowException, OSError) as problem:
        raise BadInput(f"{file} cannot be read: {str(problem).split(chr(10))[0][:300]}") from None
    return _of_table(table, file, images)


def _of_table(table: pa.Table, file: str, images: ImageNames) -> _Read:
    names = table.column_names
    rows = [{name: str(value) for name, value in row.items()} for row in table.slice(0, _SAMPLED).to_pylist()]
    found = find_columns(names, rows, images.exists, file)
    for name in (found.path, *found.labels, *([found.split] if found.split else [])):
        kind = table[name].type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        label = name in found.labels
        if label and is_list(kind):
            kind = kind.value_type
        texts = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        if not texts and label and pa.types.is_floating(kind) and len(found.labels) == 1:
            raise BadInput(
                f"{file}: column {name!r} holds amounts, which are not predicted (regression); expected texts or whole "
                "numbers, such as the number of a range"
            )
        if not texts and not (pa.types.is_integer(kind) and label) and len(found.labels) == 1:
            raise BadInput(
                f"{file}: column {name!r} is {kind}, expected {'texts or whole numbers' if label else 'texts'}"
            )
    return _columns(table, found, images, file)


def _columns(table: pa.Table, found: Columns, images: ImageNames, file: str) -> _Read:
    """Path, label and split as FileSource and `class_indices` take them; nulls become empty texts."""
    paths = _one(compute.fill_null(_texts(table[found.path], file, "paths", binary=True), b""))
    if len(found.labels) == 1 and is_list(table[found.labels[0]].type):
        labels = _from_lists(_one(table[found.labels[0]]))
    elif len(found.labels) == 1:
        labels = _one(compute.fill_null(_texts(table[found.labels[0]], file, "labels"), ""))
    else:
        labels = _from_one_hot(table, found.labels, file)
    split = _one(compute.fill_null(_texts(table[found.split], file, "splits"), "")) if found.split else None
    split = split_words(found.split, split) if found.split and split is not None else None
    return images.resolved(paths), labels, split


def is_list(kind: pa.DataType) -> bool:
    """Whether a column holds lists."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _from_lists(column: pa.ListArray) -> _Labels:
    """Texts or whole numbers; of lists of one each the labels. A list that is missing is empty."""
    sets = compute.fill_null(column, []).cast(pa.large_list(pa.large_string()))
    counts = compute.list_value_length(sets)
    return sets.flatten() if compute.all(compute.equal(counts, 1)).as_py() else sets


def _from_one_hot(table: pa.Table, names: Sequence[str], file: str) -> _Labels:
    """The name of the column that holds a 1, row by row; of rows with several or none, the names of all."""
    try:
        values = np.stack([_texts(table[name], file, name).cast(pa.float64()).to_numpy() for name in names], axis=1)
    except pa.ArrowInvalid as problem:
        raise BadInput(f"{file}: a column for each class, and not all are numbers: {problem}") from None
    if ((values > 0).sum(axis=1) != 1).any():
        return from_columns(values, tuple(names), file)
    return pa.array(np.array(names, dtype=object)[values.argmax(axis=1)], type=pa.large_string())


def _texts(column: pa.ChunkedArray, file: str, what: str, binary: bool = False) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if binary:
        return column.cast(pa.large_binary())
    try:
        return compute.utf8_trim_whitespace(column.cast(pa.large_string()))
    except pa.ArrowInvalid:
        say(f"{file}: {what} are no text in UTF-8 and are read as Windows-1252")
        known = {value: value.decode("cp1252", "replace").strip() for value in compute.unique(column).to_pylist()}
        return pa.chunked_array([[known[value] for value in column.to_pylist()]], type=pa.large_string())


def _one(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], type=column.type)
