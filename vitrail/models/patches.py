"""Equation 1: an image becomes a row of patches, each patch a token by one linear map.

B batch · C channels · y x pixels · h w patch grid · N = h·w patches · P patch side · D width
"""

from einops import rearrange
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn import functional as F

from vitrail.models.initialise import lecun_normal_, uninitialised


def grid_of(resolution: tuple[int, int], patch: int) -> tuple[int, int]:
    """The patch grid (h, w) of an image of height and width; a border that fills no patch is dropped."""
    return resolution[0] // patch, resolution[1] // patch


def patchify(images: Num[Tensor, "b c y x"], patch: int) -> Num[Tensor, "b n pixels"]:
    """Flattened patches in raster order, channels first in each; a border that fills no patch is dropped."""
    h, w = grid_of((images.shape[-2], images.shape[-1]), patch)
    whole = images[..., : h * patch, : w * patch]
    return rearrange(whole, "b c (h p) (w q) -> b (h w) (c p q)", p=patch, q=patch)


class PatchEmbedding(nn.Module):
    """E of equation 1: Linear(P²C -> D), its weight kept in the convolution layout [D, C, P, P] that the field uses.

    In a hybrid (section 3.1) the patches are cut from the feature map of a `backbone`.
    """

    def __init__(self, patch: int, width: int, channels: int = 3, backbone: nn.Module | None = None):
        super().__init__()
        self.patch = patch
        self.backbone = backbone
        self.proj = uninitialised(nn.Conv2d, channels, width, patch, patch)
        lecun_normal_(self.proj.weight)
        nn.init.zeros_(self.proj.bias)

    def forward(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b n d"]:
        pixels = images if self.backbone is None else self.backbone(images)
        return F.linear(patchify(pixels, self.patch), self.proj.weight.flatten(1), self.proj.bias)
