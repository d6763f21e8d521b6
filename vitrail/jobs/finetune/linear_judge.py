"""The linear judge of frozen features: what it gets right of images that it was not fitted on, and as a classifier.

Logistic regression of the representation of each training image. Fine-tuning that starts from its weights changes the
features less than one that starts from zero (LP-FT, arXiv 2202.10054).

N images · D features · K classes · F folds · M images that are held out, of all folds
"""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor
from torch.nn import functional as F

from vitrail.core.errors import BadInput
from vitrail.core.estimate import wilson
from vitrail.core.files import atomic_path, read_json, write_json
from vitrail.core.seeds import generator
from vitrail.data.sources.base import Source
from vitrail.data.sources.subset import stratified
from vitrail.evals.calibration import COLDEST, fit_temperature
from vitrail.evals.features import Features
from vitrail.evals.fewshot import Linear
from vitrail.evals.logistic import fit_logistic, logistic_regression

SHARE = 0.2  # of the training images, held out
MOST = 5_000  # images that are held out
FEWEST = 50  # held-out images, and two a class on average, below which every image is held out once
FOLDS = 5


class Fold(NamedTuple):
    """Places in the source: what is learned from, and what is judged on."""

    train: Int64[np.ndarray, " n"]
    held: Int64[np.ndarray, " m"]


@dataclass(frozen=True)
class Judged:
    """What some classifier makes of the held-out images; the loss is that at its temperature."""

    accuracy: float
    interval: tuple[float, float]
    loss: float
    count: int
    temperature: float


class LinearJudge(NamedTuple):
    """Classifiers whose confidence is right on held-out images: of each fold, and of all training images."""

    folds: tuple[Linear, ...]
    whole: Linear
    judged: Judged | None  # None: nothing can be held out
    strength: float
    seconds: float  # that features and fits took


def make_folds(source: Source, seed: int) -> tuple[Fold, ...]:
    """One part held out of every class; five, each image in one of them, where one is small; none of one image a class.

    A class of one image is never held out, and of others each fold keeps some to learn from.
    """
    counts = np.bincount(source.labels, minlength=len(source.classes))
    if counts.max() < 2:
        return ()
    rest, held = stratified(source, min(SHARE, MOST / len(source)), seed)
    if len(held) >= max(FEWEST, 2 * len(source.classes)):
        return (Fold(rest.indices, held.indices),)
    rng, fold, start = generator(seed, "folds"), np.full(len(source), -1), 0
    for label, count in enumerate(counts):
        if count > 1:
            fold[rng.permutation(np.flatnonzero(source.labels == label))] = (start + np.arange(count)) % FOLDS
            start += count
    found = [Fold(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(FOLDS)]
    return tuple(one for one in found if len(one.held))


def linear_judge(features: Features, classes: int, folds: tuple[Fold, ...], file: Path, started: float) -> LinearJudge:
    """Fits it, or reads it from `file` (.npz; beside it a .json, written last) where it was fitted before.

    Args:
        folds: places among the rows of `features`.
        started: when by time.perf_counter() work on it began, features included; its seconds count from there.

    Raises:
        BadInput: a class without an image, or a damaged file.
    """
    about = file.with_suffix(".json")
    if not about.exists():
        values, labels = features.values, features.labels
        if not folds:
            chosen = logistic_regression(values, labels, classes)
            fits, whole, strength, judged = [], chosen.fit, chosen.strength, None
        else:
            first = logistic_regression(values[folds[0].train], labels[folds[0].train], classes)
            strength = first.strength
            more = [fit_logistic(values[f.train], labels[f.train], classes, strength, first.fit) for f in folds[1:]]
            fits = [first.fit, *more]
            whole = fit_logistic(values, labels, classes, strength, first.fit)
            scores = np.concatenate([fit.scores(values[f.held]) for fit, f in zip(fits, folds, strict=True)])
            truth = labels[np.concatenate([f.held for f in folds])]
            judged = judge_logits(torch.from_numpy(scores.astype(np.float32)), torch.from_numpy(truth))
        every = [divided(fit, judged.temperature if judged else 1.0) for fit in (*fits, whole)]
        with atomic_path(file) as temporary:
            np.savez(temporary, weights=np.stack([f.weights for f in every]), bias=np.stack([f.bias for f in every]))
        seconds = time.perf_counter() - started
        write_json(about, {"judged": judged and asdict(judged), "strength": strength, "seconds": seconds})
    stored = read_json(about)
    try:
        with np.load(file, allow_pickle=False) as arrays:
            *parts, whole = map(Linear, arrays["weights"], arrays["bias"])
    except (OSError, ValueError, KeyError) as problem:
        raise BadInput(f"{file} is damaged ({problem}): remove it and {about}, and it is fitted again") from None
    judged = judged_from_json(stored["judged"])
    return LinearJudge(tuple(parts), whole, judged, stored["strength"], stored["seconds"])


def judged_from_json(stored: dict[str, object] | None) -> Judged | None:
    """What `asdict` of it became in a file."""
    if stored is None:
        return None
    text = json.loads(json.dumps(stored))
    return Judged(**{**text, "interval": tuple(text["interval"])})


def judge_logits(logits: Float32[Tensor, "m k"], labels: Int64[Tensor, " m"]) -> Judged:
    """Judges logits. Where they would be ever likelier the surer they are, as all are right, the temperature is 1."""
    temperature = fit_temperature(logits, labels)
    temperature = 1.0 if temperature <= COLDEST else temperature
    correct = int((logits.argmax(dim=1) == labels).sum())
    loss = float(F.cross_entropy(logits.double() / temperature, labels))
    return Judged(correct / len(labels), wilson(correct, len(labels)), loss, len(labels), temperature)


def divided(fit: Linear, temperature: float) -> Linear:
    """The classifier whose scores are those of `fit` divided by `temperature`."""
    weights: Float64[np.ndarray, "d k"] = fit.weights / temperature
    return Linear(weights, fit.bias / temperature)
