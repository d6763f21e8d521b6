"""A classifier on labelled images: accuracy with its interval, loss, per class, confusion, calibration, mistakes."""

import io
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vitrail.core import dist
from vitrail.core.errors import BadInput
from vitrail.core.files import atomic_path, write_json
from vitrail.data.batches import Batch, Broken
from vitrail.data.sources import Source
from vitrail.data.views import Preprocess
from vitrail.evals.calibration import calibration
from vitrail.evals.forward import forward
from vitrail.evals.intervals import wilson
from vitrail.models.build import Model

MISTAKES = 24  # how many are kept with their images
DENSE = 1000  # classes up to which there is a confusion matrix: that of 21,843 would take 4 GB


@dataclass(frozen=True)
class Evaluation:
    """What was measured; `images` of the mistakes.

    counts, rights: int64 [K], images of each true class, and how many of them were recognised
    confusion: int64 [K, K], row true class, column predicted; None above DENSE classes
    """

    classes: tuple[str, ...]
    counts: np.ndarray
    rights: np.ndarray
    confusion: np.ndarray | None
    loss: float
    top5: float | None
    calibration: dict[str, Any]
    mistakes: list[dict[str, Any]]
    images: np.ndarray
    broken: Broken
    seconds: float

    @property
    def count(self) -> int:
        """Images that were judged."""
        return int(self.counts.sum())

    @property
    def correct(self) -> int:
        """Of these, how many were right."""
        return int(self.rights.sum())

    @property
    def accuracy(self) -> float:
        """Top-1."""
        return self.correct / self.count

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, Wilson."""
        return wilson(self.correct, self.count)

    def as_json(self, data: str, model: str) -> dict[str, Any]:
        """For evaluation.json (docs/files.md)."""
        counted = zip(self.classes, self.counts.tolist(), self.rights.tolist(), strict=True)
        per_class = [_class_row(*row) for row in counted]
        shares = [row["accuracy"] for row in per_class if row["accuracy"] is not None]
        return {
            "data": data,
            "model": model,
            "count": self.count,
            "correct": self.correct,
            "accuracy": self.accuracy,
            "interval": list(self.interval),
            "top5": self.top5,
            "loss": self.loss,
            "balanced_accuracy": float(np.mean(shares)),
            "classes": list(self.classes),
            "confusion": None if self.confusion is None else self.confusion.tolist(),
            "per_class": per_class,
            "calibration": self.calibration,
            "mistakes": self.mistakes,
            "broken": self.broken.rows(),
            "seconds": self.seconds,
            "images_per_second": self.count / self.seconds,
        }

    def write(self, folder: Path, data: str, model: str) -> dict[str, Any]:
        """Writes evaluation.json and mistakes.npz, and returns the former."""
        summary = self.as_json(data, model)
        with atomic_path(folder / "mistakes.npz") as temporary:
            np.savez_compressed(temporary, images=self.images)
        write_json(folder / "evaluation.json", summary)
        return summary


def _class_row(name: str, count: int, correct: int) -> dict[str, Any]:
    share = correct / count if count else None
    return {"name": name, "count": count, "correct": correct, "accuracy": share, "interval": wilson(correct, count)}


def evaluate(
    model: Model,
    source: Source,
    preprocess: Preprocess,
    *,
    dtype: torch.dtype | None = None,
    workers: int | None = None,
    title: str = "evaluating",
    together: bool = False,
) -> Evaluation:
    """Judges `model` on every readable image of `source`; labels are the places of the model's classes.

    `together`: the processes of the run share the images, and all get the whole result.
    """
    started = time.perf_counter()
    classes, broken = source.classes, Broken(len(source))
    if model.config.num_classes != len(classes):
        raise BadInput(f"the model has {model.config.num_classes} classes, the data have {len(classes)}")
    tally = _Tally(classes)
    for batch, logits, _ in forward(
        model, source, preprocess, broken=broken, dtype=dtype, workers=workers, title=title, together=together
    ):
        tally.add(_likeliest(batch, logits, source) if source.several else batch, logits)
    if together and dist.world().size > 1:
        tally = _Tally.merged([_Tally.unpack(part, classes) for part in dist.gathered(tally.pack())])
        for found in dist.gathered_json(broken.found):
            broken.add(list(found.items()))
    if not tally.counts.any():
        raise BadInput("not one image can be read: " + "; ".join(f"{k}: {r}" for k, r in broken.found.items()))
    count = int(tally.counts.sum())
    worst = sorted(tally.worst, key=_severity, reverse=True)[:MISTAKES]
    images = [wrong.image.transpose(1, 2, 0) for wrong in worst]
    return Evaluation(
        classes=classes,
        counts=tally.counts,
        rights=tally.rights,
        confusion=tally.confusion,
        loss=tally.loss / count,
        top5=tally.in_top5 / count if len(classes) > 5 else None,
        calibration=calibration(np.concatenate(tally.confidences), np.concatenate(tally.sure)),
        mistakes=[wrong.row for wrong in worst],
        images=np.stack(images) if images else np.zeros((0, *preprocess.resolution, 3), np.uint8),
        broken=broken,
        seconds=time.perf_counter() - started,
    )


def _likeliest(batch: Batch, logits: Tensor, source: Source) -> Batch:
    """Of several right labels the one that the model finds likeliest: it is right where it names any of them."""
    labels = [max(source.right(key), key=row.tolist().__getitem__) for key, row in zip(batch.keys, logits, strict=True)]
    return batch._replace(labels=torch.tensor(labels, dtype=torch.int64))


class _Wrong(NamedTuple):
    """An image that was not recognised: uint8 [3, H, W]."""

    row: dict[str, Any]
    image: np.ndarray


def _severity(wrong: _Wrong) -> tuple[float, str]:
    """The most confident first; the name breaks ties, the same for any number of processes."""
    return wrong.row["confidence"], wrong.row["key"]


class _Tally:
    """Sums over images."""

    def __init__(self, classes: tuple[str, ...]):
        self.classes = classes
        many = len(classes) > DENSE
        self.confusion = None if many else np.zeros((len(classes), len(classes)), dtype=np.int64)
        self.counts, self.rights = (np.zeros(len(classes), dtype=np.int64) for _ in range(2))
        self.loss, self.in_top5 = 0.0, 0
        self.confidences: list[np.ndarray] = []
        self.sure: list[np.ndarray] = []  # whether each confident answer was right
        self.worst: list[_Wrong] = []

    def add(self, batch: Batch, logits: Tensor) -> None:
        """A batch and its logits [B, K], both on the CPU."""
        self.loss += float(F.cross_entropy(logits, batch.labels, reduction="sum"))
        confidence, predicted = logits.softmax(dim=-1).max(dim=-1)
        right = predicted == batch.labels
        truth = batch.labels.numpy()
        np.add.at(self.counts, truth, 1)
        np.add.at(self.rights, truth[right.numpy()], 1)
        if self.confusion is not None:
            np.add.at(self.confusion, (truth, predicted.numpy()), 1)
        if len(self.classes) > 5:
            self.in_top5 += int((logits.topk(5).indices == batch.labels[:, None]).any(dim=-1).sum())
        self.confidences.append(confidence.numpy())
        self.sure.append(right.numpy())
        wrong = torch.nonzero(~right).flatten()
        for i in wrong[confidence[wrong].argsort(descending=True)][:MISTAKES].tolist():
            row = {
                "key": batch.keys[i],
                "label": self.classes[int(batch.labels[i])],
                "predicted": self.classes[int(predicted[i])],
                "confidence": float(confidence[i]),
            }
            self.worst.append(_Wrong(row, batch.images[i].numpy().copy()))
        self.worst = sorted(self.worst, key=_severity, reverse=True)[:MISTAKES]

    def pack(self) -> bytes:
        """For another process; no pickle."""
        numbers = {"loss": self.loss, "in_top5": self.in_top5, "rows": [wrong.row for wrong in self.worst]}
        buffer = io.BytesIO()
        np.savez(
            buffer,
            confusion=np.zeros(0) if self.confusion is None else self.confusion,
            counts=self.counts,
            rights=self.rights,
            confidences=np.concatenate([np.zeros(0, np.float32), *self.confidences]),
            sure=np.concatenate([np.zeros(0, bool), *self.sure]),
            images=np.stack([wrong.image for wrong in self.worst]) if self.worst else np.zeros(0),
            numbers=np.frombuffer(json.dumps(numbers).encode(), np.uint8),
        )
        return buffer.getvalue()

    @staticmethod
    def unpack(data: bytes, classes: tuple[str, ...]) -> "_Tally":
        """The inverse of `pack`."""
        tally = _Tally(classes)
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            numbers = json.loads(arrays["numbers"].tobytes())
            tally.loss, tally.in_top5 = numbers["loss"], numbers["in_top5"]
            tally.counts, tally.rights = arrays["counts"], arrays["rights"]
            if tally.confusion is not None:
                tally.confusion = arrays["confusion"]
            tally.confidences, tally.sure = [arrays["confidences"]], [arrays["sure"]]
            tally.worst = [_Wrong(row, image) for row, image in zip(numbers["rows"], arrays["images"], strict=True)]
        return tally

    @staticmethod
    def merged(tallies: list["_Tally"]) -> "_Tally":
        """The sum of all."""
        whole = _Tally(tallies[0].classes)
        for tally in tallies:
            whole.counts += tally.counts
            whole.rights += tally.rights
            if whole.confusion is not None and tally.confusion is not None:
                whole.confusion += tally.confusion
            whole.loss += tally.loss
            whole.in_top5 += tally.in_top5
            whole.confidences += tally.confidences
            whole.sure += tally.sure
            whole.worst += tally.worst
        return whole
