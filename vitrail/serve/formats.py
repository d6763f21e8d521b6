"""Predictions as the rows of a file: JSON lines, CSV, parquet. docs/predict.md says what a row holds."""

import csv
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from vitrail.core.errors import BadInput
from vitrail.serve.predictor import PredictionBatch

JOINT = "|"  # as a manifest names several classes
GROUP_ROWS, GROUP_BYTES = 16_384, 64 << 20  # of a row group of parquet, at most


@dataclass(frozen=True)
class Columns:
    """The columns of a row besides its path and its error.

    classes: names; none for a model without a classifier
    top: labels, the most likely first; every: the probabilities of all classes; features: how many numbers, 0 for none
    multi_label: a row has the labels that are answered, however many; `top` is the number of classes
    """

    classes: tuple[str, ...]
    top: int
    every: bool = False
    features: int = 0
    multi_label: bool = False

    @property
    def labels(self) -> int:
        """The number of labels in a row."""
        return min(self.top, len(self.classes))

    @property
    def bytes(self) -> int:
        """The approximate size of a row in memory."""
        return 200 + 12 * self.labels + 4 * (self.every * len(self.classes) + self.features)


class Form(NamedTuple):
    """A file format: rows are written to several files, which are joined without holding more than a few rows."""

    write: Callable[[Columns, Sequence[PredictionBatch], Path], None]
    join: Callable[[Columns, Sequence[Path], Path], None]


def form_of(out: Path, columns: Columns) -> Form:
    """The file format by the ending of the name; raises BadInput for one that is unknown or cannot hold the columns."""
    if out.suffix not in FORMS:
        raise BadInput(f"--out {out}: expected a name that ends in {', '.join(FORMS)}")
    if out.suffix == ".csv" and columns.features:
        raise BadInput(f"--out {out}: a CSV file holds no --features; expected a name that ends in .parquet or .jsonl")
    return FORMS[out.suffix]


# ---- JSON lines


def _write_lines(columns: Columns, answers: Sequence[PredictionBatch], path: Path) -> None:
    with open(path, "w", encoding="utf-8") as file:
        for some in answers:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in _objects(columns, some))


def _objects(columns: Columns, answers: PredictionBatch) -> Iterator[dict[str, Any]]:
    for i, (key, error) in enumerate(zip(answers.keys, answers.errors, strict=True)):
        row: dict[str, Any] = {"path": key}
        if columns.classes:
            given = answers.answered[i]
            names = [columns.classes[place] for place in answers.best[i][given].tolist()] if error is None else []
            shares = _numbers(answers.shares[i][given]) if error is None else []
            row |= {"label": names[0] if names else None, "probability": shares[0] if shares else None}
            row |= {"labels": names, "probabilities": shares}
        for name, values in (("all_probabilities", answers.probabilities), ("features", answers.features)):
            if values is not None:
                row[name] = _numbers(values[i]) if error is None else None
        yield row | {"error": error}


def _numbers(values: np.ndarray) -> list[float | None]:
    """Replaces numbers that are not finite by None: JSON has none for them."""
    return values.tolist() if np.isfinite(values).all() else [v if np.isfinite(v) else None for v in values.tolist()]


def _join_lines(_: Columns, parts: Sequence[Path], path: Path) -> None:
    with open(path, "wb") as file:
        _append(parts, file)


def _append(parts: Sequence[Path], file: Any) -> None:
    for part in parts:
        with open(part, "rb") as opened:
            shutil.copyfileobj(opened, file)


# ---- CSV: of several labels each has its two columns; those of several classes an image are joined by JOINT


def _write_csv(columns: Columns, answers: Sequence[PredictionBatch], path: Path) -> None:
    width = len(_header(columns)) - 2
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        for some in answers:
            for i, (key, error) in enumerate(zip(some.keys, some.errors, strict=True)):
                writer.writerow([key, *(_cells(columns, some, i) if error is None else [""] * width), error or ""])


def _cells(columns: Columns, answers: PredictionBatch, i: int) -> Iterator[Any]:
    if columns.multi_label:
        given = answers.answered[i]
        yield JOINT.join(columns.classes[place] for place in answers.best[i][given].tolist())
        yield JOINT.join(str(share) for share in answers.shares[i][given].tolist())
    pairs = zip(answers.best[i].tolist(), answers.shares[i].tolist(), strict=True)
    for place, share in () if columns.multi_label else pairs:
        yield columns.classes[place]
        yield share
    if answers.probabilities is not None:
        yield from answers.probabilities[i].tolist()


def _header(columns: Columns) -> list[str]:
    each = 1 if columns.multi_label else columns.labels
    endings = ["", *(f"_{number}" for number in range(2, each + 1))][:each]
    every = [f"probability of {name}" for name in columns.classes] if columns.every else []
    return ["path", *chain(*((f"label{ending}", f"probability{ending}") for ending in endings)), *every, "error"]


def _join_csv(columns: Columns, parts: Sequence[Path], path: Path) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerow(_header(columns))
    with open(path, "ab") as file:
        _append(parts, file)


# ---- parquet


def _write_parquet(columns: Columns, answers: Sequence[PredictionBatch], path: Path) -> None:
    table = pa.concat_tables([_table(columns, some) for some in answers])
    parquet.write_table(table, path, row_group_size=_group(columns))


def _group(columns: Columns) -> int:
    return max(1, min(GROUP_ROWS, GROUP_BYTES // columns.bytes))


def _table(columns: Columns, answers: PredictionBatch) -> pa.Table:
    readable = np.array([error is None for error in answers.errors])
    table: dict[str, pa.Array] = {"path": pa.array(answers.keys, pa.string())}
    if columns.classes:
        names = pa.array(columns.classes, pa.string())
        given = answers.answered & readable[:, None]  # the likeliest first, so that none is answered where it is not
        table["label"] = names.take(pa.array(answers.best[:, 0], mask=~given[:, 0]))
        table["probability"] = pa.array(answers.shares[:, 0], pa.float32(), mask=~given[:, 0])
        lengths = given.sum(axis=1)
        table["labels"] = _lists(names.take(pa.array(answers.best[given])), lengths)
        table["probabilities"] = _lists(pa.array(answers.shares[given]), lengths)
    for name, values in (("all_probabilities", answers.probabilities), ("features", answers.features)):
        if values is not None:
            lengths = readable * values.shape[1]
            table[name] = _lists(pa.array(values[readable].ravel()), lengths, absent=~readable)
    table["error"] = pa.array(answers.errors, pa.string())
    about = {"format": 1, "classes": list(columns.classes)}
    return pa.table(table).replace_schema_metadata({b"vitrail": json.dumps(about).encode()})


def _lists(values: pa.Array, lengths: np.ndarray, absent: np.ndarray | None = None) -> pa.ListArray:
    """One list a row, of so many values; rows that are `absent` have none."""
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    return pa.ListArray.from_arrays(offsets, values, mask=None if absent is None else pa.array(absent))


def _join_parquet(columns: Columns, parts: Sequence[Path], path: Path) -> None:
    """Small row groups become large ones. Names are absolute: pyarrow takes `lr:0.1/part` for an address."""
    most, waiting, rows = _group(columns), [], 0
    with parquet.ParquetWriter(path, parquet.read_schema(parts[0].absolute())) as writer:
        for part in parts:
            with parquet.ParquetFile(part.absolute()) as opened:
                for group in range(opened.num_row_groups):
                    waiting.append(opened.read_row_group(group))
                    rows += len(waiting[-1])
                    if rows >= most:
                        writer.write_table(pa.concat_tables(waiting), row_group_size=most)
                        waiting, rows = [], 0
        if waiting:
            writer.write_table(pa.concat_tables(waiting), row_group_size=most)


FORMS = {
    ".jsonl": Form(_write_lines, _join_lines),
    ".csv": Form(_write_csv, _join_csv),
    ".parquet": Form(_write_parquet, _join_parquet),
}
