"""Embedding filters (figure 7 left): the principal components of the patch embedding, as small pictures.

D filters · C channels · P patch side · K components
"""

import torch
from jaxtyping import Float
from torch import Tensor

from vitrail.models.build import Model
from vitrail.models.hybrid import root
from vitrail.models.resnet import ResNet, standardise


def first_layer(model: Model) -> Float[Tensor, "d c p p"]:
    """The weight that meets the pixels: the patch embedding, or, standardised as it is used, the root of a ResNet."""
    if isinstance(model, ResNet):
        conv = model.stem.conv
    elif model.patch_embed.backbone is None:
        return model.patch_embed.proj.weight
    else:
        conv = root(model.patch_embed.backbone).conv
    return standardise(conv.weight, conv.eps, conv.on_variance)


def embedding_filters(
    weight: Float[Tensor, "d c p p"], components: int = 28
) -> tuple[Float[Tensor, "k c p p"], Float[Tensor, " k"]]:
    """The first principal components of the D filters (samples of C·P·P numbers), and their shares of the variance.

    At most min(D, C·P·P) of them. The sign of a component is arbitrary; here its largest entry is positive.
    """
    filters = weight.detach().double().flatten(1)
    centred = filters - filters.mean(dim=0)
    _, scale, rows = torch.linalg.svd(centred, full_matrices=False)
    basis = rows[:components]
    largest = basis.gather(1, basis.abs().argmax(dim=1, keepdim=True))
    variance = scale.square() / scale.square().sum().clamp_min(1e-30)
    pictures = (basis * largest.sign()).reshape(-1, *weight.shape[1:])
    return pictures.float(), variance[:components].float()


def for_display(pictures: Float[Tensor, "k c p p"]) -> Float[Tensor, "k p p c"]:
    """Each picture scaled to 0…1 by its own minimum and maximum, channels last."""
    flat = pictures.flatten(1)
    low, high = flat.min(dim=1).values, flat.max(dim=1).values
    span = (high - low).clamp_min(1e-12)
    return ((pictures - low.view(-1, 1, 1, 1)) / span.view(-1, 1, 1, 1)).permute(0, 2, 3, 1)
