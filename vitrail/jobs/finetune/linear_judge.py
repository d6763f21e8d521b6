"""The linear judge of frozen features: what it gets right of images that it was not fitted on, and as a classifier.

Logistic regression of the representation of each training image. Fine-tuning that starts from its weights changes the
features less than one that starts from zero (LP-FT, arXiv 2202.10054).

N images · D features · K classes · F folds
"""

import time
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64

from vitrail.core.errors import BadInput
from vitrail.core.files import atomic_path, read_json, write_json
from vitrail.evals.features import Features
from vitrail.evals.fewshot import Linear
from vitrail.evals.logistic import fit_logistic, logistic_regression
from vitrail.jobs.finetune.held_out import Fold, Judged, judge_logits, judged_from_json

LEAST = 1.0  # seconds of a fit of few images
PRODUCTS = 350  # of features and weights in whose time it is done, for all strengths: 307 and 363 were measured


class LinearJudge(NamedTuple):
    """Classifiers whose confidence is right on held-out images: of each fold, and of all training images."""

    folds: tuple[Linear, ...]
    whole: Linear
    judged: Judged | None  # None: nothing can be held out
    strength: float
    seconds: float  # that features and fits took


def linear_judge(
    features: Features,
    names: tuple[str, ...],
    folds: tuple[Fold, ...],
    file: Path,
    started: float,
    balanced: Float64[np.ndarray, " k"] | None = None,
) -> LinearJudge:
    """Fits it, or reads it from `file` (.npz; beside it a .json, written last) where it was fitted before.

    Args:
        folds: places among the rows of `features`.
        started: when by time.perf_counter() work on it began, features included; its seconds count from there.
        balanced: as in judge_logits.

    Raises:
        BadInput: a class without an image, or a damaged file.
    """
    about, classes = file.with_suffix(".json"), len(names)
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
            judged = judge_logits(torch.from_numpy(scores.astype(np.float32)), torch.from_numpy(truth), names, balanced)
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


def fit_seconds(images: int, width: int, classes: int) -> float:
    """About how long the fit takes here, by the time of one product of matrices."""
    rows, rng = 2048, np.random.default_rng(0)
    values, weights = rng.standard_normal((rows, width)), rng.standard_normal((width, classes))
    started = time.perf_counter()
    values @ weights
    return LEAST + PRODUCTS * images / rows * (time.perf_counter() - started)


def divided(fit: Linear, temperature: float) -> Linear:
    """The classifier whose scores are those of `fit` divided by `temperature`."""
    weights: Float64[np.ndarray, "d k"] = fit.weights / temperature
    return Linear(weights, fit.bias / temperature)
