"""A classifier made ready to be judged, data with its classes, and the temperature that is fitted for it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vitrail.core.device import Machine, Precision, choose_device, choose_precision
from vitrail.core.errors import BadInput
from vitrail.core.progress import say
from vitrail.data.decode.image import BrokenImage, Pixels
from vitrail.data.loader.loader import Batch, Broken
from vitrail.data.open.names import open_data
from vitrail.data.sources.base import Source
from vitrail.data.sources.subset import Subset, sample
from vitrail.evals.calibration import fit_temperature
from vitrail.evals.classify import Evaluation, as_judged, judge
from vitrail.evals.multi_crop import Crops, multi_crop_logits
from vitrail.evals.predictions import pixel_digests
from vitrail.evals.selective import TARGETS, threshold
from vitrail.models.build import Model
from vitrail.weights.load import model_of, read_pretrained
from vitrail.weights.pretrained import unusable_classifier

LOGITS = 2**28  # numbers from which a temperature is fitted, at most: 1 GiB; of more images it takes a sample
LOOKED_AT = 32  # images by which two sources of as many and the same labels are found to be one
SHARED = 0.01  # of the judged images may be among those that a temperature was fitted on: sets have copies


@dataclass(frozen=True)
class LoadedClassifier:
    """A model as it is judged: the same weights at one resolution or several."""

    name: str
    models: tuple[Model, ...]
    provenance: dict[str, Any]
    assumed: tuple[str, ...]  # sentences: what its files do not say
    crops: Crops
    dtype: torch.dtype
    workers: int | None

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the logits."""
        return self.models[0].classes

    @property
    def temperature(self) -> float | None:
        """That it carries, which was fitted to one view at its own resolution."""
        return self.models[0].temperature if self.crops == 1 and len(self.models) == 1 else None

    def views(self) -> dict[str, Any]:
        """What the probabilities are averaged over, for JSON."""
        return {"crops": self.crops, "resolutions": [list(model.config.resolution) for model in self.models]}

    def logits(self, source: Source, broken: Broken, title: str) -> Iterator[tuple[Batch, Tensor]]:
        """Yields the logits of each batch of a source; with several views, the logarithms of mean probabilities."""
        return multi_crop_logits(
            self.models, source, self.crops, broken=broken, dtype=self.dtype, workers=self.workers, title=title
        )

    def judged(self, source: Source, fitted: "TemperatureFit | None" = None) -> Evaluation:
        """Judges it on a source that has its classes, with the temperature that is fitted, or that it carries."""
        broken = Broken(len(source))
        return judge(
            self.logits(source, broken, f"evaluating {self.name}"),
            source,
            broken,
            self.models[-1].preprocess.resolution,
            temperature=fitted.temperature if fitted else self.temperature,
            thresholds=fitted.thresholds if fitted else None,
            digests=fitted is not None,
        )


def load_classifier(
    name: str, resolutions: tuple[int, ...], crops: Crops, precision: Precision, machine: Machine
) -> LoadedClassifier:
    """Loads a model.

    Raises:
        BadInput: no such model, one without a classifier, or a resolution that it cannot have.
    """
    device = choose_device(machine.device)
    published = read_pretrained(name, resolution=resolutions[0] if resolutions else None)
    if not published.config.num_classes:
        raise BadInput(f"{name} has no classifier; `vitrail linear` judges features")
    if len(set(resolutions)) != len(resolutions):
        raise BadInput(f"the resolutions {resolutions} hold one twice; give each once")
    models = tuple(model_of(published, size).to(device).eval() for size in resolutions or (None,))
    unusable = unusable_classifier(models[0])
    if unusable:
        say(f"{name}: {unusable}")
    dtype = choose_precision(precision, device)
    return LoadedClassifier(name, models, published.provenance, published.assumed, crops, dtype, machine.workers)


_NUMBER = r"(LABEL_)?\d+"  # what transformers calls a class without a name


def with_classes_of(accused: LoadedClassifier, source: Source, data: str) -> Source:
    """The source with the model's classes in the model's order; it may lack some of them."""
    classes = accused.classes
    if source.classes == classes:
        return source
    if set(source.classes) <= set(classes):
        return Subset(source, np.arange(len(source)), classes)
    if len(source.classes) == len(classes) and all(re.fullmatch(_NUMBER, name) for name in classes):
        say(f"{accused.name} does not name its classes: they are taken to be those of {data}, in the same order")
        return source
    unknown = next(name for name in source.classes if name not in classes)
    raise BadInput(f"{data} has the class {unknown!r}, which {accused.name} does not know: {classes[:10]}")


class TemperatureFit(NamedTuple):
    """A temperature, the confidences for TARGETS, what they were fitted on, and the digests of those images."""

    temperature: float
    thresholds: tuple[float | None, ...]
    about: dict[str, Any]
    digests: np.ndarray


def fit_temperature_on(accused: LoadedClassifier, data: str, judged: str, judged_source: Source) -> TemperatureFit:
    """Fits a temperature on the images of `data`, which must be others than those of `judged`.

    Raises:
        BadInput: the same data, or classes that differ.
    """
    source = with_classes_of(accused, open_data(data, "test"), data)
    if data == judged or _same(source, judged_source):
        raise BadInput(
            f"{data} are the images of {judged}: a temperature must not be judged on what it was fitted on; give "
            "validation data to --calibrate-on"
        )
    if data == accused.provenance.get("trained_on"):
        say(f"{accused.name} was trained on {data}, where it is surer than elsewhere: calibrate on validation data")
    most = max(1, LOGITS // len(accused.classes))
    if len(source) > most:
        say(f"the temperature is fitted on {most:,} of the {len(source):,} images of {data}, drawn at random")
        source = sample(source, most, 0)
    logits, labels, digests = [], [], []
    for batch, part in accused.logits(source, Broken(len(source)), f"calibrating on {data}"):
        logits.append(part)
        labels.append(as_judged(batch, part, source).labels)
        digests.append(pixel_digests(batch.images))
    scores, truth = torch.cat(logits), torch.cat(labels)
    temperature = fit_temperature(scores, truth)
    sure, predicted = (scores / temperature).softmax(dim=1).max(dim=1)
    right = (predicted == truth).numpy()
    thresholds = tuple(threshold(sure.numpy(), right, target) for target in TARGETS)
    return TemperatureFit(temperature, thresholds, {"data": data, "count": len(truth)}, np.concatenate(digests))


def _same(one: Source, other: Source) -> bool:
    """True where two sources hold the same images, whatever they are called: as many, and the first of them equal."""
    if len(one) != len(other) or not np.array_equal(one.labels, other.labels):
        return False
    try:
        return all(_bytes(one[i].image) == _bytes(other[i].image) for i in range(min(LOOKED_AT, len(one))))
    except BrokenImage:
        return False


def _bytes(image: bytes | Pixels) -> bytes:
    return image if isinstance(image, bytes) else image.tobytes()


def check_not_calibrated_on(fitted: TemperatureFit, evaluation: Evaluation, judged: str) -> None:
    """Raises BadInput where more of the judged images than a few were also calibrated on."""
    assert evaluation.outcomes.digest is not None
    shared = int(np.isin(evaluation.outcomes.digest, fitted.digests).sum())
    if shared > SHARED * evaluation.count:
        raise BadInput(
            f"{shared:,} of the {evaluation.count:,} images of {judged} are also in {fitted.about['data']}: a "
            "temperature must not be judged on what it was fitted on; give other data to --calibrate-on"
        )
