"""Predictions for each image, stored with an evaluation, so that two can be compared image by image."""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Bool, Float32, Int64, UInt64
from torch import Tensor
from torch.nn import functional as F

from vitrail.core.errors import BadInput
from vitrail.core.files import atomic_path
from vitrail.data.loader.batch import Batch
from vitrail.records.images import Mistake
from vitrail.records.record import as_json

FILE = "predictions.parquet"
FORMAT = 1


@dataclass(frozen=True)
class Predictions:
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
    indices: Int64[np.ndarray, " n"] | None = None  # of the examples in their source; not stored

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def correct(self) -> Bool[np.ndarray, " n"]:
        """bool [N]: the predicted class is the true one."""
        return self.predicted == self.labels


def occurrences(keys: Iterable[str]) -> list[tuple[str, int]]:
    """Pairs each key with the number of equal keys before it: a set may hold a file twice."""
    counts: Counter[str] = Counter()
    numbered = []
    for key in keys:
        numbered.append((key, counts[key]))
        counts[key] += 1
    return numbered


class StoredPredictions(NamedTuple):
    """Predictions that were read from a folder, and of what they are."""

    outcomes: Predictions
    classes: tuple[str, ...]
    model: str
    data: str
    several: bool  # images have several right labels; the one that the model found likeliest is its label


def write_predictions(folder: Path, stored: StoredPredictions) -> None:
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
    metadata = json.dumps({**about, "classes": list(stored.classes)})
    table = pa.table(columns).replace_schema_metadata({"vitrail": metadata})
    with atomic_path(folder / FILE) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def _named(labels: np.ndarray, classes: tuple[str, ...]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(labels, pa.int32()), pa.array(classes, pa.string()))


def is_evaluation(place: str | Path) -> bool:
    """True where a folder holds stored predictions."""
    return (Path(place) / FILE).is_file()


def read_predictions(folder: str | Path) -> StoredPredictions:
    """Reads the file that `write_predictions` wrote.

    Raises:
        BadInput: no such file, a damaged one, or one of another version.
    """
    file = Path(folder) / FILE
    try:
        table = pq.read_table(file.absolute())  # `lr:0.1/...` would be an address
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
        rows = Predictions(table["key"].to_pylist(), labels, predicted, sure, loss, **optional)
        return StoredPredictions(rows, classes, about["model"], about["data"], about["several"])
    except FileNotFoundError:
        raise BadInput(f"{file} does not exist: `vitrail evaluate --out` writes it") from None
    except (OSError, KeyError, ValueError, TypeError, pa.ArrowException) as problem:
        if isinstance(problem, BadInput):
            raise
        raise BadInput(f"{file} cannot be read: {problem}") from None


MISTAKES = 24  # how many are kept with their images


class Wrong(NamedTuple):
    """An image that was not recognised: uint8 [3, H, W]."""

    row: Mistake
    image: np.ndarray


class PredictionCollector:
    """Collects a row an image, batch by batch; `temperature` adds calibrated columns, `digests` one of the pixels."""

    def __init__(self, classes: tuple[str, ...], *, temperature: float | None = None, digests: bool = False):
        self.classes, self.temperature, self.digests = classes, temperature, digests
        self.keys: list[str] = []
        self.columns: dict[str, list[np.ndarray]] = {}
        self.worst: list[Wrong] = []

    def add(self, batch: Batch, logits: Tensor) -> None:
        """A batch and its logits [B, K], both on the CPU."""
        confidence, predicted = logits.softmax(dim=-1).max(dim=-1)
        self.keys += batch.keys
        columns = {
            "labels": batch.labels,
            "predicted": predicted,
            "confidence": confidence,
            "loss": F.cross_entropy(logits, batch.labels, reduction="none"),
            "indices": batch.indices,
        }
        if len(self.classes) > 5:
            columns["top5"] = (logits.topk(5).indices == batch.labels[:, None]).any(dim=-1)
        if self.temperature is not None:
            scaled = logits / self.temperature
            columns["calibrated"] = scaled.softmax(dim=-1).amax(dim=-1)
            columns["calibrated_loss"] = F.cross_entropy(scaled, batch.labels, reduction="none")
        for name, values in columns.items():
            self.columns.setdefault(name, []).append(values.numpy())
        if self.digests:
            self.columns.setdefault("digest", []).append(pixel_digests(batch.images))
        wrong = torch.nonzero(predicted != batch.labels).flatten()
        for i in wrong[confidence[wrong].argsort(descending=True)][:MISTAKES].tolist():
            row = Mistake(
                key=batch.keys[i],
                label=self.classes[int(batch.labels[i])],
                predicted=self.classes[int(predicted[i])],
                confidence=float(confidence[i]),
            )
            self.worst.append(Wrong(row, batch.images[i].numpy().copy()))
        self._keep_the_worst()

    def outcomes(self) -> Predictions:
        """All rows in the order of their keys, the same for any number of processes."""
        order = np.argsort(np.array(self.keys, dtype=object), kind="stable")
        columns = {name: np.concatenate(parts)[order] for name, parts in self.columns.items()}
        return Predictions([self.keys[i] for i in order.tolist()], **columns)

    def join(self, data: bytes) -> None:
        """Adds what another process packed."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            texts = json.loads(arrays["texts"].tobytes())
            self.keys += texts["keys"]
            for name in texts["columns"]:
                self.columns.setdefault(name, []).append(arrays[name])
            self.worst += [
                Wrong(Mistake(**row), image) for row, image in zip(texts["rows"], arrays["images"], strict=True)
            ]
        self._keep_the_worst()

    def pack(self) -> bytes:
        """Encodes the predictions for another process, without pickle."""
        texts = {"keys": self.keys, "columns": list(self.columns), "rows": [as_json(wrong.row) for wrong in self.worst]}
        columns: dict[str, Any] = {name: np.concatenate(parts) for name, parts in self.columns.items()}
        images = np.stack([wrong.image for wrong in self.worst]) if self.worst else np.zeros(0)
        buffer = io.BytesIO()
        np.savez(buffer, texts=np.frombuffer(json.dumps(texts).encode(), np.uint8), images=images, **columns)
        return buffer.getvalue()

    def _keep_the_worst(self) -> None:
        """The most confident first; the name breaks ties."""
        severity = sorted(self.worst, key=lambda wrong: (wrong.row.confidence, wrong.row.key), reverse=True)
        self.worst = severity[:MISTAKES]


def pixel_digests(images: Tensor) -> np.ndarray:
    """uint64 [B]: of the pixels of each image; equal ones are, in practice, one picture."""
    hashed = (hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=8).digest() for image in images.numpy())
    return np.array([int.from_bytes(digest) for digest in hashed], np.uint64)
