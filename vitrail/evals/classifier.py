"""A classifier made ready to be judged, data with its classes, and the temperature that is fitted for it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vitrail.core.device import Machine, Precision, RuntimeChoice, choose_device, choose_precision
from vitrail.core.errors import BadInput
from vitrail.core.progress import say
from vitrail.data.class_matching import match_classes
from vitrail.data.decode.image import BrokenImage, Pixels
from vitrail.data.loader.batch import Batch, Broken
from vitrail.data.open.names import open_data
from vitrail.data.sources.base import Source
from vitrail.data.sources.relabelled import Relabelled
from vitrail.data.sources.subset import sample
from vitrail.evals.calibration import fit_temperature
from vitrail.evals.classify import Evaluation, as_judged, judge
from vitrail.evals.multi_crop import Crops, multi_crop_logits
from vitrail.evals.multi_label import MultiLabelEvaluation, judge_multi_label
from vitrail.evals.predictions import pixel_digests
from vitrail.evals.selective import TARGETS, threshold
from vitrail.models.build import Model
from vitrail.records.evaluation import Views
from vitrail.records.multi_label import Thresholds
from vitrail.records.runtime import RuntimeInfo
from vitrail.runtimes.open_runtime import open_runtime
from vitrail.runtimes.runtime import Runtime
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
    classes: tuple[str, ...]  # that are judged
    columns: tuple[tuple[int, ...], ...]  # for each of them the places of the logits that count for it, mostly one
    provenance: dict[str, Any]
    assumed: tuple[str, ...]  # sentences: what its files do not say
    crops: Crops
    dtype: torch.dtype
    workers: int | None
    runtimes: tuple[Runtime, ...] = ()  # what computes each of the models; none: they themselves, in `dtype`

    def ready_for(self, images: int, runtime: RuntimeChoice) -> "LoadedClassifier":
        """The classifier computed by a runtime, chosen for so many images where it is `auto`."""
        precision: Precision = "float32" if self.dtype == torch.float32 else "bfloat16"
        return replace(
            self,
            runtimes=tuple(
                open_runtime(model, runtime, precision, images=images * self.crops) for model in self.models
            ),
        )

    def runtime_info(self) -> RuntimeInfo | None:
        """What computed its answers, once some are there."""
        return self.runtimes[0].info() if self.runtimes else None

    @property
    def temperature(self) -> float | None:
        """That it carries, which was fitted to one view at its own resolution."""
        return self.models[0].temperature if self.crops == 1 and len(self.models) == 1 else None

    @property
    def thresholds(self) -> tuple[float, ...] | None:
        """Of a model of several classes an image, those of the classes that are judged; None: of one class."""
        stored = self.models[0].thresholds
        return None if stored is None else tuple(stored[some[0]] for some in self.columns)

    def chosen_thresholds(self) -> Thresholds | None:
        """The thresholds that it carries; None where nothing chose them."""
        about = self.provenance.get("thresholds_chosen")
        if self.thresholds is None or not isinstance(about, dict) or not {"data", "count"} <= about.keys():
            return None
        count = len(self.classes)
        return Thresholds(
            data=str(about["data"]),
            count=int(about["count"]),
            values=self.thresholds,
            intervals=[None] * count,
            own=[True] * count,
        )

    def judged_several(self, source: Source) -> MultiLabelEvaluation:
        """Judges it on a source of several classes an image that has its classes."""
        broken = Broken(len(source))
        parts = self.logits(source, broken, f"evaluating {self.name}")
        return judge_multi_label(parts, source, broken, self.models[-1].preprocess.resolution)

    def views(self) -> Views:
        """Of what the probabilities are the mean."""
        return Views(crops=self.crops, resolutions=[model.config.resolution for model in self.models])

    def logits(self, source: Source, broken: Broken, title: str) -> Iterator[tuple[Batch, Tensor]]:
        """Yields the logits of each batch of a source; with several views, the logarithms of mean probabilities."""
        every = multi_crop_logits(
            self.models,
            source,
            self.crops,
            broken=broken,
            dtype=self.dtype,
            workers=self.workers,
            title=title,
            runtimes=self.runtimes,
        )
        for batch, logits in every:
            yield batch, self._judged_columns(logits)

    def _judged_columns(self, logits: Tensor) -> Tensor:
        """[B, K of the model] -> [B, judged classes]; probabilities of classes that count as one add up."""
        if self.columns == tuple((i,) for i in range(logits.shape[1])):
            return logits
        return torch.stack([logits[:, list(some)].logsumexp(dim=1) for some in self.columns], dim=1)

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
    return LoadedClassifier(
        name,
        models,
        models[0].classes,
        tuple((i,) for i in range(len(models[0].classes))),
        published.provenance,
        published.assumed,
        crops,
        choose_precision(precision, device),
        machine.workers,
    )


def with_classes_of(
    classifier: LoadedClassifier, source: Source, data: str, how: str | None = None, multi_label: bool = False
) -> tuple[LoadedClassifier, Source]:
    """The classifier and the source with the same classes; which is which is said (vitrail.data.class_matching).

    The source may lack some classes; the classifier comes back with fewer where they are judged over their own.

    Args:
        how: `--classes`.
        multi_label: images have several classes each for the classifier; those of the source may have one.
    """
    own = "trained_on" in classifier.provenance  # a bundle of ours: its names are those of its training data
    match = match_classes(
        source.classes,
        classifier.classes,
        data_name=data,
        model_name=classifier.name,
        how=how,
        unnamed=False if own else None,
    )
    for sentence in match.sentences:
        say(sentence)
    if match.columns != tuple((i,) for i in range(len(classifier.classes))) or match.names != classifier.classes:
        columns = tuple(tuple(place for i in some for place in classifier.columns[i]) for some in match.columns)
        classifier = replace(classifier, columns=columns, classes=match.names)
    if multi_label and any(len(some) > 1 for some in classifier.columns):
        raise BadInput(
            f"{classifier.name} has classes of one name, which cannot be judged as one where an image has several"
        )
    same = source.classes == match.names and match.labels == tuple(range(len(match.names)))
    if same and source.multi_label == multi_label:
        return classifier, source
    return classifier, Relabelled(source, match.labels, match.names, multi_label)


class TemperatureFit(NamedTuple):
    """A temperature, the confidences for TARGETS, what they were fitted on, and the digests of those images."""

    temperature: float
    thresholds: tuple[float | None, ...]
    about: dict[str, Any]
    digests: np.ndarray


def fit_temperature_on(classifier: LoadedClassifier, data: str, judged: str, judged_source: Source) -> TemperatureFit:
    """Fits a temperature on the images of `data`, which must be others than those of `judged`.

    Raises:
        BadInput: the same data, or classes that differ.
    """
    _, source = with_classes_of(classifier, open_data(data, "test"), data)
    check_other_images(judged_source, source, judged, data)
    if data == classifier.provenance.get("trained_on"):
        say(f"{classifier.name} was trained on {data}, where it is surer than elsewhere: calibrate on validation data")
    most = max(1, LOGITS // len(classifier.classes))
    if len(source) > most:
        say(f"the temperature is fitted on {most:,} of the {len(source):,} images of {data}, drawn at random")
        source = sample(source, most, 0)
    logits, labels, digests = [], [], []
    for batch, part in classifier.logits(source, Broken(len(source)), f"calibrating on {data}"):
        logits.append(part)
        labels.append(as_judged(batch, part, source).labels)
        digests.append(pixel_digests(batch.images))
    scores, truth = torch.cat(logits), torch.cat(labels)
    temperature = fit_temperature(scores, truth)
    sure, predicted = (scores / temperature).softmax(dim=1).max(dim=1)
    right = (predicted == truth).numpy()
    thresholds = tuple(threshold(sure.numpy(), right, target) for target in TARGETS)
    return TemperatureFit(temperature, thresholds, {"data": data, "count": len(truth)}, np.concatenate(digests))


def check_other_images(judged_source: Source, source: Source, judged: str, data: str) -> None:
    """Raises BadInput where `data` are the images of `judged`."""
    if data == judged or _same(source, judged_source):
        raise BadInput(
            f"{data} are the images of {judged}: a temperature must not be judged on what it was fitted on; give "
            "validation data to --calibrate-on"
        )


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
