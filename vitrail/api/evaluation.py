"""`evaluate` and `features`: a model, given itself or by its name, on data."""

from pathlib import Path

from vitrail.api.data import load_data
from vitrail.api.models import as_model, preprocess_of
from vitrail.core.device import Machine, Precision, RuntimeChoice, choose_precision
from vitrail.core.errors import BadInput
from vitrail.data.sources.base import Source
from vitrail.evals.classifier import LoadedClassifier, load_classifier, with_classes_of
from vitrail.evals.classify import Evaluation
from vitrail.evals.features import EveryLayer, Features, Representation, open_for_features
from vitrail.evals.features import features as features_of
from vitrail.models.build import Model


def evaluate(
    model: str | Path | Model,
    data: str | Path | Source,
    *,
    classes: str | None = None,
    precision: Precision = "auto",
    device: str = "auto",
    workers: int | None = None,
    runtime: RuntimeChoice = "torch",
) -> Evaluation:
    """Judges a classifier on every readable image; the data may lack some of its classes.

    Args:
        model: MODEL, or a model, which stays on its device.
        data: DATA (its test split, where it names none), or a source.
        classes: how the classes of the data are matched with those of the model: `vitrail evaluate --classes`.
        runtime: what computes the model, auto: the fastest that is installed and agrees with PyTorch.

    Returns:
        accuracy, interval (95 %), loss (nats), top5, confusion, ...; `to_pandas()` has a row an image.

    Raises:
        BadInput: no classifier, classes that the model does not know, or more than one in a hundred broken images.
    """
    machine = Machine(device, workers)
    if isinstance(model, str | Path):
        classifier = load_classifier(str(model), (), 1, precision, machine)
    else:
        if not model.config.num_classes:
            raise BadInput("the model has no classifier: create it with num_classes, or ask for vitrail.features")
        model.preprocess = preprocess_of(model)
        names = tuple(getattr(model, "classes", None) or map(str, range(model.config.num_classes)))
        columns = tuple((i,) for i in range(len(names)))
        dtype = choose_precision(precision, next(model.parameters()).device)
        classifier = LoadedClassifier("the model", (model,), names, columns, {}, (), 1, dtype, workers)
    classifier, source = with_classes_of(classifier, load_data(data, "test"), str(data), classes)
    return classifier.ready_for(len(source), runtime).judged(source)


def features(
    model: str | Path | Model,
    data: str | Path | Source,
    *,
    layers: bool = False,
    precision: Precision = "auto",
    device: str = "auto",
    workers: int | None = None,
    runtime: RuntimeChoice = "torch",
) -> Features:
    """What a model makes of every readable image of DATA (its test split, where it names none), in order.

    Args:
        model: MODEL, or a model, which stays on its device; it needs no classifier.
        layers: the tokens of every layer too, in the same rows (vitrail.evals.features.EveryLayer).
        runtime: what computes the model, auto: the fastest that is installed and agrees with PyTorch.

    Returns:
        values float32 [N, D], labels int64 [N], broken (key, reason) of images that cannot be read, and places int64
        [N] of the others in the source; `to_pandas()` has a row an image.
    """
    found = as_model(model, device)
    dtype = choose_precision(precision, next(found.parameters()).device)
    reading = EveryLayer() if layers else Representation()
    source = load_data(data, "test")
    computed = open_for_features(found, reading, runtime, precision, len(source))
    return features_of(
        found, source, preprocess_of(found), dtype=dtype, reading=reading, workers=workers, runtime=computed
    )
