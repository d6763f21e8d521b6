"""Hybrids (section 3.1): the stages of a ResNet under the patch embedding of a ViT."""

from jaxtyping import Float
from torch import Tensor, nn

from vitrail.models.resnet import Root, Stages, trunk


class Backbone(nn.Module):
    """A ResNet's feature map. State-dict keys are timm's: `stem` and `stages`."""

    def __init__(self, stages: Stages):
        super().__init__()
        self.stem, self.stages = trunk(stages)

    def forward(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b d h w"]:
        return self.stages(self.stem(images))


def root(under: nn.Module) -> Root:
    """The root of a backbone."""
    return under if isinstance(under, Root) else under.stem  # type: ignore[return-value]


def backbone(stages: Stages) -> nn.Module:
    """The root alone where there are no stages (R+Ti/16)."""
    stages.check()
    return Backbone(stages) if stages.units else Root(stages)
