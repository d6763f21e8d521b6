"""Labels for files, folders and patterns, to the terminal or to a table."""

import csv
import glob
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrail.core.device import Machine
from vitrail.core.errors import BadInput
from vitrail.core.files import atomic_path
from vitrail.data.image import SUFFIXES
from vitrail.serve.predictor import Prediction, Predictor


@dataclass(frozen=True)
class Predict:
    """What to label."""

    model: str
    paths: tuple[str, ...]
    top: int = 5
    resolution: int | None = None


def predict(config: Predict, machine: Machine | None = None) -> Iterator[Prediction]:
    """One prediction an image, in the order of the paths; a folder stands for all images in it, however deep.

    Raises:
        BadInput: a path that is not there, or a folder without images.
    """
    predictor = Predictor(config.model, (machine or Machine()).device, config.resolution)
    files = [file for path in config.paths for file in _files(path)]
    yield from predictor.stream(files, top=config.top)


def _files(text: str) -> list[Path]:
    path = Path(text)
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not found:
            raise BadInput(f"{path} holds no images")
        return found
    if path.exists():
        return [path]
    matches = [Path(m) for m in sorted(glob.glob(text, recursive=True))]  # noqa: PTH207 - absolute patterns too
    if not matches:
        raise BadInput(f"no such image: {text!r}")
    return [m for m in matches if m.is_file()]


def as_row(prediction: Prediction) -> dict[str, Any]:
    """One row of a table or of JSON."""
    labels = [{"name": label.name, "probability": label.probability} for label in prediction.labels]
    return {"path": prediction.key, "labels": labels, "error": prediction.error}


def write_table(rows: list[dict[str, Any]], path: Path) -> None:
    """Writes rows as .jsonl, .csv or .parquet, by the suffix; raises BadInput for another."""
    if path.suffix not in (".jsonl", ".csv", ".parquet"):
        raise BadInput(f"--out {path}: expected a name that ends in .jsonl, .csv or .parquet")
    flat = [
        {
            "path": row["path"],
            "label": row["labels"][0]["name"] if row["labels"] else None,
            "probability": row["labels"][0]["probability"] if row["labels"] else None,
            "labels": [label["name"] for label in row["labels"]],
            "probabilities": [label["probability"] for label in row["labels"]],
            "error": row["error"],
        }
        for row in rows
    ]
    with atomic_path(path) as temporary:
        if path.suffix == ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as parquet

            parquet.write_table(pa.Table.from_pylist(flat), temporary)
        elif path.suffix == ".csv":
            with open(temporary, "w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, ["path", "label", "probability", "error"], extrasaction="ignore")
                writer.writeheader()
                writer.writerows(flat)
        else:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in flat), encoding="utf-8")
