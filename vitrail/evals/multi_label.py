"""A classifier on images of several classes each: average precision by class, and what its thresholds find.

n images · K classes
"""

import io
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor
from torch.nn import functional as F

from vitrail.core import dist
from vitrail.core.errors import BadInput
from vitrail.core.estimate import Interval, wilson
from vitrail.core.files import atomic_path
from vitrail.data.loader.batch import Batch, Broken, BrokenExample
from vitrail.data.sources.base import Source
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.evals.average_precision import FEWEST, USUAL, MeanPrecision, Ranked, average_precision, best_threshold
from vitrail.evals.inference import run_inference
from vitrail.evals.intervals import Figure, bootstrap, draws_for
from vitrail.models.build import Model
from vitrail.records.multi_label import ClassScore, MultiLabelMistake, MultiLabelSummary, Thresholds
from vitrail.records.record import write_record

MISTAKES = 24  # how many are kept with their images


@dataclass(frozen=True, repr=False)
class MultiLabelEvaluation:
    """The probabilities of all classes for every image that can be read, in the order of their keys, and the truth."""

    classes: tuple[str, ...]
    keys: list[str]
    truth: UInt8[np.ndarray, "n k"]
    shares: Float32[np.ndarray, "n k"]
    loss: float  # binary cross-entropy, summed over classes, mean over images; nats
    mistakes: list[MultiLabelMistake]
    images: np.ndarray
    broken: Broken
    seconds: float

    def __repr__(self) -> str:
        return f"mean average precision {self.mean_average_precision:.1%} of {self.count:,} images"

    @property
    def count(self) -> int:
        """Images that were judged."""
        return len(self.keys)

    @cached_property
    def correct(self) -> int:
        """The images whose likeliest class is one that they have."""
        return int(self.truth[np.arange(self.count), self.shares.argmax(axis=1)].sum())

    @property
    def accuracy(self) -> float:
        """Share of the images whose likeliest class is one that they have."""
        return self.correct / self.count

    @property
    def interval(self) -> Interval:
        """95 %, Wilson, of the accuracy."""
        return wilson(self.correct, self.count)

    @cached_property
    def average_precisions(self) -> np.ndarray:
        """float64 [K]; NaN for a class without an image."""
        return np.array([average_precision(one)[0] for one in self._ranked])

    @property
    def mean_average_precision(self) -> float:
        """Mean over the classes that have an image."""
        return float(np.nanmean(self.average_precisions))

    @cached_property
    def _ranked(self) -> list[Ranked]:
        return [Ranked.of(self.truth[:, k] == 1, self.shares[:, k]) for k in range(len(self.classes))]

    def choose_thresholds(self, data: str) -> Thresholds:
        """The threshold of each class with the highest F1 on these images, called `data`, and its bootstrap interval.

        A class with less than FEWEST images, or less than FEWEST without it, gets the threshold that is best for the
        questions of all classes together.
        """
        together = float(best_threshold(Ranked.of(self.truth.ravel() == 1, self.shares.ravel()))[0])
        positive = self.truth.sum(axis=0)
        own = (positive >= FEWEST) & (self.count - positive >= FEWEST)
        figures: dict[str, Figure] = {str(k): _threshold_of(self._ranked[k]) for k in np.flatnonzero(own)}
        intervals = bootstrap(figures, self.count, draws=draws_for(self.count * len(self.classes))) if figures else {}
        values = [float(best_threshold(one)[0]) if own[k] else together for k, one in enumerate(self._ranked)]
        return Thresholds(
            data=data,
            count=self.count,
            values=values,
            intervals=[intervals.get(str(k)) for k in range(len(values))],
            own=own.tolist(),
        )

    def summary(self, data: str, model: str, thresholds: Thresholds | None) -> MultiLabelSummary:
        """What multilabel.json holds (docs/files.md); without thresholds answers are what is likelier than not."""
        values = np.array(thresholds.values if thresholds else [USUAL] * len(self.classes))
        said = self.shares >= values.astype(np.float32)
        table = MeanPrecision(self._ranked)
        figures: dict[str, Figure] = {str(k): table.of(k) for k in range(len(self.classes))}
        figures |= {"mean": table, "micro": _f1(said, self.truth)}
        intervals = bootstrap(figures, self.count, draws=draws_for(self.count * len(self.classes)))
        hits, positive, answered = (said & (self.truth == 1)).sum(axis=0), self.truth.sum(axis=0), said.sum(axis=0)
        exact = int((said == (self.truth == 1)).all(axis=1).sum())
        rows = []
        for k, name in enumerate(self.classes):
            right, there, given = int(hits[k]), int(positive[k]), int(answered[k])
            rows.append(
                ClassScore(
                    name=name,
                    count=there,
                    average_precision=float(self.average_precisions[k]) if there else None,
                    interval=intervals[str(k)] if there else None,
                    threshold=float(values[k]),
                    threshold_interval=thresholds.intervals[k] if thresholds else None,
                    answered=given,
                    correct=right,
                    precision=right / given if given else None,
                    precision_interval=wilson(right, given) if given else None,
                    recall=right / there if there else None,
                    recall_interval=wilson(right, there) if there else None,
                    f1=2 * right / (given + there) if given + there else None,
                )
            )
        f1s = [row.f1 for row in rows if row.f1 is not None and row.count]
        return MultiLabelSummary(
            data=data,
            model=model,
            count=self.count,
            classes=self.classes,
            classes_an_image=float(self.truth.sum(axis=1).mean()),
            mean_average_precision=self.mean_average_precision,
            mean_average_precision_interval=intervals["mean"],
            f1=float(2 * hits.sum() / max(1, positive.sum() + answered.sum())),
            f1_interval=intervals["micro"],
            mean_f1=float(np.mean(f1s)) if f1s else None,
            exact=exact / self.count,
            exact_interval=wilson(exact, self.count),
            accuracy=self.accuracy,
            interval=self.interval,
            loss=self.loss,
            thresholds=thresholds,
            per_class=rows,
            mistakes=self.mistakes,
            broken=self.broken.rows(),
            seconds=self.seconds,
            images_per_second=self.count / self.seconds,
        )

    def write(self, folder: Path, summary: MultiLabelSummary) -> None:
        """Writes multilabel.json, probabilities.parquet and mistakes.npz."""
        lists = [[self.classes[k] for k in np.flatnonzero(row)] for row in self.truth]
        shares = pa.FixedSizeListArray.from_arrays(pa.array(self.shares.ravel()), len(self.classes))
        table = pa.table({"key": self.keys, "labels": pa.array(lists, pa.list_(pa.string())), "probabilities": shares})
        about = json.dumps({"format": 1, "model": summary.model, "data": summary.data, "classes": list(self.classes)})
        with atomic_path(folder / "probabilities.parquet") as temporary:
            pq.write_table(table.replace_schema_metadata({"vitrail": about}), temporary, compression="zstd")
        with atomic_path(folder / "mistakes.npz") as temporary:
            np.savez_compressed(temporary, images=self.images)
        write_record(folder / "multilabel.json", summary)


def _threshold_of(ranked: Ranked) -> Figure:
    return lambda weights: best_threshold(ranked, weights)


def _f1(said: np.ndarray, truth: np.ndarray) -> Figure:
    hits, both = (said & (truth == 1)).sum(axis=1).astype(np.float64), (said.sum(axis=1) + truth.sum(axis=1)) * 1.0
    return lambda weights: 2 * (weights @ hits) / np.maximum(weights @ both, 1e-30)


def evaluate_multi_label(
    model: Model,
    source: Source,
    preprocess: Preprocess,
    *,
    dtype: torch.dtype | None = None,
    workers: int | None = None,
    title: str = "evaluating",
    together: bool = False,
) -> MultiLabelEvaluation:
    """Judges `model` on every readable image of `source`; columns of its labels are the places of the model's classes.

    `together`: the processes of the run share the images, and all get the whole result.
    """
    if model.config.num_classes != len(source.classes):
        raise BadInput(f"the model has {model.config.num_classes} classes, the data have {len(source.classes)}")
    broken = Broken(len(source))
    parts = run_inference(
        model, source, preprocess, broken=broken, dtype=dtype, workers=workers, title=title, together=together
    )
    outputs = ((part.batch, part.logits) for part in parts)
    return judge_multi_label(outputs, source, broken, preprocess.resolution, together=together)


def judge_multi_label(
    parts: Iterable[tuple[Batch, Tensor]],
    source: Source,
    broken: Broken,
    resolution: tuple[int, int],
    *,
    together: bool = False,
) -> MultiLabelEvaluation:
    """Judges logits [B, K] of the images of `source`, as they come.

    Raises:
        BadInput: not one image that can be read, or none that has a class.
    """
    started, classes = time.perf_counter(), source.classes
    tally = _Tally(classes)
    for batch, logits in parts:
        tally.add(batch, logits)
    if together and dist.world().size > 1:
        packed, tally = dist.gathered(tally.pack()), _Tally(classes)
        for part in packed:
            tally.join(part)
        for found in dist.gathered_json([(one.index, one.key, one.reason) for one in broken.examples.values()]):
            broken.add(BrokenExample(*row) for row in found)
    if not tally.keys:
        raise BadInput("not one image can be read: " + "; ".join(f"{k}: {r}" for k, r in broken.found.items()))
    truth, shares, losses = (np.concatenate(part) for part in (tally.truth, tally.shares, tally.losses))
    if not truth.any():
        raise BadInput("not one of the images has a class: nothing can be judged")
    order = np.argsort(np.array(tally.keys, dtype=object), kind="stable")
    images = [image.transpose(1, 2, 0) for _, image in tally.worst]
    return MultiLabelEvaluation(
        classes=classes,
        keys=[tally.keys[i] for i in order.tolist()],
        truth=truth[order],
        shares=shares[order],
        loss=float(losses[order].mean(dtype=np.float64)),
        mistakes=[row for row, _ in tally.worst],
        images=np.stack(images) if images else np.zeros((0, *resolution, 3), np.uint8),
        broken=broken,
        seconds=time.perf_counter() - started,
    )


class _Tally:
    """Collects a row an image, and the answers that are furthest off with their images uint8 [3, H, W]."""

    def __init__(self, classes: tuple[str, ...]):
        self.classes = classes
        self.keys: list[str] = []
        self.truth: list[np.ndarray] = []
        self.shares: list[np.ndarray] = []
        self.losses: list[np.ndarray] = []
        self.worst: list[tuple[MultiLabelMistake, np.ndarray]] = []

    def add(self, batch: Batch, logits: Tensor) -> None:
        """A batch and its logits [B, K], both on the CPU."""
        logits, targets = logits.float(), batch.labels.float()
        shares = logits.sigmoid()
        losses = -(targets * F.logsigmoid(logits) + (1 - targets) * F.logsigmoid(-logits)).sum(dim=1)
        self.keys += batch.keys
        self.truth.append(batch.labels.numpy())
        self.shares.append(shares.numpy())
        self.losses.append(losses.numpy())
        off, place = (shares - targets).abs().max(dim=1)
        for i in off.argsort(descending=True)[:MISTAKES].tolist():
            k = int(place[i])
            if off[i] < USUAL:
                continue
            there = [self.classes[j] for j in torch.nonzero(batch.labels[i]).flatten().tolist()]
            row = MultiLabelMistake(
                key=batch.keys[i],
                labels=there,
                name=self.classes[k],
                probability=float(shares[i, k]),
            )
            self.worst.append((row, batch.images[i].numpy().copy()))
        self._keep_the_worst()

    def join(self, data: bytes) -> None:
        """Adds what another process packed."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            texts = json.loads(arrays["texts"].tobytes())
            if not texts["keys"]:
                return
            self.keys += texts["keys"]
            for name in ("truth", "shares", "losses"):
                getattr(self, name).append(arrays[name])
            rows = [MultiLabelMistake(**row) for row in texts["rows"]]
            self.worst += list(zip(rows, arrays["images"], strict=True))
        self._keep_the_worst()

    def pack(self) -> bytes:
        """All of it, for another process."""
        texts = {"keys": self.keys, "rows": [vars(row) for row, _ in self.worst]}
        images = np.stack([image for _, image in self.worst]) if self.worst else np.zeros(0)
        columns: dict[str, Any] = {
            name: np.concatenate(parts) if parts else np.zeros(0)
            for name, parts in (("truth", self.truth), ("shares", self.shares), ("losses", self.losses))
        }
        buffer = io.BytesIO()
        np.savez(buffer, texts=np.frombuffer(json.dumps(texts).encode(), np.uint8), images=images, **columns)
        return buffer.getvalue()

    def _keep_the_worst(self) -> None:
        """The furthest off first; the name breaks ties."""

        def off(one: tuple[MultiLabelMistake, np.ndarray]) -> tuple[float, str]:
            row = one[0]
            return (1 - row.probability if row.name in row.labels else row.probability), row.key

        self.worst = sorted(self.worst, key=off, reverse=True)[:MISTAKES]
