"""The data that a model is trained on: opened, of the same classes, and what the config has to be for them."""

from dataclasses import replace
from typing import Any, TypeVar

from vitrail.core import dist
from vitrail.core.device import Machine
from vitrail.core.errors import BadInput, nearest
from vitrail.core.progress import say
from vitrail.data.open.names import open_data, require_classes
from vitrail.data.sources.base import Source
from vitrail.data.sources.class_names import composed, folded
from vitrail.data.sources.relabelled import Relabelled
from vitrail.evals.average_precision import USUAL
from vitrail.train.config import TrainConfig
from vitrail.train.loss import LogitAdjusted, Sigmoid

Sources = tuple[Source, Source | None, Source | None]  # train, validation, test


def open_training_data(config: TrainConfig) -> Sources:
    """The sources of train, validation and test.

    Raises:
        BadInput: no data, fewer than two classes, or classes that differ from those of the training data.
    """
    train = open_data(config.train, "train", multi_label=True)
    require_classes(train, config.train)
    validation, test = (
        None if name is None else same_classes(open_data(name, "test", multi_label=True), train, name)
        for name in (config.validation, config.test)
    )
    return train, validation, test


def same_classes(source: Source, train: Source, name: str) -> Source:
    """The source with the classes of the training data; raises BadInput where it has others."""
    if source.multi_label and not train.multi_label:
        raise BadInput(f"the images of {name} have several classes each, those of train have one")
    if source.classes == train.classes and source.multi_label == train.multi_label:
        return source
    labels, other = [], []
    for extra in source.classes:
        same = [i for i, known in enumerate(train.classes) if composed(known) == composed(extra)]
        same = same or [i for i, known in enumerate(train.classes) if folded(known) == folded(extra)]
        if len(same) != 1:
            raise BadInput(f"{name} has the class {extra!r}, which train lacks{nearest(extra, train.classes)}")
        labels.append(same[0])
        if composed(train.classes[same[0]]) != composed(extra):
            other.append(f"{extra} = {train.classes[same[0]]}")
    if other and dist.launched().first:
        say(f"classes of {name} are matched with those of train whatever their case: {', '.join(other[:3])}")
    return Relabelled(source, labels, train.classes, train.multi_label)  # other order, or some classes absent


Trained = TypeVar("Trained", bound=TrainConfig)


def for_labels(config: Trained, train: Source) -> Trained:
    """The config for these labels: images of several classes each are learned with the sigmoid loss, which is said.

    Raises:
        BadInput: an option that needs one class an image.
    """
    if not train.multi_label:
        return config
    if config.class_weights is not None or config.sampling.balanced or isinstance(config.loss, LogitAdjusted):
        raise BadInput(
            "weights of classes, logit adjustment and balanced sampling are for images of one class: leave them out"
        )
    if isinstance(config.loss, Sigmoid):
        return config
    if dist.launched().first:
        say(f"{config.train}: several classes an image: the loss is sigmoid")
    return replace(config, loss=Sigmoid(config.loss.smoothing))


def check_keep_best(config: TrainConfig, validation: Source | None, machine: Machine) -> None:
    """Raises BadInput where the best weights cannot be kept: no images to judge by, averaged or sharded weights."""
    if config.keep == "last":
        return
    if validation is None:
        raise BadInput("keeping the best weights is by validation images: give validation")
    if config.average is not None or machine.sharding != "replicated":
        raise BadInput("keeping the best weights is of the weights themselves: leave out average and sharding")


def usual_thresholds(train: Source) -> tuple[float, ...] | None:
    """Those of a model for such images where none were chosen; None for images of one class."""
    return (USUAL,) * len(train.classes) if train.multi_label else None


def with_classes(config: Any, classes: int) -> Any:
    """The model config for data of so many classes; raises BadInput when it was given another number."""
    if config.num_classes not in (0, classes):
        raise BadInput(f"the model is to have {config.num_classes} classes, the training data have {classes}")
    return replace(config, num_classes=classes)
