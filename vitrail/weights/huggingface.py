"""transformers' folders: ViT, DINOv2 and DINOv2 with registers. One table of names serves reading and writing."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from vitrail.core.errors import BadInput
from vitrail.core.files import read_json
from vitrail.data.transforms.pipeline import CentreCrop, Preprocess, SquareResize
from vitrail.models.build import ModelConfig
from vitrail.models.head import AveragePool, ClassToken, PoolConfig, TokenAndAverage
from vitrail.models.position import Learned1d
from vitrail.models.resample import Interpolation
from vitrail.models.vit import ViTConfig
from vitrail.weights.default_preprocess import as_sentence, usual_preprocess
from vitrail.weights.foreign import what_type
from vitrail.weights.key_map import Rule, read, same, stacked, unexpected_keys, write
from vitrail.weights.pretrained import PretrainedModel, check_state
from vitrail.weights.timm import agree, three, whole

Kind = Literal["vit", "dinov2", "dinov2_with_registers"]
KINDS: tuple[Kind, ...] = ("vit", "dinov2", "dinov2_with_registers")
_GELU = {"gelu": "exact", "gelu_pytorch_tanh": "tanh", "gelu_new": "tanh"}
_IGNORED = ("embeddings.mask_token",)  # of pre-training; no part of the model


def read_huggingface(tensors: Mapping[str, Tensor], folder: Path, about: Mapping[str, Any]) -> PretrainedModel:
    """A model in transformers' names; `about` is its config.json.

    Raises:
        BadInput: another model type, or weights that do not fit the config.
    """
    kind = about.get("model_type")
    if kind not in KINDS:
        raise BadInput(
            f"{folder} is a transformers model of type {kind!r}{what_type(str(kind))}; read are {', '.join(KINDS)}"
        )
    prefix = f"{kind}."
    names = {name.removeprefix(prefix): name for name in tensors}
    bare = {short: tensors[name] for short, name in names.items()}
    try:
        config = _config(cast(Kind, kind), bare, about)
        lines = layout(config, cast(Kind, kind))
        state = read(lines, bare)
    except (KeyError, IndexError, ValueError, TypeError, RuntimeError, ArithmeticError) as problem:
        if isinstance(problem, BadInput):
            raise BadInput(f"{folder}: {problem}") from None
        raise BadInput(f"{folder} is no {kind} model of transformers: missing or misshapen {problem}") from None
    others = unexpected_keys(lines, bare)
    unknown = [name for name in others if name not in _IGNORED and not name.startswith("pooler.")]
    if unknown:
        raise BadInput(f"{folder} has the weights {unknown[0]!r}, which no {kind} model of transformers has")
    check_state(config, state, folder)
    provenance = {"source": str(about.get("_name_or_path") or folder.name), "layout": "transformers"}
    classes = _classes(about, config.num_classes)
    preprocess, assumed = _preprocess(folder, config, cast(Kind, kind))
    # as its code does; only the kind with registers is antialiased
    interpolation: Interpolation = "bicubic" if kind == "dinov2_with_registers" else "bicubic plain"
    return PretrainedModel(config, state, preprocess, classes, provenance, others, interpolation, assumed)


def _config(kind: Kind, bare: Mapping[str, Tensor], about: Mapping[str, Any]) -> ViTConfig:
    projection = bare["embeddings.patch_embeddings.projection.weight"]
    depth = len({name.split(".")[2] for name in bare if name.startswith("encoder.layer.")})
    activation = str(about.get("hidden_act", "gelu"))
    if activation not in _GELU:
        raise BadInput(f"the activation {activation!r} is not one of {', '.join(_GELU)}")
    size = about.get("image_size", 224)
    sides = (size, size) if isinstance(size, int) else (size[0], size[1])
    height, width = (whole(side, "image_size") for side in sides)
    classes = bare["classifier.weight"].shape[0] if "classifier.weight" in bare else 0
    if kind == "vit":
        mlp, gated = bare["encoder.layer.0.intermediate.dense.weight"].shape[0], False
        pool: PoolConfig = ClassToken()
        hidden = bare["pooler.dense.weight"].shape[0] if "pooler.dense.weight" in bare and not classes else None
        if hidden and about.get("pooler_act", "tanh") != "tanh":
            raise BadInput(f"the activation of the pooler is {about['pooler_act']!r}, vitrail has tanh")
    else:
        gated = "encoder.layer.0.mlp.weights_in.weight" in bare
        last = bare[f"encoder.layer.0.mlp.{'weights_out' if gated else 'fc2'}.weight"]
        mlp, hidden = last.shape[1], None
        pool = TokenAndAverage() if classes else ClassToken()
    sizes = {"hidden_size": projection.shape[0], "num_hidden_layers": depth, "patch_size": projection.shape[2]}
    agree(sizes | ({"intermediate_size": mlp} if kind == "vit" else {}), about)
    registers = bare["embeddings.register_tokens"].shape[1] if "embeddings.register_tokens" in bare else 0
    return ViTConfig(
        patch=projection.shape[2],
        width=projection.shape[0],
        depth=depth,
        heads=whole(about["num_attention_heads"], "num_attention_heads"),
        mlp=mlp,
        resolution=(height, width),
        num_classes=classes,
        pool=pool,
        hidden=hidden,
        gelu=cast(Literal["tanh", "exact"], _GELU[activation]),
        eps=float(about.get("layer_norm_eps", 1e-12 if kind == "vit" else 1e-6)),
        registers=registers,
        layer_scale=float(about.get("layerscale_value", 1.0)) if kind != "vit" else None,
        gated=gated,
    )


def layout(config: ViTConfig, kind: Kind) -> list[Rule]:
    """Every tensor of a model, without the prefix of the model's type."""
    lines = [
        *same("cls_token", "embeddings.cls_token"),
        *same("pos_embed", "embeddings.position_embeddings"),
        *_layer("patch_embed.proj", "embeddings.patch_embeddings.projection"),
        *_layer("norm", "layernorm"),
    ]
    if config.registers:
        lines += same("reg_token", "embeddings.register_tokens")
    for i in range(config.depth):
        lines += _block(f"blocks.{i}", f"encoder.layer.{i}", config, kind)
    if config.hidden:
        lines += _layer("pre_logits", "pooler.dense")
    if config.num_classes:
        lines += _layer("head", "classifier")
    return lines


def _layer(ours: str, theirs: str) -> list[Rule]:
    return same(f"{ours}.weight", f"{theirs}.weight") + same(f"{ours}.bias", f"{theirs}.bias")


def _block(ours: str, theirs: str, config: ViTConfig, kind: Kind) -> list[Rule]:
    dino = kind != "vit"
    parts = [f"{theirs}.attention.attention.{part}" for part in ("query", "key", "value")]
    lines = [
        Rule(f"{ours}.attn.qkv.weight", tuple(f"{part}.weight" for part in parts), stacked(3)),
        Rule(f"{ours}.attn.qkv.bias", tuple(f"{part}.bias" for part in parts), stacked(3)),
        *_layer(f"{ours}.attn.proj", f"{theirs}.attention.output.dense"),
        *_layer(f"{ours}.norm1", f"{theirs}.norm1" if dino else f"{theirs}.layernorm_before"),
        *_layer(f"{ours}.norm2", f"{theirs}.norm2" if dino else f"{theirs}.layernorm_after"),
    ]
    if dino:
        first, second = ("weights_in", "weights_out") if config.gated else ("fc1", "fc2")
        lines += _layer(f"{ours}.mlp.fc1", f"{theirs}.mlp.{first}") + _layer(
            f"{ours}.mlp.fc2", f"{theirs}.mlp.{second}"
        )
        lines += same(f"{ours}.ls1.gamma", f"{theirs}.layer_scale1.lambda1")
        return lines + same(f"{ours}.ls2.gamma", f"{theirs}.layer_scale2.lambda1")
    lines += _layer(f"{ours}.mlp.fc1", f"{theirs}.intermediate.dense")
    return lines + _layer(f"{ours}.mlp.fc2", f"{theirs}.output.dense")


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
        f"pooling {type(config.pool).__name__}": not isinstance(config.pool, pools)
        or isinstance(config.pool, AveragePool),
        f"positions {type(position).__name__} of this kind": not (
            isinstance(position, Learned1d) and position.where == "stem"
        ),
        "grid that is not square": dino and config.grid[0] != config.grid[1],
        "registers without layer scale": config.registers and not dino,
        "gated MLPs without layer scale": config.gated and not dino,
        "norms of q and k": config.qk_norm,
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
        "num_channels": 3,
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
        "resample": 3 if preprocess.interpolation == "bicubic" else 2,
        "rescale_factor": 1 / 255,
    }
    match preprocess.resize:
        case SquareResize():
            return {**common, "image_processor_type": "ViTImageProcessor", "size": both}
        case CentreCrop(share):
            shorter = {"shortest_edge": round(min(height, width) / share)}
            crop = {"do_center_crop": True, "crop_size": both, "size": shorter}
            return {**common, "image_processor_type": "BitImageProcessor", **crop}


def _classes(about: Mapping[str, Any], count: int) -> tuple[str, ...] | None:
    names = about.get("id2label")
    if not count or not isinstance(names, dict) or len(names) != count:
        return None
    try:
        return tuple(str(names[str(i)]) for i in range(count))
    except KeyError:
        return None


_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}  # Pillow's numbers


def _preprocess(folder: Path, config: ViTConfig, kind: Kind) -> tuple[Preprocess, tuple[str, ...]]:
    """What preprocessor_config.json says, and sentences on what it does not say or vitrail does not have."""
    path = folder / "preprocessor_config.json"
    if not path.exists():
        usual = usual_preprocess("transformers" if kind == "vit" else "meta", config.resolution)
        return usual, (as_sentence(usual),)
    said = read_json(path)
    if not isinstance(said, dict):
        raise BadInput(f"{path} holds no object")
    size, crop = said.get("size"), said.get("crop_size")
    resize: SquareResize | CentreCrop = SquareResize()
    if said.get("do_center_crop") and isinstance(size, dict) and isinstance(size.get("shortest_edge"), int):
        side, edge = crop.get("height") if isinstance(crop, dict) else crop, size["shortest_edge"]
        if not isinstance(side, int) or min(side, edge) < 1:
            raise BadInput(f"{path}: a crop of {side!r} of {edge!r} pixels; both must be positive numbers")
        resize = CentreCrop(min(1.0, side / edge))
    if said.get("do_rescale") is False:
        raise BadInput(f"{path}: do_rescale is false; this model reads pixels of 0 to 255, which vitrail does not give")
    assumed = []
    kernel = _RESAMPLE.get(said["resample"], "?") if isinstance(said.get("resample"), int) else "bilinear"
    nearest: Literal["bilinear", "bicubic"] = "bicubic" if kernel in ("bicubic", "lanczos") else "bilinear"
    if kernel != nearest:
        assumed.append(f"vitrail has no interpolation {kernel!r} and takes {nearest}")
    cut = _sides(crop if isinstance(resize, CentreCrop) else size)
    if cut is not None and cut != config.resolution:
        pixels = "{} x {} pixels".format(*cut)
        assumed.append(
            f"preprocessor_config.json makes images of {pixels}, config.json says image_size "
            f"{config.resolution[0]} x {config.resolution[1]}, which is taken; --resolution gives another"
        )
    made = Preprocess(config.resolution, resize, interpolation=nearest)
    if said.get("do_normalize") is False:
        made = replace(made, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    elif "image_mean" in said:
        made = replace(made, mean=three(said["image_mean"], path), std=three(said.get("image_std"), path))
    return made, tuple(assumed)


def _sides(size: Any) -> tuple[int, int] | None:
    """(height, width) of what a preprocessor makes, given as a number or an object; None where it does not say."""
    sides = (size.get("height"), size.get("width")) if isinstance(size, dict) else (size, size)
    return cast(tuple[int, int], sides) if all(type(side) is int for side in sides) else None
