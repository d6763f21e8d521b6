"""timm's files and folders. Its names are ours; what has to be found out is the architecture.

L layers · D width · N positions
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from math import inf, isqrt, nextafter
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from vitrail.core.errors import BadInput
from vitrail.data.transforms.pipeline import CentreCrop, Preprocess, SquareResize
from vitrail.models.build import ModelConfig
from vitrail.models.head import AttentionPool, AveragePool, ClassToken, PoolConfig, has_class_token
from vitrail.models.position import Learned1d, NoPosition, PositionConfig, SinCos2d
from vitrail.models.resample import Interpolation
from vitrail.models.resnet import BIT, ResNetConfig, Stages
from vitrail.models.vit import ViTConfig
from vitrail.weights.default_preprocess import as_sentence, usual_preprocess
from vitrail.weights.foreign import ROTARY, refuse_architecture, refuse_keys
from vitrail.weights.pretrained import PretrainedModel, check_state

# Heads of the published shapes, by width; a state dict does not hold them.
_HEADS = {
    **{width: width // 64 for width in (192, 256, 320, 384, 512, 640, 768, 832, 896, 1024, 1536)},
    **dict.fromkeys((1152, 1280, 1408, 1664), 16),
}
# timm's functions of these names have the GELU by tanh; its config.json of them does not say so.
_TANH = re.compile(r"vit_(base_patch32|so400m_patch16|giantopt_patch16)_siglip.*|vit_large_patch16_siglip_(gap_)?512")

# timm computes (w - mean) / sqrt(variance + 1e-8) in both of its ResNets, and its group norms have the eps 1e-5.
_BIT = replace(BIT, weight_eps=1e-8)
_HYBRID = Stages(order="post", eps=1e-5, weight_eps=1e-8, weight_eps_on="variance")

# Other names for what we have: Meta's own DINOv2 and DeiT files, and timm's of some years ago.
_RENAMED = {
    "register_tokens": "reg_token",
    "pre_logits.fc.weight": "pre_logits.weight",
    "pre_logits.fc.bias": "pre_logits.bias",
}
_PARTS = {".mlp.w12.": ".mlp.fc1.", ".mlp.w3.": ".mlp.fc2.", ".gamma_1": ".ls1.gamma", ".gamma_2": ".ls2.gamma"}
_IGNORED = ("mask_token",)  # of pre-training; no part of the classifier
_METAS = re.compile(r"mask_token|register_tokens|blocks\.0\.(mlp\.w12\.weight|gamma_1)")  # names that only Meta's have


def read_timm(
    tensors: Mapping[str, Tensor],
    path: Path,
    about: Mapping[str, Any],
    resolution: tuple[int, int] | None,
    named: ModelConfig | None,
) -> PretrainedModel:
    """A ViT, DeiT, DINOv2, hybrid or BiT ResNet by timm's names.

    Args:
        about: timm's config.json; empty for a bare state dict.
        resolution: what the model was trained at, where neither config nor shapes say it.
        named: a config that says what shapes cannot: the number of heads.

    Raises:
        BadInput: an architecture that vitrail does not have; the message says by which part it was seen.
    """
    try:
        if about:
            refuse_architecture(str(about.get("architecture", "")))
        state, ignored = _named(tensors)
        _refuse_what_names_cannot_say(tensors, about, named)
    except BadInput as problem:
        raise BadInput(f"{path}: {problem}") from None
    settings = _pretrained(about)
    metas = not about and any(_METAS.fullmatch(name) for name in tensors)
    try:
        arguments = dict(about.get("model_args") or {})
        size = _size(arguments.get("img_size"), path) or _size(settings.get("input_size"), path) or resolution
        if "stem.conv.weight" in state:
            config: ModelConfig = _resnet(state, size)
        elif "patch_embed.proj.weight" in state:
            config = _vit(state, str(about.get("architecture", "")), arguments, settings, size, named)
        else:
            raise BadInput(f"{path} is neither a ViT nor a BiT ResNet: it has no patch embedding and no root")
    except (KeyError, IndexError, ValueError, AttributeError, TypeError, RuntimeError, ArithmeticError) as problem:
        if isinstance(problem, BadInput):
            raise BadInput(f"{path}: {problem}") from None
        raise BadInput(f"{path} is no model in timm's layout: missing or misshapen {problem}") from None
    check_state(config, state, path)
    try:
        preprocess, assumed = _preprocess(settings, config, path, metas or "blocks.0.ls1.gamma" in state)
    except (ValueError, TypeError) as problem:
        raise BadInput(f"{path}: the preprocessing in config.json cannot be read: {problem}") from None
    labels = settings.get("label_names")
    classes = tuple(map(str, labels)) if isinstance(labels, list) and len(labels) == config.num_classes else None
    provenance = {"source": str(about.get("architecture") or path.name), "layout": "timm"}
    plain = metas and "reg_token" not in state  # Meta antialiases positions only where there are registers; timm always
    interpolation: Interpolation = "bicubic plain" if plain else "bicubic"
    return PretrainedModel(config, state, preprocess, classes, provenance, ignored, interpolation, assumed)


def _named(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    state: dict[str, Tensor] = {}
    ignored = []
    for name, tensor in tensors.items():
        ours = _RENAMED.get(name, name)
        for part, known in _PARTS.items():
            ours = ours.replace(part, known)
        if ours in _IGNORED:
            ignored.append(name)
        else:
            state[ours] = tensor.float()
    refuse_keys(state)
    if "dist_token" in state:
        raise BadInput("the weights hold 'dist_token': this is a distilled DeiT, which vitrail does not have")
    return state, tuple(ignored)


def _refuse_what_names_cannot_say(
    tensors: Mapping[str, Tensor], about: Mapping[str, Any], named: ModelConfig | None
) -> None:
    """Rotary positions are computed and leave no key: their trace is a table that is missing, or EVA's other names."""
    vit = "patch_embed.proj.weight" in tensors
    arguments = about.get("model_args") or {}
    if vit and "pos_embed" not in tensors and arguments.get("pos_embed") != "none":
        raise BadInput(
            f"the weights hold no table of positions: this model has {ROTARY}, and a ViT without positions only with a "
            "config.json whose model_args say pos_embed 'none'"
        )
    if not vit or "blocks.0.gamma_1" not in tensors:
        return
    rows, width = tensors["pos_embed"].shape[1:]
    if not about and named is None and "mask_token" not in tensors and isqrt(rows) ** 2 == rows:
        raise BadInput(
            "the weights are those of Meta's DeiT III or of a ViT with rotary positions beside its table (rope_ape), "
            f"which have the same names and shapes; if it is DeiT III, name a model with as many heads: "
            f"`vitrail convert FILE FOLDER --model {'S/16' if width == 384 else 'B/16'}`"
        )


def _pretrained(about: Mapping[str, Any]) -> dict[str, Any]:
    """timm keeps these under `pretrained_cfg`, or at the top."""
    inner = about.get("pretrained_cfg")
    return {**about, **(inner if isinstance(inner, dict) else {})}


def _size(value: Any, path: Path) -> tuple[int, int] | None:
    """(height, width) of timm's `img_size` (one number or two) or `input_size` (channels first)."""
    if value is None:
        return None
    numbers = [value, value] if type(value) is int else list(value)[-2:]
    if len(numbers) != 2 or not all(type(n) is int and n > 0 for n in numbers):  # True is an int
        raise BadInput(f"{path}: the image size {value!r} is not one or two positive numbers")
    return numbers[0], numbers[1]


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    return len({m[1] for name in state if (m := re.match(pattern, name))})


def _units(state: Mapping[str, Tensor], prefix: str) -> tuple[int, ...]:
    stages = _count(state, re.escape(prefix) + r"stages\.(\d+)\.")
    return tuple(_count(state, re.escape(prefix) + rf"stages\.{s}\.blocks\.(\d+)\.") for s in range(stages))


def _resnet(state: Mapping[str, Tensor], size: tuple[int, int] | None) -> ResNetConfig:
    kind = _HYBRID if "stem.norm.weight" in state else _BIT
    stages = replace(kind, units=_units(state, ""), width=state["stem.conv.weight"].shape[0])
    classes = state["head.fc.weight"].shape[0] if "head.fc.weight" in state else 0
    return ResNetConfig(stages, size or (224, 224), classes)


def _backbone(state: Mapping[str, Tensor]) -> Stages | None:
    prefix = "patch_embed.backbone."
    root = state.get(f"{prefix}stem.conv.weight", state.get(f"{prefix}conv.weight"))
    return None if root is None else replace(_HYBRID, units=_units(state, prefix), width=root.shape[0])


def _vit(
    state: Mapping[str, Tensor],
    architecture: str,
    arguments: Mapping[str, Any],
    settings: Mapping[str, Any],
    size: tuple[int, int] | None,
    named: ModelConfig | None,
) -> ViTConfig:
    width, _, patch, other = state["patch_embed.proj.weight"].shape
    if patch != other or not patch:
        raise BadInput(f"patches of {patch} x {other} pixels are not square")
    hidden = state["blocks.0.mlp.fc1.weight"].shape[0]
    gated = hidden != state["blocks.0.mlp.fc2.weight"].shape[1]
    usual = "silu" if gated else "gelu_tanh" if _TANH.fullmatch(architecture) else "gelu"
    activation = arguments.get("act_layer") or usual
    if activation not in (("silu",) if gated else ("gelu", "gelu_tanh")):
        raise BadInput(f"vitrail has no {'gated ' if gated else ''}MLPs with the activation {activation!r}")
    registers = state["reg_token"].shape[1] if "reg_token" in state else 0
    pool = _pool(state, arguments, settings)
    config = ViTConfig(
        patch=patch,
        width=width,
        depth=_count(state, r"blocks\.(\d+)\."),
        heads=_heads(state, gated, architecture, arguments, named),
        mlp=hidden // 2 if gated else hidden,
        num_classes=state["head.weight"].shape[0] if "head.weight" in state else 0,
        pool=pool,
        hidden=state["pre_logits.weight"].shape[0] if "pre_logits.weight" in state else None,
        backbone=_backbone(state),
        gelu="tanh" if activation == "gelu_tanh" else "exact",
        registers=registers,
        layer_scale=float(arguments.get("init_values") or 1e-5) if "blocks.0.ls1.gamma" in state else None,
        qk_norm="blocks.0.attn.q_norm.weight" in state,
        gated=gated,
    )
    agree({"embed_dim": config.width, "depth": config.depth}, arguments)
    position, size = _positions(state, config, size)
    return replace(config, position=position, resolution=size)


def agree(found: Mapping[str, int], said: Mapping[str, Any]) -> None:
    """Raises BadInput where a config says another number than the weights."""
    for name, number in found.items():
        if said.get(name) is not None and said[name] != number:
            raise BadInput(f"config.json says {name} {said[name]!r}, the weights have {number}")


def _heads(
    state: Mapping[str, Tensor],
    gated: bool,
    architecture: str,
    arguments: Mapping[str, Any],
    named: ModelConfig | None,
) -> int:
    width = state["patch_embed.proj.weight"].shape[0]
    if isinstance(named, ViTConfig):
        return named.heads
    if arguments.get("num_heads") is not None:
        return whole(arguments["num_heads"], "num_heads")
    if "blocks.0.attn.q_norm.weight" in state:
        return width // state["blocks.0.attn.q_norm.weight"].shape[0]
    if architecture == "vit_base_patch16_gap_224" or (width == 1536 and not gated):  # SigLIP 2's giant
        return 16
    if width in _HEADS:
        return _HEADS[width]
    raise BadInput(
        f"nothing says how many heads a model of width {width} has: name one with as many, "
        "`vitrail convert FILE FOLDER --model S/16 --resolution 224`, then use FOLDER (in Python: model='S/16')"
    )


def whole(number: Any, name: str) -> int:
    """A whole number of a config; raises BadInput for anything else, True included."""
    if type(number) is not int:
        raise BadInput(f"config.json says {name} {number!r}, expected a whole number")
    return number


def _pool(state: Mapping[str, Tensor], arguments: Mapping[str, Any], settings: Mapping[str, Any]) -> PoolConfig:
    if "attn_pool.latent" in state:
        return AttentionPool()
    token, after = "cls_token" in state, "fc_norm.weight" in state
    said = arguments.get("global_pool") or settings.get("global_pool") or "token"
    if said not in ("token", "avg", "map") or arguments.get("pool_include_prefix"):
        raise BadInput(f"vitrail has no pooling {said!r}{' over all tokens' if said in ('avg', 'map') else ''}")
    if after or not token or said == "avg":
        return AveragePool(class_token=token, norm_after=after)
    return ClassToken()


def _positions(
    state: Mapping[str, Tensor], config: ViTConfig, size: tuple[int, int] | None
) -> tuple[PositionConfig, tuple[int, int]]:
    table = state.get("pos_embed")
    if table is None:
        if size is None:
            raise BadInput(
                "nothing says at which resolution this model was trained: give resolution=224 or --resolution"
            )
        return NoPosition(), size
    token, rows = has_class_token(config.pool), table.shape[1]
    if size is not None:
        h, w = replace(config, resolution=size).grid
        if rows in (h * w, h * w + token):
            return Learned1d(class_entry=rows > h * w or not token), size
    for entry in (token, False):  # the config may name another resolution than the one of these positions
        side = isqrt(rows - entry)
        if side * side == rows - entry and side:
            return Learned1d(class_entry=entry or not token), (side * config.stride, side * config.stride)
    raise BadInput(
        f"{rows} positions are no square grid, and no image size says which: give resolution=(height, width)"
    )


def _preprocess(
    settings: Mapping[str, Any], config: ModelConfig, path: Path, metas: bool
) -> tuple[Preprocess, tuple[str, ...]]:
    """What config.json says, and sentences on what it does not say or vitrail does not have."""
    if "mean" not in settings:
        made = usual_preprocess("meta" if metas else "google", config.resolution)
        return made, (as_sentence(made),)
    share = float(settings.get("crop_pct") or 0.875)
    mode, kernel = settings.get("crop_mode") or "center", settings.get("interpolation") or "bicubic"
    nearest: Literal["bilinear", "bicubic"] = "bicubic" if kernel in ("bicubic", "lanczos") else "bilinear"
    assumed = []
    if mode not in ("center", "squash"):
        assumed.append(f"vitrail has no crop_mode {mode!r} and takes the middle of the image")
    if kernel != nearest:
        assumed.append(f"vitrail has no interpolation {kernel!r} and takes {nearest}")
    resize = SquareResize() if mode == "squash" else CentreCrop(share)
    mean, std = three(settings["mean"], path), three(settings.get("std"), path)
    return Preprocess(config.resolution, resize, mean, std, nearest), tuple(assumed)


def three(values: Any, path: Path) -> tuple[float, float, float]:
    """Mean or deviation of the channels; raises BadInput for anything but three numbers."""
    if not isinstance(values, (list, tuple)) or len(values) != 3:
        raise BadInput(f"{path}: {values!r} are not the numbers of three channels")
    return float(values[0]), float(values[1]), float(values[2])


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
        known = config.stages.order == "pre" and (config.stages.units, config.stages.width) in _RESNETS
        return None if known else f"ResNet of stages {config.stages.units}, width {config.stages.width} and this kind"
    position = config.position
    stem = isinstance(position, (NoPosition, SinCos2d)) or (
        isinstance(position, Learned1d) and position.where == "stem"
    )
    known_stages = config.backbone is None or (config.backbone.units in _HYBRIDS and config.backbone.width == 64)
    lacking = {
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
            "input_size": [3, *config.resolution],
            "mean": list(preprocess.mean),
            "std": list(preprocess.std),
            "interpolation": preprocess.interpolation,
            "crop_pct": crop.share if isinstance(crop, CentreCrop) else 1.0,
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
    }
    arguments |= {name: value for name, (value, usual) in optional.items() if value != usual}
    name = _HYBRIDS[config.backbone.units] if config.backbone else "vit_base_patch16_224"
    if config.gated:
        name = "vit_giant_patch14_dinov2"  # the entry whose MLP is gated
    return {"architecture": name, "num_features": config.width, "model_args": arguments}
