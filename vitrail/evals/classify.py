"""A classifier on labelled images: accuracy with its interval, loss, per class, confusion, calibration, mistakes."""

import time
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitrail.core import dist
from vitrail.core.errors import BadInput
from vitrail.core.estimate import Interval, wilson
from vitrail.core.files import atomic_path
from vitrail.data.loader.batch import Batch, Broken, BrokenExample
from vitrail.data.sources.base import Source
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.evals.calibration import calibration
from vitrail.evals.inference import run_inference
from vitrail.evals.intervals import Figure, balanced, bootstrap, mean_of
from vitrail.evals.predictions import MISTAKES, PredictionCollector, Predictions, StoredPredictions, write_predictions
from vitrail.evals.selective import selective
from vitrail.models.build import Model
from vitrail.records.evaluation import ClassAccuracy, EvaluationSummary, Temperature
from vitrail.records.images import Mistake
from vitrail.records.read_run import Columns
from vitrail.records.record import write_record

__all__ = ["DENSE", "MISTAKES", "Evaluation", "as_judged", "evaluate", "figures_of", "judge"]

DENSE = 1000  # classes up to which there is a confusion matrix: that of 21,843 would take 4 GB


@dataclass(frozen=True, repr=False)
class Evaluation:
    """The measured numbers; `images` holds the mistakes."""

    classes: tuple[str, ...]
    outcomes: Predictions
    mistakes: list[Mistake]
    images: np.ndarray
    broken: Broken
    seconds: float
    temperature: float | None = None  # of the calibrated columns of `outcomes`
    thresholds: tuple[float | None, ...] | None = None  # confidences for TARGETS, chosen on other images
    several: bool = False  # images have several right labels

    def __repr__(self) -> str:
        low, high = self.interval
        bounds = f"95 % interval {low:.1%} to {high:.1%}"
        return f"accuracy {self.accuracy:.1%} ({bounds}) of {self.count:,} images, loss {self.loss:.3f} nats"

    def to_pandas(self) -> Any:
        """A pandas.DataFrame with a row an image: key, label, predicted, correct, confidence, loss (nats), top5, ...

        Raises:
            BadInput: pandas is not installed.
        """
        rows = self.outcomes
        names = np.array(self.classes)
        columns = {"key": np.array(rows.keys), "label": names[rows.labels], "predicted": names[rows.predicted]}
        others = {name: getattr(rows, name) for name in ("correct", "confidence", "loss", "top5", "calibrated")}
        return Columns(columns | {name: values for name, values in others.items() if values is not None}).to_pandas()

    @property
    def count(self) -> int:
        """Images that were judged."""
        return len(self.outcomes)

    @property
    def correct(self) -> int:
        """The number of images that were classified correctly."""
        return int(self.outcomes.correct.sum())

    @property
    def accuracy(self) -> float:
        """Top-1."""
        return self.correct / self.count

    @property
    def interval(self) -> Interval:
        """95 %, Wilson."""
        return wilson(self.correct, self.count)

    @property
    def loss(self) -> float:
        """Mean cross-entropy, in nats."""
        return float(self.outcomes.loss.mean(dtype=np.float64))

    @property
    def top5(self) -> float | None:
        """Share of images whose label is among the five likeliest classes; None below 6 classes."""
        return None if self.outcomes.top5 is None else float(self.outcomes.top5.mean())

    @property
    def counts(self) -> np.ndarray:
        """int64 [K]: images of each true class."""
        return np.bincount(self.outcomes.labels, minlength=len(self.classes))

    @property
    def rights(self) -> np.ndarray:
        """int64 [K]: how many of them were recognised."""
        return np.bincount(self.outcomes.labels[self.outcomes.correct], minlength=len(self.classes))

    @cached_property
    def confusion(self) -> np.ndarray | None:
        """int64 [K, K], row true class, column predicted; None above DENSE classes."""
        size = len(self.classes)
        if size > DENSE:
            return None
        cells = self.outcomes.labels * size + self.outcomes.predicted
        return np.bincount(cells, minlength=size * size).reshape(size, size)

    def summary(self, data: str, model: str) -> EvaluationSummary:
        """What evaluation.json holds (docs/files.md)."""
        rows = self.outcomes
        sure = rows.confidence if rows.calibrated is None else rows.calibrated  # as predictions show it
        counted = zip(self.classes, self.counts.tolist(), self.rights.tolist(), strict=True)
        per_class = [_class_accuracy(*row) for row in counted]
        intervals = bootstrap(figures_of(rows), self.count)
        hits = None if rows.top5 is None else int(rows.top5.sum())
        return EvaluationSummary(
            data=data,
            model=model,
            count=self.count,
            correct=self.correct,
            accuracy=self.accuracy,
            interval=self.interval,
            top5=self.top5,
            top5_interval=None if hits is None else wilson(hits, self.count),
            loss=self.loss,
            loss_interval=intervals["loss"],
            balanced_accuracy=float(np.mean([row.accuracy for row in per_class if row.accuracy is not None])),
            balanced_accuracy_interval=intervals["balanced_accuracy"],
            several=self.several,
            classes=self.classes,
            confusion=None if self.confusion is None else self.confusion.tolist(),
            per_class=per_class,
            calibration=calibration(rows.confidence, rows.correct),
            temperature=self._tempered(intervals),
            abstention=selective(sure, rows.correct, self.thresholds),
            mistakes=self.mistakes,
            broken=self.broken.rows(),
            seconds=self.seconds,
            images_per_second=self.count / self.seconds,
        )

    def _tempered(self, intervals: dict[str, Interval]) -> Temperature | None:
        rows = self.outcomes
        if self.temperature is None or rows.calibrated is None or rows.calibrated_loss is None:
            return None
        return Temperature(
            value=self.temperature,
            loss=float(rows.calibrated_loss.mean(dtype=np.float64)),
            loss_interval=intervals["calibrated_loss"],
            calibration=calibration(rows.calibrated, rows.correct),
        )

    def write(self, folder: Path, data: str, model: str, summary: EvaluationSummary | None = None) -> None:
        """Writes evaluation.json, predictions.parquet and mistakes.npz.

        Args:
            summary: `summary`, with what else is to be said.
        """
        write_predictions(folder, StoredPredictions(self.outcomes, self.classes, model, data, self.several))
        with atomic_path(folder / "mistakes.npz") as temporary:
            np.savez_compressed(temporary, images=self.images)
        write_record(folder / "evaluation.json", summary or self.summary(data, model))


def figures_of(rows: Predictions) -> dict[str, Figure]:
    """The figures that get an interval by the bootstrap, by name."""
    figures = {"loss": mean_of(rows.loss), "balanced_accuracy": balanced(rows.labels, rows.correct)}
    if rows.calibrated_loss is not None:
        figures["calibrated_loss"] = mean_of(rows.calibrated_loss)
    return figures


def _class_accuracy(name: str, count: int, correct: int) -> ClassAccuracy:
    share = correct / count if count else None
    return ClassAccuracy(name=name, count=count, correct=correct, accuracy=share, interval=wilson(correct, count))


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
    if model.config.num_classes != len(source.classes):
        raise BadInput(f"the model has {model.config.num_classes} classes, the data have {len(source.classes)}")
    broken = Broken(len(source))
    parts = run_inference(
        model, source, preprocess, broken=broken, dtype=dtype, workers=workers, title=title, together=together
    )
    outputs = ((part.batch, part.logits) for part in parts)
    return judge(outputs, source, broken, preprocess.resolution, together=together)


def judge(
    parts: Iterable[tuple[Batch, Tensor]],
    source: Source,
    broken: Broken,
    resolution: tuple[int, int],
    *,
    temperature: float | None = None,
    thresholds: tuple[float | None, ...] | None = None,
    digests: bool = False,
    together: bool = False,
) -> Evaluation:
    """Judges logits [B, K] of the images of `source`, as they come.

    Args:
        broken: where those who make `parts` count what cannot be read.
        resolution: of the images in `parts`.
        temperature: is applied to the logits for calibrated probabilities, beside those as they are.
        thresholds: confidences from which to answer for each of TARGETS, chosen on other images.
        digests: tell of each image by its pixels, in `outcomes.digest`.

    Raises:
        BadInput: labels that are none of the classes, or not one image that can be read.
    """
    started, classes = time.perf_counter(), source.classes
    if len(source) and not 0 <= source.labels.min() <= source.labels.max() < len(classes):
        found = f"{source.labels.min()} to {source.labels.max()}"
        raise BadInput(
            f"the data have labels from {found}; expected 0 to {len(classes) - 1} for {len(classes)} classes"
        )
    tally = PredictionCollector(classes, temperature=temperature, digests=digests)
    for batch, logits in parts:
        tally.add(as_judged(batch, logits, source), logits)
    if together and dist.world().size > 1:
        packed, tally = dist.gathered(tally.pack()), PredictionCollector(classes)
        for part in packed:
            tally.join(part)
        for found in dist.gathered_json([astuple(one) for one in broken.examples.values()]):
            broken.add(BrokenExample(*row) for row in found)
    if not tally.keys:
        raise BadInput("not one image can be read: " + "; ".join(f"{k}: {r}" for k, r in broken.found.items()))
    images = [wrong.image.transpose(1, 2, 0) for wrong in tally.worst]
    return Evaluation(
        classes=classes,
        outcomes=tally.outcomes(),
        mistakes=[wrong.row for wrong in tally.worst],
        images=np.stack(images) if images else np.zeros((0, *resolution, 3), np.uint8),
        broken=broken,
        seconds=time.perf_counter() - started,
        temperature=temperature,
        thresholds=thresholds,
        several=source.several,
    )


def as_judged(batch: Batch, logits: Tensor, source: Source) -> Batch:
    """Picks the likeliest of several correct labels: a prediction is correct where it is any of them."""
    if not source.several:
        return batch
    rows = zip(batch.keys, logits.tolist(), strict=True)
    labels = [max(source.valid_labels(key), key=row.__getitem__) for key, row in rows]
    return batch._replace(labels=torch.tensor(labels, dtype=torch.int64))
