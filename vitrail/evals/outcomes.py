"""What a classifier made of each image: kept with an evaluation, so that two of them can be compared image by image."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float32, Int64, UInt64

from vitrail.core.errors import BadInput
from vitrail.core.files import atomic_path

FILE = "predictions.parquet"
FORMAT = 1


@dataclass(frozen=True)
class Outcomes:
    """A row an image, in the order of their keys."""

    keys: list[str]
    labels: Int64[np.ndarray, " n"]
    predicted: Int64[np.ndarray, " n"]
    confidence: Float32[np.ndarray, " n"]  # of the predicted class
    loss: Float32[np.ndarray, " n"]  # cross-entropy, in nats
    top5: Bool[np.ndarray, " n"] | None = None  # whether the label is among the five likeliest; None below 6 classes
    calibrated: Float32[np.ndarray, " n"] | None = None  # the confidence with a temperature
    calibrated_loss: Float32[np.ndarray, " n"] | None = None
    digest: UInt64[np.ndarray, " n"] | None = None  # of the pixels that the model saw; not stored

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def right(self) -> Bool[np.ndarray, " n"]:
        """Whether the predicted class was the true one."""
        return self.predicted == self.labels


def numbered(keys: Iterable[str]) -> list[tuple[str, int]]:
    """Each key with how many equal ones were before it: a set may hold a file twice."""
    seen: Counter[str] = Counter()
    found = []
    for key in keys:
        found.append((key, seen[key]))
        seen[key] += 1
    return found


class Stored(NamedTuple):
    """Outcomes that were read from a folder, and of what they are."""

    outcomes: Outcomes
    classes: tuple[str, ...]
    model: str
    data: str
    several: bool  # images have several right labels; the one that the model found likeliest is its label


def write_outcomes(folder: Path, stored: Stored) -> None:
    """Writes predictions.parquet (docs/files.md)."""
    rows = stored.outcomes
    about = {"format": FORMAT, "model": stored.model, "data": stored.data, "several": stored.several}
    columns: dict[str, Any] = {
        "key": rows.keys,
        "label": _named(rows.labels, stored.classes),
        "predicted": _named(rows.predicted, stored.classes),
        "confidence": rows.confidence,
        "loss": rows.loss,
    }
    optional = {"top5": rows.top5, "calibrated": rows.calibrated, "calibrated_loss": rows.calibrated_loss}
    columns |= {name: values for name, values in optional.items() if values is not None}
    said = json.dumps({**about, "classes": list(stored.classes)})
    table = pa.table(columns).replace_schema_metadata({"vitrail": said})
    with atomic_path(folder / FILE) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def _named(labels: np.ndarray, classes: tuple[str, ...]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(labels, pa.int32()), pa.array(classes, pa.string()))


def is_evaluation(place: str | Path) -> bool:
    """Whether a folder holds stored outcomes."""
    return (Path(place) / FILE).is_file()


def read_outcomes(folder: str | Path) -> Stored:
    """What `write_outcomes` wrote.

    Raises:
        BadInput: no such file, a damaged one, or one of another version.
    """
    file = Path(folder) / FILE
    try:
        table = pq.read_table(file)
        about = json.loads((table.schema.metadata or {})[b"vitrail"])
        if about["format"] != FORMAT:
            raise BadInput(f"{file} is of format {about['format']}; this vitrail reads format {FORMAT}")
        classes = tuple(about["classes"])
        place = {name: i for i, name in enumerate(classes)}
        labels, predicted = (
            np.array([place[name] for name in table[column].to_pylist()], np.int64) for column in ("label", "predicted")
        )
        optional: dict[str, Any] = {
            name: table[name].to_numpy() if name in table.column_names else None
            for name in ("top5", "calibrated", "calibrated_loss")
        }
        sure, loss = (table[name].to_numpy().astype(np.float32) for name in ("confidence", "loss"))
        rows = Outcomes(table["key"].to_pylist(), labels, predicted, sure, loss, **optional)
        return Stored(rows, classes, about["model"], about["data"], about["several"])
    except FileNotFoundError:
        raise BadInput(f"{file} does not exist: `vitrail evaluate --out` writes it") from None
    except (OSError, KeyError, ValueError, TypeError, pa.ArrowException) as problem:
        if isinstance(problem, BadInput):
            raise
        raise BadInput(f"{file} cannot be read: {problem}") from None
