"""MAE with its decoder, in transformers' layout (`ViTMAEForPreTraining`) in and out, and from Meta's own files."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from vitrail.core.errors import BadInput
from vitrail.models.build import ModelConfig
from vitrail.models.head import ClassToken
from vitrail.models.mae import MAE
from vitrail.models.position import Learned1d, SinCos2d
from vitrail.models.vit import ViTConfig
from vitrail.weights.huggingface import as_saved, block_rules, layer_rules, layout
from vitrail.weights.key_map import Rule, read, same, write
from vitrail.weights.pretrained import PretrainedModel, TrainedWith, check_trained_with
from vitrail.weights.timm_config import whole

METAS = 512, 16  # width of the decoder in all of Meta's files, and its heads, which shapes do not say


def decoder_layout(config: ViTConfig, depth: int) -> list[Rule]:
    """The tensors of the decoder."""
    lines = [
        *same("mask_token", "decoder.mask_token"),
        *same("decoder_pos_embed", "decoder.decoder_pos_embed"),
        *layer_rules("decoder_embed", "decoder.decoder_embed"),
        *layer_rules("decoder_norm", "decoder.decoder_norm"),
        *layer_rules("decoder_pred", "decoder.decoder_pred"),
    ]
    for i in range(depth):
        lines += block_rules(f"decoder_blocks.{i}", f"decoder.decoder_layers.{i}", config, "vit_mae")
    return lines


def with_decoder(
    made: PretrainedModel, tensors: Mapping[str, Tensor], folder: Path, about: Mapping[str, Any]
) -> PretrainedModel:
    """The model of a folder of transformers, with MAE's decoder where its weights are there.

    Raises:
        BadInput: weights that do not fit the config.
    """
    # transformers 5 saves `decoder_layers.0` by a wrong name, and reads both
    bare = {
        as_saved(name, "vit_mae").replace("decoder_encoder.layer.", "decoder_layers."): tensor
        for name, tensor in tensors.items()
    }
    config = made.config
    if about.get("model_type") != "vit_mae" or "decoder.decoder_embed.weight" not in bare or config.num_classes:
        return made
    assert isinstance(config, ViTConfig)
    try:
        first = bare["decoder.decoder_layers.0.intermediate.dense.weight"]
        objective = MAE(
            masked=float(about.get("mask_ratio", 0.75)),
            decoder_width=first.shape[1],
            decoder_depth=len({n.split(".")[2] for n in bare if n.startswith("decoder.decoder_layers.")}),
            decoder_heads=whole(about.get("decoder_num_attention_heads", 16), "decoder_num_attention_heads"),
            decoder_mlp=first.shape[0],
            normalised=bool(about.get("norm_pix_loss", False)),
        )
        state = read(decoder_layout(config, objective.decoder_depth), bare)
    except (KeyError, IndexError, ValueError, TypeError, RuntimeError) as problem:
        reason = str(problem) if isinstance(problem, BadInput) else f"missing or misshapen {problem}"
        raise BadInput(f"{folder}: the decoder of MAE cannot be read: {reason}") from None
    beside = TrainedWith(objective, state)
    check_trained_with(config, beside, folder)
    left = tuple(name for name in made.left_over if not name.startswith("decoder."))
    return replace(made, trained_with=beside, left_over=left)


def with_metas_decoder(made: PretrainedModel, tensors: Mapping[str, Tensor], path: Path) -> PretrainedModel:
    """The model of one of Meta's files (`mae_pretrain_vit_base_full.pth`), with the decoder that is in it."""
    config, embed = made.config, tensors.get("decoder_embed.weight")
    if embed is None or embed.shape[0] != METAS[0] or not isinstance(config, ViTConfig) or config.num_classes:
        return made
    state = {n: t.float() for n, t in tensors.items() if n == "mask_token" or n.startswith("decoder_")}
    depth = len({name.split(".")[1] for name in state if name.startswith("decoder_blocks.")})
    first = state.get("decoder_blocks.0.mlp.fc1.weight")
    if first is None:
        return made
    objective = MAE(decoder_depth=depth, decoder_heads=METAS[1], decoder_mlp=first.shape[0])
    beside = TrainedWith(objective, state)
    check_trained_with(config, beside, path)
    left = tuple(name for name in made.left_over if name not in state)
    said = "MAE's decoder is taken to have 16 heads, 75 % masked patches and normalised targets, as Meta's have"
    return replace(made, trained_with=beside, left_over=left, assumed=(*made.assumed, said))


def write_mae(
    config: ModelConfig, state: Mapping[str, Tensor], beside: TrainedWith
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and config.json of a `ViTMAEForPreTraining`.

    Raises:
        BadInput: an architecture that it does not have; the message names the part.
    """
    objective, position = beside.objective, config.position if isinstance(config, ViTConfig) else None
    if not isinstance(config, ViTConfig) or not isinstance(objective, MAE):
        raise BadInput("transformers' ViTMAE is a ViT that was trained by mae")
    entry = isinstance(position, SinCos2d) or (
        isinstance(position, Learned1d) and position.where == "stem" and position.class_entry
    )
    lacking = {
        f"pooling {type(config.pool).__name__}": not isinstance(config.pool, ClassToken),
        f"positions {type(position).__name__} of this kind": not entry,
        "image that is not square": config.grid[0] != config.grid[1],
        "registers": config.registers > 0,
        "layer scale": config.layer_scale is not None,
        "gated MLPs": config.gated,
        "norms of q and k": config.qk_norm,
    }
    for what, wanted in lacking.items():
        if wanted:
            raise BadInput(f"transformers' ViTMAE has no {what}; a bundle keeps everything")
    tensors = {f"vit.{name}": tensor for name, tensor in write(layout(config, "vit_mae"), state).items()}
    tensors |= write(decoder_layout(config, objective.decoder_depth), beside.state)
    about = {
        "architectures": ["ViTMAEForPreTraining"],
        "model_type": "vit_mae",
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "intermediate_size": config.mlp,
        "hidden_act": "gelu" if config.gelu == "exact" else "gelu_pytorch_tanh",
        "layer_norm_eps": config.eps,
        "image_size": config.resolution[0],
        "patch_size": config.patch,
        "num_channels": config.channels,
        "qkv_bias": True,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": 0.0,
        "decoder_hidden_size": objective.decoder_width,
        "decoder_num_hidden_layers": objective.decoder_depth,
        "decoder_num_attention_heads": objective.decoder_heads,
        "decoder_intermediate_size": objective.decoder_mlp,
        "mask_ratio": objective.masked,
        "norm_pix_loss": objective.normalised,
        "dtype": "float32",
    }
    return tensors, about
