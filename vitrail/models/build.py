"""From a config to a model: the only list of architectures."""

from vitrail.core.errors import BadInput
from vitrail.models.resnet import ResNet, ResNetConfig
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


def as_size(resolution: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a resolution given as one number or two."""
    size = (resolution, resolution) if isinstance(resolution, int) else (int(resolution[0]), int(resolution[1]))
    if min(size) < 1:
        raise BadInput(f"resolution {resolution} is not positive")
    return size
