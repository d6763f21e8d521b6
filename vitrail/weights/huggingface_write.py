"""Into transformers' layout: ViT, DINOv2 and DINOv2 with registers, their config.json and preprocessor_config.json."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vitrail.core.errors import BadInput
from vitrail.data.transforms.pipeline import CentreCrop, Preprocess, SquareResize
from vitrail.models.build import ModelConfig
from vitrail.models.head import ClassToken, TokenAndAverage
from vitrail.models.position import Learned1d
from vitrail.models.vit import ViTConfig
from vitrail.weights.huggingface import Kind, layout
from vitrail.weights.huggingface_preprocess import RESAMPLE
from vitrail.weights.key_map import write


def write_huggingface(
    config: ModelConfig, state: Mapping[str, Tensor], classes: tuple[str, ...]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and config.json of a folder; a class token without a position entry gets one of zeros.

    Raises:
        BadInput: an architecture that transformers' ViT and DINOv2 do not have; the message names the part.
    """
    kind = _kind(config)
    assert isinstance(config, ViTConfig)
    position = config.position
    if isinstance(position, Learned1d) and not position.class_entry:
        table = state["pos_embed"]
        state = {**state, "pos_embed": torch.cat([torch.zeros_like(table[:, :1]), table], dim=1)}
    tensors = write(layout(config, kind), state)
    if kind != "vit":
        tensors["embeddings.mask_token"] = torch.zeros(1, config.width)
    base = not config.num_classes
    prefix = "" if base else f"{kind}."
    named = {name if name.startswith("classifier.") else prefix + name: tensor for name, tensor in tensors.items()}
    return named, _about(config, kind, classes)


def _kind(config: ModelConfig) -> Kind:
    if not isinstance(config, ViTConfig) or config.backbone:
        raise BadInput("transformers' ViT and DINOv2 have no ResNet under them; a bundle or timm's folder keeps it")
    position = config.position
    dino = config.layer_scale is not None
    kind: Kind = "vit" if not dino else "dinov2_with_registers" if config.registers else "dinov2"
    pools = (TokenAndAverage,) if dino and config.num_classes else (ClassToken,)
    lacking = {
        f"pooling {type(config.pool).__name__}": not isinstance(config.pool, pools),
        f"positions {type(position).__name__} of this kind": not (
            isinstance(position, Learned1d) and position.where == "stem"
        ),
        "grid that is not square": dino and config.grid[0] != config.grid[1],
        "registers without layer scale": config.registers and not dino,
        "gated MLPs without layer scale": config.gated and not dino,
        "norms of q and k": config.qk_norm,
        "axial attention": config.axial,
        "hidden layer before a classifier": config.hidden and (config.num_classes or dino),
    }
    for what, wanted in lacking.items():
        if wanted:
            raise BadInput(f"transformers' {kind} has no {what}; a bundle keeps everything")
    if config.gated and config.mlp != gated_width(config.width, 4):
        raise BadInput(f"transformers' {kind} computes the width of gated MLPs, {config.mlp} is another one")
    if dino and not config.gated and config.mlp % config.width:
        raise BadInput(f"transformers' {kind} has MLPs of a whole multiple of the width, not {config.mlp}")
    return kind


def gated_width(width: int, ratio: int) -> int:
    """What DINOv2 makes of an MLP ratio where the MLP is gated: two thirds, rounded up to a multiple of 8."""
    return (int(width * ratio * 2 / 3) + 7) // 8 * 8


def _about(config: ViTConfig, kind: Kind, classes: tuple[str, ...]) -> dict[str, Any]:
    model = {"vit": "ViT", "dinov2": "Dinov2", "dinov2_with_registers": "Dinov2WithRegisters"}[kind]
    height, width = config.resolution
    about: dict[str, Any] = {
        "architectures": [f"{model}ForImageClassification" if config.num_classes else f"{model}Model"],
        "model_type": kind,
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "hidden_act": "gelu" if config.gelu == "exact" else "gelu_pytorch_tanh",
        "layer_norm_eps": config.eps,
        "image_size": height if height == width else [height, width],
        "patch_size": config.patch,
        "num_channels": config.channels,
        "qkv_bias": True,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": 0.0,
        "dtype": "float32",
    }
    if kind == "vit":
        about["intermediate_size"] = config.mlp
        if config.hidden:
            about |= {"pooler_output_size": config.hidden, "pooler_act": "tanh"}
    else:
        about |= {
            "mlp_ratio": 4 if config.gated else config.mlp // config.width,
            "use_swiglu_ffn": config.gated,
            "layerscale_value": config.layer_scale,
        }
        if config.registers:
            about["num_register_tokens"] = config.registers
    if config.num_classes:
        about["id2label"] = {str(i): name for i, name in enumerate(classes)}
        about["label2id"] = {name: i for i, name in enumerate(classes)}
    return about


def write_preprocess(preprocess: Preprocess) -> dict[str, Any]:
    """preprocessor_config.json."""
    height, width = preprocess.resolution
    both = {"height": height, "width": width}
    common = {
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(preprocess.mean),
        "image_std": list(preprocess.std),
        "resample": next(n for n, name in RESAMPLE.items() if name == preprocess.interpolation),
        "rescale_factor": 1 / 255,
    }
    match preprocess.resize:
        case SquareResize(1.0):
            return {**common, "image_processor_type": "ViTImageProcessor", "size": both}
        case CentreCrop(share) if height == width:
            crop = {"do_center_crop": True, "crop_size": both, "size": {"shortest_edge": round(height / share)}}
            return {**common, "image_processor_type": "BitImageProcessor", **crop}
        case SquareResize(share) | CentreCrop(share):  # of a square image it would fill what a long crop lacks
            tall = round(height / share)
            larger = {"height": tall, "width": round(width * tall / height)}
            crop = {"do_center_crop": True, "crop_size": both, "size": larger}
            return {**common, "image_processor_type": "DeiTImageProcessor", **crop}
