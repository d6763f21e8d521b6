"""Manifests: a CSV or parquet file with a row for each image: its path, its label, and perhaps its split."""

import csv as plain_csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as compute
import pyarrow.csv as csv

from vitrail.core.errors import BadInput, nearest
from vitrail.core.object_store import local
from vitrail.data.sources.base import FileSource
from vitrail.data.sources.class_names import class_indices
from vitrail.data.sources.parquet import open_parquet
from vitrail.data.sources.skipped import NAMED, Skipped

PATH = ("path", "file", "image", "file_name", "filename")
LABEL = ("label", "class")
SPLIT = ("split",)
SUFFIXES = (".csv", ".tsv")
_BLOCK = 4 << 20  # bytes of a CSV that are parsed at once; a row must fit
_HEADER = 1 << 16


class Manifest:
    """The rows of a manifest. Paths are absolute, or relative to the folder of the manifest.

    Labels are names, or whole numbers, which then name the classes. `splits` is empty where there is no such column.

    Raises:
        BadInput: missing or mistyped columns, or rows that cannot be used: each kind counted, the first of each named.
    """

    def __init__(self, file: str):
        self.file = file
        self.skipped = Skipped()
        self.paths, self.labels, self._split = (_read_parquet if file.endswith(".parquet") else _read_csv)(
            file, self.skipped
        )
        misshapen = len(self.skipped)
        if not len(self.paths) and not misshapen:
            raise BadInput(f"{file} has no rows")
        empty = compute.equal(compute.binary_length(self.paths), 0).to_numpy(zero_copy_only=False)
        _refuse_rows(self.skipped, "without a path", empty)
        if len(self.skipped):
            rows = len(self.paths) + misshapen
            raise BadInput(f"{file} has {len(self.skipped):,} bad rows of {rows:,}: {self.skipped}")
        self.splits: tuple[str, ...] = ()
        if self._split is not None:
            self.splits = tuple(sorted(str(name) for name in compute.unique(self._split).to_pylist()))

    def open(self, split: str | None = None) -> FileSource:
        """The images of a split, or all. The rows of `train`, where there are any, say which classes there are."""
        chosen = self._where(split)
        labels = self._texts(chosen)
        classes = None
        if split is not None:
            _, classes = class_indices(
                self._texts(self._where("train" if "train" in self.splits else None)), None, self.file
            )
            for name in compute.unique(labels).to_pylist():
                if name not in classes:
                    raise BadInput(f"{self.file} has the class {name!r}, which train lacks{nearest(name, classes)}")
            place = pa.array(classes, type=pa.large_string())
            numbers = compute.index_in(labels, place).to_numpy(zero_copy_only=False)
        else:
            numbers, classes = class_indices(labels, None, self.file)
        root = self.file.rpartition("/")[0] or ("." if "/" not in self.file else "/")
        return FileSource(root, self.paths if chosen is None else self.paths.filter(chosen), numbers, classes)

    def _where(self, split: str | None) -> pa.BooleanArray | None:
        return None if split is None or self._split is None else compute.equal(self._split, split)

    def _texts(self, chosen: pa.BooleanArray | None) -> pa.LargeStringArray:
        labels = self.labels if chosen is None else self.labels.filter(chosen)
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


Columns = tuple[pa.LargeBinaryArray, pa.LargeStringArray, pa.LargeStringArray | None]


def _read_csv(file: str, refused: Skipped) -> Columns:
    try:
        path = local(file, fresh=True)
        names, delimiter = _header(path, file)
        columns = [_column(names, PATH, file), _column(names, LABEL, file), *(n for n in SPLIT if n in names)]

        misshapen: dict[int, int] = {}

        def skip(row: csv.InvalidRow) -> str:
            found = row.actual_columns
            misshapen[found] = misshapen.get(found, 0) + 1
            if misshapen[found] <= NAMED:  # there may be millions
                refused.add(_columns_of(found, names), f"line {row.number}: {row.text[:60]!r}")
            return "skip"

        read = csv.ReadOptions(use_threads=False, block_size=_BLOCK)
        parse = csv.ParseOptions(delimiter=delimiter, invalid_row_handler=skip)
        convert = csv.ConvertOptions(
            column_types={name: pa.binary() for name in names}, include_columns=columns, strings_can_be_null=False
        )
        table = csv.read_csv(path, read, parse, convert)  # open_csv calls `skip` from another thread: ten times as slow
        for found, count in misshapen.items():
            refused.add(_columns_of(found, names), "", max(0, count - NAMED))
    except pa.ArrowInvalid as problem:
        raise BadInput(f"{file} cannot be read as a CSV: {str(problem).split(chr(10))[0][:300]}") from None
    except OSError as problem:
        raise BadInput(f"{file} cannot be read: {problem.strerror or problem}") from None
    return _columns(table, file)


def _columns_of(found: int, names: list[str]) -> str:
    return f"with {found} columns instead of {len(names)}"


def _header(path: Path, file: str) -> tuple[list[str], str]:
    """The names of the columns, and what separates them."""
    with open(path, "rb") as opened:
        line = opened.readline(_HEADER)
    try:
        text = line.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise BadInput(f"{file} is no text in UTF-8") from None
    if len(line) == _HEADER:
        raise BadInput(f"{file} has a first line of more than {_HEADER:,} bytes; expected the names of the columns")
    if text and len(line) == path.stat().st_size:
        raise BadInput(f"{file} has no rows")
    if not text:
        raise BadInput(f"{file} is empty; expected a header such as path,label and a row for each image")
    for delimiter in ("\t",) if file.endswith(".tsv") else (",", ";", "\t"):
        names = _cells(text, delimiter, file)
        if any(name in names for name in PATH):
            return names, delimiter
    return _cells(text, ",", file), ","


def _cells(line: str, delimiter: str, file: str) -> list[str]:
    try:
        return next(plain_csv.reader([line], delimiter=delimiter))
    except plain_csv.Error as problem:
        raise BadInput(f"{file}: the first line cannot be read: {problem}") from None


def _column(names: list[str], wanted: tuple[str, ...], file: str) -> str:
    found = [name for name in wanted if name in names]
    if not found:
        shown = ", ".join(names)
        shown = shown if len(shown) <= 200 else shown[:200] + " …"
        raise BadInput(
            f"{file} has the columns {shown}; expected one named {' or '.join(wanted)} (the first line names them)"
        )
    if names.count(found[0]) > 1:
        raise BadInput(f"{file} has {names.count(found[0])} columns named {found[0]!r}")
    return found[0]


def _read_parquet(file: str, refused: Skipped) -> Columns:
    opened = open_parquet(file, fresh=True)
    names = opened.schema_arrow.names
    columns = [_column(names, PATH, file), _column(names, LABEL, file), *(n for n in SPLIT if n in names)]
    try:
        table = opened.read(columns=columns)
    except (pa.ArrowException, OSError) as problem:
        raise BadInput(f"{file} cannot be read: {str(problem).split(chr(10))[0][:300]}") from None
    for name in columns:
        kind = table[name].type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        texts = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        if not texts and not (pa.types.is_integer(kind) and name in LABEL):
            expected = "texts or whole numbers" if name in LABEL else "texts"
            raise BadInput(f"{file}: column {name!r} is {kind}, expected {expected}")
    return _columns(table.select(columns), file)


def _columns(table: pa.Table, file: str) -> Columns:
    """Path, label and split as FileSource and `class_indices` take them; nulls become empty texts."""
    paths = _one(compute.fill_null(_texts(table.column(0), file, "paths", binary=True), b""))
    rest = [_one(compute.fill_null(_texts(column, file, "labels"), "")) for column in table.columns[1:]]
    return paths, rest[0], rest[1] if len(rest) > 1 else None


def _texts(column: pa.ChunkedArray, file: str, what: str, binary: bool = False) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if binary:
        return column.cast(pa.large_binary())
    try:
        return compute.utf8_trim_whitespace(column.cast(pa.large_string()))
    except pa.ArrowInvalid:
        raise BadInput(f"{file}: {what} are no text in UTF-8") from None


def _one(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], type=column.type)
