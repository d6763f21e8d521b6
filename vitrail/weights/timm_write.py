"""Into timm's layout: what it can say of a model, in the words of its config.json."""

from collections.abc import Mapping
from dataclasses import replace
from math import inf, nextafter
from typing import Any, Literal

from torch import Tensor

from vitrail.core.errors import BadInput
from vitrail.data.transforms.pipeline import CentreCrop, Preprocess
from vitrail.models.build import ModelConfig
from vitrail.models.head import AttentionPool, AveragePool, ClassToken
from vitrail.models.position import Learned1d, NoPosition, SinCos2d
from vitrail.models.resnet import ResNetConfig
from vitrail.models.vit import ViTConfig


def write_timm(config: ModelConfig, state: Mapping[str, Tensor]) -> tuple[ModelConfig, dict[str, Tensor]]:
    """The config and state that timm expresses: registers have no position entry there, nor has the class token then.

    Raises:
        BadInput: an architecture that timm does not have.
    """
    refused = _lacking(config)
    if refused:
        raise BadInput(f"timm has no {refused}; a bundle keeps everything")
    if _folds(config):
        assert isinstance(config, ViTConfig)
        table = state["pos_embed"]
        folded = {**state, "cls_token": state["cls_token"] + table[:, :1], "pos_embed": table[:, 1:].contiguous()}
        return replace(config, position=Learned1d(class_entry=False)), folded
    return config, dict(state)


def _folds(config: ModelConfig) -> bool:
    if not isinstance(config, ViTConfig) or not config.registers or not config.class_token:
        return False
    position = config.position
    return isinstance(position, SinCos2d) or (isinstance(position, Learned1d) and position.class_entry)


_Architecture = tuple[tuple[int, ...], int]
_HYBRIDS: dict[tuple[int, ...], str] = {
    (): "vit_tiny_r_s16_p8_224",
    (2, 2, 2, 2): "vit_small_r26_s32_224",
    (3, 4, 9): "vit_base_r50_s16_224",
    (3, 4, 6, 3): "vit_large_r50_s32_224",
}
_RESNETS: dict[_Architecture, str] = {
    ((3, 4, 6, 3), 64): "resnetv2_50x1_bit",
    ((3, 4, 6, 3), 192): "resnetv2_50x3_bit",
    ((3, 4, 23, 3), 64): "resnetv2_101x1_bit",
    ((3, 4, 23, 3), 192): "resnetv2_101x3_bit",
    ((3, 8, 36, 3), 128): "resnetv2_152x2_bit",
    ((3, 8, 36, 3), 256): "resnetv2_152x4_bit",
}


def _lacking(config: ModelConfig) -> str | None:
    """What timm cannot say of a model; None when it can build it."""
    if isinstance(config, ResNetConfig):
        if config.axial_heads:
            return "axial attention"
        known = config.stages.order == "pre" and (config.stages.units, config.stages.width) in _RESNETS
        return None if known else f"ResNet of stages {config.stages.units}, width {config.stages.width} and this kind"
    position = config.position
    stem = isinstance(position, (NoPosition, SinCos2d)) or (
        isinstance(position, Learned1d) and position.where == "stem"
    )
    known_stages = config.backbone is None or (config.backbone.units in _HYBRIDS and config.backbone.width == 64)
    lacking = {
        "axial attention": config.axial,
        "hidden layer before the classifier": config.hidden,
        f"positions {type(position).__name__} of this kind": not stem,
        f"pooling {type(config.pool).__name__}": not isinstance(config.pool, (ClassToken, AveragePool, AttentionPool)),
        "gated MLPs beside attention pooling or a ResNet": config.gated
        and (config.backbone is not None or isinstance(config.pool, AttentionPool)),
        f"hybrid with the stages {config.backbone.units if config.backbone else ()}": not known_stages,
    }
    return next((what for what, wanted in lacking.items() if wanted), None)


def timm_keys(config: ModelConfig, preprocess: Preprocess, classes: tuple[str, ...]) -> dict[str, Any]:
    """timm's own description of the same architecture for config.json; empty where it has none, or other weights."""
    if _lacking(config) or _folds(config):
        return {}
    resnet = isinstance(config, ResNetConfig)
    described = _describe_resnet(config) if isinstance(config, ResNetConfig) else _describe_vit(config)
    crop = preprocess.resize
    centre = isinstance(crop, CentreCrop)
    first = "stem.conv" if resnet else "patch_embed.proj"
    if isinstance(config, ViTConfig) and config.backbone:
        first = "patch_embed.backbone" + (".stem.conv" if config.backbone.units else ".conv")
    return {
        **described,
        "num_classes": config.num_classes,
        "pretrained_cfg": {
            "input_size": [config.channels, *preprocess.resolution],
            "mean": list(preprocess.mean),
            "std": list(preprocess.std),
            "interpolation": preprocess.interpolation,
            "crop_pct": crop.share,
            "crop_mode": "center" if centre else "squash",
            "num_classes": config.num_classes,
            "label_names": list(classes),
            "first_conv": first,
            "classifier": "head.fc" if resnet else "head",
        },
    }


def _describe_resnet(config: ResNetConfig) -> dict[str, Any]:
    name = _RESNETS[config.stages.units, config.stages.width]
    return {"architecture": name, "num_features": config.stages.channels, "model_args": {}}


def _ratio(hidden: int, width: int) -> float:
    """The number whose product with the width timm rounds down to `hidden`."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else nextafter(ratio, inf)


def _describe_vit(config: ViTConfig) -> dict[str, Any]:
    global_pool: Literal["token", "avg", "map"]
    match config.pool:
        case AveragePool():
            global_pool = "avg"
        case AttentionPool():
            global_pool = "map"
        case _:
            global_pool = "token"
    folded = isinstance(config.position, Learned1d) and not config.position.class_entry
    arguments: dict[str, Any] = {
        "img_size": list(config.resolution),
        "patch_size": config.patch,
        "embed_dim": config.width,
        "depth": config.depth,
        "num_heads": config.heads,
        "mlp_ratio": _ratio(2 * config.mlp if config.gated else config.mlp, config.width),
        "class_token": config.class_token,
        "global_pool": global_pool,
        "fc_norm": isinstance(config.pool, AveragePool) and config.pool.norm_after,
        "act_layer": "silu" if config.gated else "gelu_tanh" if config.gelu == "tanh" else "gelu",
    }
    optional = {
        "no_embed_class": (folded or bool(config.registers), False),
        "pos_embed": ("none" if isinstance(config.position, NoPosition) else "learn", "learn"),
        "reg_tokens": (config.registers, 0),
        "init_values": (0.0 if config.gated and config.layer_scale is None else config.layer_scale, None),
        "qk_norm": (config.qk_norm, False),
        "in_chans": (config.channels, 3),
    }
    arguments |= {name: value for name, (value, usual) in optional.items() if value != usual}
    name = _HYBRIDS[config.backbone.units] if config.backbone else "vit_base_patch16_224"
    if config.gated:
        name = "vit_giant_patch14_dinov2"  # the entry whose MLP is gated
    return {"architecture": name, "num_features": config.width, "model_args": arguments}
