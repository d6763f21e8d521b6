"""`create_model`, and a MODEL or a model where either will do."""

from dataclasses import replace
from pathlib import Path

from vitrail.core.device import choose_device
from vitrail.core.errors import BadInput
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.models.build import Model, ModelConfig, as_size, build
from vitrail.models.resnet import ResNetConfig
from vitrail.models.variants import variant
from vitrail.weights.load import attach, load


def create_model(
    name: str | ModelConfig,
    *,
    num_classes: int = 0,
    resolution: int | tuple[int, int] | None = None,
    hidden: int | None = None,
) -> Model:
    """A new model, officially initialised from torch's global generator, with a zero classifier.

    `model.preprocess` is the default view at its resolution, and may be set to another one.

    Args:
        name: of a model ("B/16"), registered ones included, or a config.
        num_classes: 0 for those of the config; named models have no classifier.
        resolution: pixels, (height, width) or of both sides; None for that of the config, 224 for named models.
        hidden: the width of the hidden tanh layer that pre-training heads of ViTs have.

    Raises:
        BadInput: no such model, or sizes that do not fit together.
    """
    config = variant(name) if isinstance(name, str) else name
    size = config.resolution if resolution is None else as_size(resolution)
    config = replace(config, num_classes=num_classes or config.num_classes, resolution=size)
    if hidden is not None:
        if isinstance(config, ResNetConfig):
            raise BadInput(f"{name} is a ResNet: it has no hidden layer before its classifier")
        config = replace(config, hidden=hidden)
    return attach(build(config), Preprocess(size), None)


def as_model(model: str | Path | Model, device: str = "auto") -> Model:
    """The model itself, on the device where it is; or the MODEL of that name, loaded onto `device`."""
    return load(model, device=choose_device(device)) if isinstance(model, str | Path) else model


def preprocess_of(view: Preprocess | Model) -> Preprocess:
    """How images are prepared for a model; the default at its resolution for one that does not say it."""
    if isinstance(view, Preprocess):
        return view
    found = getattr(view, "preprocess", None)
    return found if isinstance(found, Preprocess) else Preprocess(view.config.resolution)
