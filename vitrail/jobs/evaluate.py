"""Judging a model on labelled images."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitrail.core.device import Machine, Precision, choose_device, choose_precision
from vitrail.core.errors import BadInput
from vitrail.core.progress import say
from vitrail.data.grammar import open_data
from vitrail.data.sources import Source
from vitrail.data.subsets import Subset
from vitrail.evals.classify import evaluate as judge
from vitrail.weights.load import load
from vitrail.weights.published import unusable_classifier


@dataclass(frozen=True)
class Evaluate:
    """What to judge, and on what."""

    model: str
    data: str
    resolution: int | None = None
    precision: Precision = "auto"


def evaluate(config: Evaluate, folder: Path | None = None, machine: Machine | None = None) -> dict[str, Any]:
    """Evaluates, writes evaluation.json into `folder` where one is given, and returns its content (docs/files.md).

    Raises:
        BadInput: a model without a classifier, or data with classes that the model does not know.
    """
    machine = machine or Machine()
    device = choose_device(machine.device)
    model = load(config.model, resolution=config.resolution, device=device)
    if not model.config.num_classes:
        raise BadInput(f"{config.model} has no classifier; `vitrail linear` judges features")
    unusable = unusable_classifier(model)
    if unusable:
        say(f"{config.model}: {unusable}")
    source = _with_classes_of_model(open_data(config.data, "test"), model.classes, config)
    result = judge(
        model,
        source,
        model.preprocess,
        dtype=choose_precision(config.precision, device),
        workers=machine.workers,
    )
    return result.write(folder, config.data, config.model) if folder else result.as_json(config.data, config.model)


_NUMBER = r"(LABEL_)?\d+"  # what transformers calls a class without a name


def _with_classes_of_model(source: Source, classes: tuple[str, ...], config: Evaluate) -> Source:
    if source.classes == classes:
        return source
    if set(source.classes) <= set(classes):
        return Subset(source, np.arange(len(source)), classes)
    if len(source.classes) == len(classes) and all(re.fullmatch(_NUMBER, name) for name in classes):
        say(f"{config.model} does not name its classes: they are taken to be those of {config.data}, in the same order")
        return source
    unknown = next(name for name in source.classes if name not in classes)
    raise BadInput(f"{config.data} has the class {unknown!r}, which {config.model} does not know: {classes[:10]}")
