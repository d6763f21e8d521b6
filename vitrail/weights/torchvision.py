"""torchvision's ViTs: other names for timm's tensors, and the classifier wherever its users put one."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from vitrail.core.errors import BadInput
from vitrail.data.transforms.pipeline import CentreCrop, Preprocess
from vitrail.models.build import ModelConfig
from vitrail.weights.default_preprocess import IMAGENET, as_sentence
from vitrail.weights.pretrained import PretrainedModel
from vitrail.weights.timm import read_timm

_NAMES = [
    (r"class_token", "cls_token"),
    (r"encoder\.pos_embedding", "pos_embed"),
    (r"conv_proj\.(.*)", r"patch_embed.proj.\1"),
    (r"encoder\.layers\.encoder_layer_(\d+)\.ln_([12])\.(.*)", r"blocks.\1.norm\2.\3"),
    (r"encoder\.layers\.encoder_layer_(\d+)\.self_attention\.in_proj_(.*)", r"blocks.\1.attn.qkv.\2"),
    (r"encoder\.layers\.encoder_layer_(\d+)\.self_attention\.out_proj\.(.*)", r"blocks.\1.attn.proj.\2"),
    (r"encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:0|linear_1)\.(.*)", r"blocks.\1.mlp.fc1.\2"),
    (r"encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:3|linear_2)\.(.*)", r"blocks.\1.mlp.fc2.\2"),
    (r"encoder\.ln\.(.*)", r"norm.\1"),
    (r"heads\.pre_logits\.(.*)", r"pre_logits.\1"),
    (r"heads\.(?:\w+\.)*(weight|bias)", r"head.\1"),
]


def read_torchvision(
    tensors: Mapping[str, Tensor],
    path: Path,
    about: Mapping[str, Any],
    resolution: tuple[int, int] | None,
    named: ModelConfig | None,
) -> PretrainedModel:
    """A state dict of `torchvision.models.vit_*`; the classifier is the one linear layer under `heads`.

    Seen as its authors see: ImageNet's mean and deviation, bilinear, the middle 87.5 %.

    Raises:
        BadInput: a name that its ViTs do not have, or more layers than one under `heads`.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        ours = next((re.sub(p, to, name) for p, to in _NAMES if re.fullmatch(p, name)), None)
        if ours is None:
            raise BadInput(f"{path} has the weights {name!r}, which no ViT of torchvision has")
        if ours in renamed:
            raise BadInput(f"{path} has several layers under 'heads', as {name!r}: a classifier of one layer is read")
        renamed[ours] = tensor
    made = read_timm(renamed, path, about, resolution, named)
    seen = Preprocess(made.config.resolution, CentreCrop(), *IMAGENET, "bilinear")
    return replace(
        made,
        preprocess=seen,
        assumed=(as_sentence(seen),),
        interpolation="bicubic aligned",
        provenance={**made.provenance, "layout": "torchvision"},
    )
