"""timm's files and folders. Its names are ours; what has to be found out is the architecture.

L layers · D width · N positions
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitrail.core.errors import BadInput
from vitrail.models.build import ModelConfig
from vitrail.models.head import AttentionPool, AveragePool, ClassToken, PoolConfig, TokenAndDistilled, has_class_token
from vitrail.models.position import Learned1d, NoPosition, PositionConfig
from vitrail.models.resample import Interpolation
from vitrail.models.resnet import BIT, ResNetConfig, Stages
from vitrail.models.vit import ViTConfig
from vitrail.weights.default_preprocess import other_size
from vitrail.weights.foreign import ROTARY, refuse_architecture, refuse_keys
from vitrail.weights.pretrained import PretrainedModel, check_state
from vitrail.weights.timm_config import agree, check_fields, preprocess_of, settings_of, size_of, whole

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
# Of pre-training (masked patches, MAE's decoder, DINO's heads); no part of the classifier.
_IGNORED = re.compile(
    r"mask_token|decoder_(pos_embed|(embed|blocks|norm|pred)\..*)|(head|dino_head|ibot_head)\.(mlp|last_layer)\..*"
)
_METAS = re.compile(
    r"mask_token|decoder_pos_embed|register_tokens|blocks\.0\.(mlp\.w12\.weight|gamma_1)"
)  # names that only Meta's have


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
            check_fields(about)
            refuse_architecture(str(about.get("architecture", "")))
        state, ignored = _named(tensors)
        _refuse_what_names_cannot_say(tensors, about, named)
    except BadInput as problem:
        raise BadInput(f"{path}: {problem}") from None
    settings = settings_of(about)
    metas = not about and any(_METAS.fullmatch(name) for name in tensors)
    try:
        arguments = dict(about.get("model_args") or {})
        size = size_of(arguments.get("img_size"), path) or size_of(settings.get("input_size"), path) or resolution
        if "stem.conv.weight" in state:
            config: ModelConfig = _resnet(state, size)
        elif "patch_embed.proj.weight" in state:
            config = _vit(
                state, "dist_token" in tensors, str(about.get("architecture", "")), arguments, settings, size, named
            )
        else:
            raise BadInput(
                "this is neither a ViT nor a BiT ResNet: it has no patch embedding and no root by known names"
            )
    except (KeyError, IndexError, ValueError, AttributeError, TypeError, RuntimeError, ArithmeticError) as problem:
        if isinstance(problem, BadInput):
            raise BadInput(f"{path}: {problem}") from None
        raise BadInput(f"{path} is no model in timm's layout: missing or misshapen {problem}") from None
    check_state(config, state, path)
    try:
        seen = (size_of(arguments.get("img_size"), path) and config.resolution) or size or config.resolution
        preprocess, assumed = preprocess_of(settings, config, seen, path, metas or "blocks.0.ls1.gamma" in state)
        if seen != config.resolution:
            assumed = (*assumed, other_size(seen, config.resolution))
    except (ValueError, TypeError) as problem:
        reason = str(problem).removeprefix(f"{path}: ")
        raise BadInput(f"{path}: the preprocessing in config.json cannot be read: {reason}") from None
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
        if _IGNORED.fullmatch(ours):
            ignored.append(name)
        else:
            state[ours] = tensor.float()
    refuse_keys(state)
    return _distilled(_one_classifier(state)), tuple(ignored)


def _one_classifier(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A classifier that somebody put into a sequence with dropout (`head.1.weight`) is `head`; more layers are none."""
    found = [name for name in state if re.fullmatch(r"head(\.(\d+|fc))+\.weight", name) and state[name].ndim == 2]
    if len(found) != 1 or "stem.conv.weight" in state:
        return state
    inner = found[0].removesuffix("weight")
    return {"head." + n.removeprefix(inner) if n.startswith(inner) else n: t for n, t in state.items()}


def _distilled(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """DeiT's distillation token as a register with its position in it, and its two classifiers as one of their mean."""
    if "dist_token" not in state:
        return state
    if "head_dist.weight" not in state or "head.weight" not in state:
        raise BadInput("the weights hold 'dist_token': a distilled DeiT is read with its two classifiers only")
    table = state["pos_embed"]
    made = {
        name: tensor
        for name, tensor in state.items()
        if name not in ("dist_token", "head_dist.weight", "head_dist.bias")
    }
    made["reg_token"] = state["dist_token"] + table[:, 1:2]
    made["pos_embed"] = torch.cat([table[:, :1], table[:, 2:]], dim=1)
    made["head.weight"] = torch.cat([state["head.weight"], state["head_dist.weight"]], dim=1) / 2
    made["head.bias"] = (state["head.bias"] + state["head_dist.bias"]) / 2
    return made


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
    state: dict[str, Tensor],
    distilled: bool,
    architecture: str,
    arguments: Mapping[str, Any],
    settings: Mapping[str, Any],
    size: tuple[int, int] | None,
    named: ModelConfig | None,
) -> ViTConfig:
    width, channels, patch, other = state["patch_embed.proj.weight"].shape
    under = _backbone(state)
    inputs = 3 if under else channels
    if patch != other or not patch:
        raise BadInput(f"patches of {patch} x {other} pixels are not square")
    hidden = state["blocks.0.mlp.fc1.weight"].shape[0]
    gated = hidden != state["blocks.0.mlp.fc2.weight"].shape[1]
    usual = "silu" if gated else "gelu_tanh" if _TANH.fullmatch(architecture) else "gelu"
    activation = arguments.get("act_layer") or usual
    if activation not in (("silu",) if gated else ("gelu", "gelu_tanh")):
        raise BadInput(f"vitrail has no {'gated ' if gated else ''}MLPs with the activation {activation!r}")
    registers = state["reg_token"].shape[1] if "reg_token" in state else 0
    pool = _pool(distilled, state, arguments, settings)
    config = ViTConfig(
        patch=patch,
        width=width,
        depth=_count(state, r"blocks\.(\d+)\."),
        heads=_heads(state, gated, architecture, arguments, named),
        mlp=hidden // 2 if gated else hidden,
        num_classes=state["head.weight"].shape[0] if "head.weight" in state else 0,
        pool=pool,
        hidden=state["pre_logits.weight"].shape[0] if "pre_logits.weight" in state else None,
        backbone=under,
        gelu="tanh" if activation == "gelu_tanh" else "exact",
        registers=registers,
        layer_scale=float(arguments.get("init_values") or 1e-5) if "blocks.0.ls1.gamma" in state else None,
        qk_norm="blocks.0.attn.q_norm.weight" in state,
        gated=gated,
        channels=inputs,
    )
    said = {"embed_dim": config.width, "depth": config.depth, "reg_tokens": registers, "in_chans": inputs}
    agree(said | ({} if under else {"patch_size": patch}), arguments)
    agree({"num_classes": config.num_classes} if config.num_classes else {}, settings)
    position, size = _positions(state, config, size)
    return replace(config, position=position, resolution=size)


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


def _pool(
    distilled: bool, state: Mapping[str, Tensor], arguments: Mapping[str, Any], settings: Mapping[str, Any]
) -> PoolConfig:
    if distilled:
        return TokenAndDistilled()
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
    state: dict[str, Tensor], config: ViTConfig, size: tuple[int, int] | None
) -> tuple[PositionConfig, tuple[int, int]]:
    table = state.get("pos_embed")
    if table is None:
        if size is None:
            raise BadInput(
                "nothing says at which resolution this model was trained: give resolution=224 or --resolution"
            )
        return NoPosition(), size
    token = has_class_token(config.pool)
    grids = [replace(config, resolution=size).grid] if size is not None else []
    for prefix in (0, int(token), int(token) + config.registers):  # which tokens before the patches have an entry
        if table.shape[1] > prefix and (side := isqrt(table.shape[1] - prefix)) ** 2 == table.shape[1] - prefix:
            grids.append((side, side))  # the config may name another resolution than the one of these positions
    readings = [(grid, p) for grid in grids for p in sorted({0, int(token), int(token) + config.registers})]
    fitting = [(grid, p) for grid, p in dict.fromkeys(readings) if grid[0] * grid[1] + p == table.shape[1]]
    if size is None and len(fitting) > 1:
        ways = " or ".join(f"{h} x {w} and {p} before them" for (h, w), p in fitting)
        raise BadInput(
            f"{table.shape[1]} positions may be {ways}: say which by resolution="
            f"{' or '.join(str(grid[0] * config.stride) for grid, _ in fitting)}, or --resolution"
        )
    for (h, w), prefix in fitting:
        if prefix > token:  # registers have positions too: these are added to them once and for all
            state["reg_token"] = state["reg_token"] + table[:, int(token) : prefix]
            state["pos_embed"] = torch.cat([table[:, : int(token)], table[:, prefix:]], dim=1)
        fits = size is not None and (h, w) == replace(config, resolution=size).grid
        found = size if fits and size is not None else (h * config.stride, w * config.stride)
        return Learned1d(class_entry=prefix > 0 or not token), found
    raise BadInput(
        f"{table.shape[1]} positions are no square grid, with or without entries for the class token"
        f"{' and registers' if config.registers else ''}, and no image size says which: give resolution=(height, width)"
    )
