"""A classifier on labelled images: accuracy with its interval, loss, per class, confusion, calibration, mistakes."""

import heapq
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from vitrail.core.errors import BadInput
from vitrail.core.files import atomic_path, write_json
from vitrail.data.batches import Broken
from vitrail.data.sources import Source
from vitrail.data.views import Preprocess
from vitrail.evals.calibration import calibration
from vitrail.evals.forward import forward
from vitrail.evals.intervals import wilson
from vitrail.models.build import Model

MISTAKES = 24  # how many are kept with their images


@dataclass(frozen=True)
class Evaluation:
    """What was measured. `confusion` int64 [K, K]: row true class, column predicted; `images` of the mistakes."""

    classes: tuple[str, ...]
    confusion: np.ndarray
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
        return int(self.confusion.sum())

    @property
    def correct(self) -> int:
        """Of these, how many were right."""
        return int(np.trace(self.confusion))

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
        per_class = [_class_row(name, self.confusion[i], i) for i, name in enumerate(self.classes)]
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
            "confusion": self.confusion.tolist(),
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


def _class_row(name: str, predictions: np.ndarray, label: int) -> dict[str, Any]:
    count, correct = int(predictions.sum()), int(predictions[label])
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
) -> Evaluation:
    """Judges `model` on every readable image of `source`; labels are the places of the model's classes."""
    started = time.perf_counter()
    classes, broken = source.classes, Broken(len(source))
    if model.config.num_classes != len(classes):
        raise BadInput(f"the model has {model.config.num_classes} classes, the data have {len(classes)}")
    confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
    total, in_top5 = 0.0, 0
    confidences, rights = [], []
    worst: list[tuple[float, int, dict[str, Any], np.ndarray]] = []
    for batch, logits, _ in forward(
        model, source, preprocess, broken=broken, dtype=dtype, workers=workers, title=title
    ):
        total += float(F.cross_entropy(logits, batch.labels, reduction="sum"))
        confidence, predicted = logits.softmax(dim=-1).max(dim=-1)
        right = predicted == batch.labels
        np.add.at(confusion, (batch.labels.numpy(), predicted.numpy()), 1)
        if len(classes) > 5:
            in_top5 += int((logits.topk(5).indices == batch.labels[:, None]).any(dim=-1).sum())
        confidences.append(confidence.numpy())
        rights.append(right.numpy())
        for i in torch.nonzero(~right).flatten().tolist():
            row = {
                "key": batch.keys[i],
                "label": classes[int(batch.labels[i])],
                "predicted": classes[int(predicted[i])],
                "confidence": float(confidence[i]),
            }
            # the counter breaks ties, so that images are never compared
            entry = (row["confidence"], -len(confidences) * len(right) - i, row, batch.images[i].numpy())
            keep = heapq.heappush if len(worst) < MISTAKES else heapq.heappushpop
            keep(worst, entry)
    count = int(confusion.sum())
    worst.sort(key=lambda entry: entry[:2], reverse=True)
    images = [image.transpose(1, 2, 0) for _, _, _, image in worst]
    return Evaluation(
        classes=classes,
        confusion=confusion,
        loss=total / count,
        top5=in_top5 / count if len(classes) > 5 else None,
        calibration=calibration(np.concatenate(confidences), np.concatenate(rights)),
        mistakes=[row for _, _, row, _ in worst],
        images=np.stack(images) if images else np.zeros((0, *preprocess.resolution, 3), np.uint8),
        broken=broken,
        seconds=time.perf_counter() - started,
    )
