"""From a config to a model: the only list of architectures."""

from dataclasses import replace

from vitrail.core.errors import BadInput
from vitrail.models.resnet import ResNet, ResNetConfig
from vitrail.models.variants import variant
from vitrail.models.vit import ViT, ViTConfig

ModelConfig = ViTConfig | ResNetConfig
Model = ViT | ResNet


def build(config: ModelConfig) -> Model:
    """A newly initialised model; raises BadInput for sizes that do not fit together."""
    match config:
        case ViTConfig():
            return ViT(config)
        case ResNetConfig():
            return ResNet(config)


def create_model(
    name: str, *, num_classes: int = 0, resolution: int | tuple[int, int] = 224, hidden: int | None = None
) -> Model:
    """A named variant ("B/16"), officially initialised from torch's global generator, with a zero classifier.

    `hidden`: the width of the hidden tanh layer that pre-training heads of ViTs have.
    """
    config = replace(variant(name), num_classes=num_classes, resolution=as_size(resolution))
    if hidden is not None:
        if isinstance(config, ResNetConfig):
            raise BadInput(f"{name} is a ResNet: it has no hidden layer before its classifier")
        config = replace(config, hidden=hidden)
    return build(config)


def as_size(resolution: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a resolution given as one number or two."""
    size = (resolution, resolution) if isinstance(resolution, int) else (int(resolution[0]), int(resolution[1]))
    if min(size) < 1:
        raise BadInput(f"resolution {resolution} is not positive")
    return size
