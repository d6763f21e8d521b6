"""Labels for files, folders, patterns and DATA: one after another as they come, or into a table."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from vitrail.core.config import to_json
from vitrail.core.device import Machine
from vitrail.core.errors import BadInput
from vitrail.core.progress import progress, say
from vitrail.core.signals import SignalWatch
from vitrail.data.open.inputs import Images, open_images
from vitrail.records.predictions import PredictionRequest, PredictionsInfo
from vitrail.serve.formats import Columns, form_of
from vitrail.serve.prediction_file import PredictionFile
from vitrail.serve.predictor import Prediction, PredictionBatch, Predictor
from vitrail.weights.digest import digest_of

NAMED = 20  # broken images that are named on standard error; all are in their rows


@dataclass(frozen=True)
class Predict:
    """A model, the images to label, and what is written of each."""

    model: str
    paths: tuple[str, ...]
    top: int = 5
    resolution: int | None = None
    features: bool = False  # what the classifier reads, too: in .parquet and .jsonl
    all_probabilities: bool = False  # of every class, not only of the `top` ones

    def check(self) -> None:
        """Raises BadInput."""
        if self.top < 1:
            raise BadInput(f"--top {self.top}: at least one label is asked for")
        if not self.paths:
            raise BadInput("nothing to label: give images, folders, patterns or data")


def predict(config: Predict, machine: Machine | None = None) -> Iterator[Prediction]:
    """One prediction an image, in the order of the paths, in constant memory; broken images give their reason.

    Raises:
        BadInput: a path that is not there, or a folder without images.
    """
    predictor, images = _opened(config, machine)
    for answers in _answers(predictor, images, config, machine, predictor.most_at_once()):
        yield from predictor.rows(answers)


def predict_table(config: Predict, out: Path, machine: Machine | None = None) -> PredictionsInfo:
    """All predictions into a .jsonl, .csv or .parquet file; returns what `OUT.json` says of it.

    What was interrupted goes on where it was, also after SIGKILL, and gives the rows that it would have given; what is
    finished is not done again.

    Raises:
        BadInput: as `predict`; another ending; a file that holds other predictions, or none.
        Interrupted: a signal came; what was done is safe.
    """
    form_of(out, Columns((), 0, features=int(config.features)))  # before a model is loaded
    predictor, images = _opened(config, machine)
    model = predictor.model
    width = model.config.representation_width if config.features else 0
    several = model.thresholds is not None
    top = len(predictor.classes) if several else config.top
    columns = Columns(predictor.classes, top, config.all_probabilities, width, several)
    question = PredictionRequest(
        model=config.model,
        weights=digest_of(model)[:16],
        temperature=model.temperature,
        paths=config.paths,
        images=len(images),
        which=images.content_hash()[:16],
        preprocess=to_json(model.preprocess),
        classes=sha256(json.dumps(predictor.classes).encode()).hexdigest()[:16],
        precision=predictor.runtime.precision,
        top=columns.labels,
        features=config.features,
        all_probabilities=config.all_probabilities,
        runtime=None if predictor.runtime.name == "torch" else predictor.runtime.name,
        thresholds=model.thresholds,
    )
    with (
        PredictionFile(out, columns, question, len(images), predictor.most_at_once()) as output,
        SignalWatch() as signals,
    ):
        if output.finished:
            return output.result()
        start = time.monotonic()
        begun, named = output.done, output.broken
        if begun:
            say(f"{out}: going on after {begun:,} of {len(images):,} images")
        for answers in _answers(predictor, images.after(begun), config, machine, output.batch):
            for key, error in zip(answers.keys, answers.errors, strict=True):
                if error is not None and named < NAMED:
                    named += 1
                    say(f"{key}: {error}")
            output.add(answers)
            if signals.received is not None:
                output.flush()
                signals.check()
        seconds = time.monotonic() - start
        return output.finish(predictor.classes, (len(images) - begun) / seconds, predictor.runtime.info())


def _opened(config: Predict, machine: Machine | None) -> tuple[Predictor, Images]:
    config.check()
    images = open_images(config.paths)
    machine = machine or Machine()
    predictor = Predictor(
        config.model,
        machine.device,
        config.resolution,
        features=config.features,
        runtime=machine.runtime,
        images=len(images),
    )
    return predictor, images


def _answers(
    predictor: Predictor, images: Images, config: Predict, machine: Machine | None, batch: int
) -> Iterator[PredictionBatch]:
    """The predictions of one batch after another, with a progress bar that shows images/s."""
    workers = (machine or Machine()).workers
    total = images.start + len(images)
    start, seen = time.monotonic(), 0
    with progress("predicting", total, images.start) as bar:
        for answers in predictor.over(
            images,
            config.top,
            batch=batch,
            workers=workers,
            every=config.all_probabilities,
            features=config.features,
        ):
            seen += len(answers.keys)
            bar.advance(f"{seen / (time.monotonic() - start):,.0f} images/s", len(answers.keys))
            yield answers


def as_row(prediction: Prediction) -> dict[str, Any]:
    """One row for `--json`."""
    labels = [{"name": label.name, "probability": label.probability} for label in prediction.labels]
    return {"path": prediction.key, "labels": labels, "error": prediction.error}
