"""The model and its export on the same labelled images: the same answers, and how much accuracy is lost."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from vitrail.core.errors import BadInput
from vitrail.core.progress import progress
from vitrail.data.class_matching import match_classes
from vitrail.data.decode.image import BrokenImage, Pixels, to_pixels
from vitrail.data.loader.batch import Batch, Broken, BrokenExample
from vitrail.data.loader.normalise import normalise, stack
from vitrail.data.open.names import open_data
from vitrail.data.sources.base import Source
from vitrail.data.sources.relabelled import Relabelled
from vitrail.data.transforms.pipeline import eval_transform
from vitrail.evals.classify import Evaluation, judge
from vitrail.evals.comparison import compare
from vitrail.evals.predictions import StoredPredictions
from vitrail.export.session import Session
from vitrail.models.build import Model
from vitrail.records.export import DataCheck
from vitrail.runtimes.by_torch import TorchRuntime

TOGETHER = 32  # images
SMALLEST = 1e-30  # a probability, so that its logarithm is finite


def check_on_data(model: Model, session: Session, data: str, most_lost: float) -> DataCheck:
    """Judges the model in float32, with vitrail's preprocessing, and the export from whole images.

    Raises:
        BadInput: data whose classes are not those of the model, or an export without probabilities.
    """
    source = matched(model, data)
    pairs = list(_answers(model, session, source, data))
    found = [pair[3] for pair in pairs]
    ours, theirs = (
        judge(
            [(batch, scores[i]) for batch, *scores, _ in pairs], source, _broken(source, found), model.config.resolution
        )
        for i in range(2)
    )
    stored = [_stored(one, name, data, source) for one, name in ((ours, "the model"), (theirs, "the export"))]
    comparison = compare(*stored)
    row = comparison.rows[0]
    return DataCheck(
        data=data,
        count=comparison.count,
        agreement=comparison.same_answer / comparison.count,
        lost=row.difference,
        interval=row.interval,
        most_lost=most_lost,
        ece_model=ours.summary(data, "").calibration.ece,
        ece_export=theirs.summary(data, "").calibration.ece,
        comparison=comparison,
    )


def matched(model: Model, data: str) -> Source:
    """DATA with the classes of the model."""
    if not model.config.num_classes:
        raise BadInput("--check compares answers, and this model has no classifier: leave --check out")
    source = open_data(data, "test")
    match = match_classes(source.classes, tuple(model.classes), data_name=data, model_name="the model")
    if match.names != tuple(model.classes):
        raise BadInput(f"--check {data} has other classes than the model: give data with the model's classes")
    return Relabelled(source, match.labels, match.names)


def _stored(judged: Evaluation, name: str, data: str, source: Source) -> StoredPredictions:
    return StoredPredictions(judged.outcomes, judged.classes, name, data, source.several)


def _broken(source: Source, found: list[list[BrokenExample]]) -> Broken:
    broken = Broken(len(source))
    for some in found:
        broken.add(some)
    return broken


def _answers(
    model: Model, session: Session, source: Source, data: str
) -> Iterator[tuple[Batch, Tensor, Tensor, list[BrokenExample]]]:
    """Batches, and the logarithms of the probabilities of both."""
    exact = TorchRuntime(model, "float32")
    with progress(f"comparing on {data}", len(source)) as bar:
        for start in range(0, len(source), TOGETHER):
            whole, rows, broken = list[Pixels](), list[tuple[int, str]](), list[BrokenExample]()
            for i in range(start, min(start + TOGETHER, len(source))):
                bar.advance()
                try:
                    example = source[i]
                    whole.append(to_pixels(example.image))
                except BrokenImage as problem:
                    broken.append(BrokenExample(i, problem.key or str(i), str(problem)))
                    continue
                rows.append((i, example.key))
            if not rows:
                continue
            views = stack([eval_transform(pixels, model.preprocess) for pixels in whole])
            logits = exact(normalise(views, model.preprocess, torch.device("cpu"))).logits
            places = torch.tensor([i for i, _ in rows])
            labels = torch.from_numpy(source.labels[places.numpy()])
            batch = Batch(views, labels, places, torch.zeros_like(places), [key for _, key in rows], broken)
            theirs = torch.from_numpy(probabilities(session, whole)).clamp_min(SMALLEST).log()
            yield batch, (logits / (model.temperature or 1.0)).log_softmax(dim=1), theirs, broken


def probabilities(session: Session, images: list[Pixels]) -> np.ndarray:
    """[n, K] of whole images; those of one size go together."""
    sizes: dict[tuple[int, ...], list[int]] = {}
    for i, image in enumerate(images):
        sizes.setdefault(image.shape, []).append(i)
    found: list[np.ndarray] = [np.empty(0)] * len(images)
    for places in sizes.values():
        answers = session(np.stack([images[i] for i in places]))
        if "probabilities" not in answers:
            raise BadInput("--check compares probabilities: they must be among --outputs")
        for i, row in zip(places, answers["probabilities"], strict=True):
            found[i] = row
    return np.stack(found)
