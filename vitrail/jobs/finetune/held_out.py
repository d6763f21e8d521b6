"""What `finetune auto` holds out of the training images, and how a classifier is judged there.

K classes · M images that are held out, of all folds
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64, Integer
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional as F

from vitrail.core.estimate import Interval, wilson
from vitrail.core.seeds import generator
from vitrail.data.loader.batch import Broken
from vitrail.data.sources.base import Source
from vitrail.data.sources.subset import stratified
from vitrail.evals.calibration import COLDEST, HOTTEST, fit_temperature
from vitrail.evals.multi_label import MultiLabelEvaluation
from vitrail.records.multi_label import Thresholds
from vitrail.records.record import parse_record

SHARE = 0.2  # of the training images, held out
MOST = 5_000  # images that are held out
FEWEST = 50  # held-out images, and two a class on average, below which every image is held out once
FOLDS = 5
ADJUSTMENTS = (0.0, 0.5, 1.0, 1.5)  # of logits by the log share of their class, of which the best is taken


class Fold(NamedTuple):
    """Places in the source: what is learned from, and what is judged on."""

    train: Int64[np.ndarray, " n"]
    held: Int64[np.ndarray, " m"]


@dataclass(frozen=True)
class Judged:
    """What some classifier makes of the held-out images; the loss is that at its temperature, and as adjusted."""

    accuracy: float  # of several classes an image: how often the likeliest one is one that it has
    interval: tuple[float, float]
    loss: float  # nats; mean over the images, or over the classes where these are to count alike
    count: int
    temperature: float
    mean_average_precision: float | None = None  # of several classes an image
    balanced_accuracy: float | None = None  # mean over the classes, where these are to count alike
    adjustment: float | None = None  # this much of the log share of each class is taken from logits / temperature
    thresholds: Thresholds | None = None  # of several classes an image


def make_folds(source: Source, seed: int) -> tuple[Fold, ...]:
    """One part held out of every class; five, each image in one of them, where one is small; none of one image a class.

    A class of one image is never held out, and of others each fold keeps some to learn from. Where images have several
    classes each, folds are drawn by lot.
    """
    counts = source.counts
    if counts.max() < 2 or len(source) < 2:
        return ()
    rest, held = stratified(source, min(SHARE, MOST / len(source)), seed)
    one = Fold(rest.indices, held.indices)
    if len(held) >= max(FEWEST, 2 * len(source.classes)) and _learns_all(source, one):
        return (one,)
    rng, fold, start = generator(seed, "folds"), np.full(len(source), -1), 0
    if source.multi_label:
        fold[rng.permutation(len(source))] = np.arange(len(source)) % FOLDS
    for label, count in enumerate(counts if not source.multi_label else ()):
        if count > 1:
            fold[rng.permutation(np.flatnonzero(source.labels == label))] = (start + np.arange(count)) % FOLDS
            start += count
    found = [Fold(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(FOLDS)]
    return tuple(one for one in found if len(one.held) and _learns_all(source, one))


def _learns_all(source: Source, fold: Fold) -> bool:
    """Whether each class is learned from; of images with several classes a rare one may be held out whole."""
    return not source.multi_label or bool(source.labels[fold.train].any(axis=0).all())


def judge_logits(
    logits: Float32[Tensor, "m k"],
    labels: Int64[Tensor, " m"] | Integer[Tensor, "m k"],
    classes: tuple[str, ...],
    balanced: Float64[np.ndarray, " k"] | None = None,
) -> Judged:
    """Judges logits. Where they would be ever likelier the surer they are, as all are right, the temperature is 1.

    Args:
        balanced: log shares of the classes in the training images, where classes count alike: of ADJUSTMENTS the one of
            the best mean accuracy over the classes is taken, among equals that of the lowest loss.
    """
    if labels.ndim == 2:
        return _judge_sets(logits, labels, classes)
    temperature = fit_temperature(logits, labels)
    temperature = 1.0 if temperature <= COLDEST else temperature
    cool = logits.double() / temperature
    if balanced is None:
        correct = int((logits.argmax(dim=1) == labels).sum())
        loss = float(F.cross_entropy(cool, labels))
        return Judged(correct / len(labels), wilson(correct, len(labels)), loss, len(labels), temperature)
    weights = 1 / torch.bincount(labels, minlength=len(classes)).clamp(min=1).double()
    weight, priors = weights[labels] / weights[labels].sum(), torch.from_numpy(balanced)
    found = []
    for tau in ADJUSTMENTS:
        shifted = cool - tau * priors
        right = shifted.argmax(dim=1) == labels
        loss = float(weight @ F.cross_entropy(shifted, labels, reduction="none"))
        found.append((float(weight @ right.double()), -loss, -tau, int(right.sum())))
    score, loss, tau, correct = max(found)
    return Judged(
        accuracy=correct / len(labels),
        interval=wilson(correct, len(labels)),
        loss=-loss,
        count=len(labels),
        temperature=temperature,
        balanced_accuracy=score,
        adjustment=-tau,
    )


def judged_words(judged: Judged) -> str:
    """It, as a phrase."""
    images = f"{judged.count:,} held-out images"
    if judged.mean_average_precision is not None:
        return f"mean average precision {judged.mean_average_precision:.1%} of {images}"
    if judged.balanced_accuracy is not None:
        return f"{judged.balanced_accuracy:.1%} in the mean over classes, {judged.accuracy:.1%} of {images}"
    return f"{judged.accuracy:.1%} of {images}"


def losses_of(logits: Float32[Tensor, "m k"], labels: Tensor) -> Float64[np.ndarray, " m"]:
    """The loss of each image at the temperature that is best for all of them."""
    if labels.ndim == 2:
        return _sigmoid_losses(logits.double() / _sigmoid_temperature(logits, labels), labels).numpy()
    temperature = max(fit_temperature(logits, labels), COLDEST)
    return F.cross_entropy(logits.double() / temperature, labels, reduction="none").numpy()


def judged_from_json(stored: Mapping[str, Any] | None) -> Judged | None:
    """What `asdict` of it became in a file."""
    if stored is None:
        return None
    thresholds = stored.get("thresholds")
    interval: Interval = tuple(stored["interval"])
    known = {**stored, "interval": interval, "thresholds": thresholds and parse_record(Thresholds, thresholds)}
    return Judged(**known)


def _judge_sets(logits: Tensor, labels: Tensor, classes: tuple[str, ...]) -> Judged:
    temperature = _sigmoid_temperature(logits, labels)
    cool = logits.double() / temperature
    seen = MultiLabelEvaluation(
        classes=classes,
        keys=[str(i) for i in range(len(labels))],
        truth=labels.numpy().astype(np.uint8),
        shares=cool.sigmoid().float().numpy(),
        loss=float(_sigmoid_losses(cool, labels).mean()),
        mistakes=[],
        images=np.zeros((0, 1, 1, 3), np.uint8),
        broken=Broken(0),
        seconds=0.0,
    )
    return Judged(
        accuracy=seen.accuracy,
        interval=seen.interval,
        loss=seen.loss,
        count=seen.count,
        temperature=temperature,
        mean_average_precision=seen.mean_average_precision,
        thresholds=seen.choose_thresholds("held-out training images"),
    )


def _sigmoid_temperature(logits: Tensor, labels: Tensor) -> float:
    """That of the lowest loss of all yes-or-no questions together; 1 where it is at the end of what is tried."""
    wide = logits.double()
    found = minimize_scalar(
        lambda log_t: float(_sigmoid_losses(wide / np.exp(log_t), labels).mean()),
        bounds=(np.log(COLDEST), np.log(HOTTEST)),
        method="bounded",
    )
    temperature = float(np.exp(found.x))
    return temperature if 1.01 * COLDEST < temperature < 0.99 * HOTTEST else 1.0


def _sigmoid_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """[M], summed over the classes."""
    return F.binary_cross_entropy_with_logits(logits, labels.double(), reduction="none").sum(dim=1)
