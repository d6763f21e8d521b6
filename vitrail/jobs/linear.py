"""Few-shot linear evaluation of frozen features, in closed form (section 4.1).

Images are seen by the model's own evaluation view. The official evaluator resizes both sides to 256 pixels and cuts out
the middle 224, whatever the model: its numbers are those of a slightly other view.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitrail.core.device import Machine, choose_device
from vitrail.core.errors import BadInput
from vitrail.core.files import write_json
from vitrail.core.seeds import torch_seed
from vitrail.data.grammar import open_data, require_classes
from vitrail.data.sources import Source
from vitrail.data.subsets import Subset, shots
from vitrail.evals.features import Features, features, pixel_features
from vitrail.evals.fewshot import RIDGE, few_shot_accuracy
from vitrail.evals.intervals import over_seeds
from vitrail.models.build import Model, build
from vitrail.weights.load import attach, load


@dataclass(frozen=True)
class Linear:
    """For each number of shots and each seed a draw of training images; each is judged on all of test."""

    model: str
    train: str
    test: str
    shots: tuple[int, ...] = (1, 5, 10, 25)
    seeds: int = 3
    ridge: float = RIDGE
    baselines: bool = False  # also the same model newly initialised, and raw pixels
    resolution: int | None = None


def linear(config: Linear, folder: Path | None = None, machine: Machine | None = None) -> dict[str, Any]:
    """Evaluates, writes linear.json into `folder` where one is given, and returns its content (docs/files.md).

    Raises:
        BadInput: data that cannot be used, test classes that train lacks, a class with too few images, or broken images
            among those drawn.
    """
    if not config.shots or min(config.shots) < 1 or config.seeds < 1:
        raise BadInput(f"shots {config.shots} and seeds {config.seeds} must be at least 1")
    model = load(config.model, resolution=config.resolution, device=choose_device((machine or Machine()).device))
    train, test = open_data(config.train, "train"), open_data(config.test, "test")
    require_classes(train, config.train)
    if train.classes != test.classes:
        raise BadInput(
            f"train has the classes {train.classes[:5]}…, test has {test.classes[:5]}…: they must be the same"
        )
    draws = {seed: shots(train, max(config.shots), seed) for seed in range(config.seeds)}
    needed = np.unique(np.concatenate(list(draws.values())))
    support = Subset(train, needed)

    def frozen(of: Model) -> Callable[[Source], Features]:
        return lambda source: features(of, source, model.preprocess)

    kinds = {"pre-trained": frozen(model)}
    if config.baselines:
        torch.manual_seed(torch_seed(0, "random features"))
        untrained = attach(build(model.config), model.preprocess, model.classes).to(next(model.parameters()).device)
        kinds["random initialisation"] = frozen(untrained)
        kinds["raw pixels"] = lambda source: pixel_features(source, model.preprocess)
    rows: list[dict[str, Any]] = []
    read = 0
    broken: tuple[tuple[str, str], ...] = ()
    for kind, extract in kinds.items():
        trained, judged = _complete(extract(support), support), extract(test)
        read, broken = len(judged.labels), judged.broken or broken
        for count in config.shots:
            accuracies = []
            for drawn in draws.values():
                chosen = np.searchsorted(needed, drawn.reshape(len(train.classes), -1)[:, :count].ravel())
                accuracies.append(
                    few_shot_accuracy(
                        trained.values[chosen],
                        trained.labels[chosen],
                        judged.values,
                        judged.labels,
                        len(train.classes),
                        config.ridge,
                    )
                )
            mean, interval = float(np.mean(accuracies)), over_seeds(accuracies)
            rows.append(
                {
                    "features": kind,
                    "shots": count,
                    "accuracies": accuracies,
                    "mean": mean,
                    "interval": list(interval) if interval else None,
                }
            )
    result = {
        "model": config.model,
        "train": config.train,
        "test": config.test,
        "ridge": config.ridge,
        "classes": list(train.classes),
        "count": read,
        "broken": [{"key": key, "reason": reason} for key, reason in broken],
        "rows": rows,
    }
    if folder is not None:
        write_json(folder / "linear.json", result)
    return result


def _complete(found: Features, support: Source) -> Features:
    if len(found.labels) != len(support):
        raise BadInput(f"{len(support) - len(found.labels)} of the drawn images are broken; remove them and try again")
    return found
