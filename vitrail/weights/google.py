"""Google's ViT files: vit_jax's of both vintages and big_vision's, plain and hybrid. Shapes say all about the model.

D width · H heads · N positions
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from math import isqrt
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vitrail.core.errors import BadInput
from vitrail.data.transforms.pipeline import Preprocess, SquareResize
from vitrail.models.head import AttentionPool, AveragePool, ClassToken
from vitrail.models.position import Learned1d, PositionConfig, SinCos2d, sincos2d
from vitrail.models.resnet import Stages
from vitrail.models.vit import ViTConfig
from vitrail.weights.key_map import (
    CONV,
    DENSE,
    FLAT,
    SAME,
    Rule,
    from_heads,
    heads_bias,
    heads_kernel,
    read,
    unexpected_keys,
    units_of_stages,
    write,
)
from vitrail.weights.pretrained import PretrainedModel, check_state


class Vintage(NamedTuple):
    """The names of a block's modules."""

    norm1: str
    attention: str
    norm2: str
    mlp: str


BEFORE_LINEN = Vintage("LayerNorm_0", "MultiHeadDotProductAttention_1", "LayerNorm_2", "MlpBlock_3")  # one counter
LINEN = Vintage("LayerNorm_0", "MultiHeadDotProductAttention_0", "LayerNorm_1", "MlpBlock_0")  # one for each kind

# vit_jax, big_vision, big_vision before 2022
_POSITIONS = ("Transformer/posembed_input/pos_embedding", "pos_embedding", "Transformer/pos_embedding")
_OWN = re.compile(r"Transformer/|MAPHead_0/|embedding/|conv_root/|gn_root/|block\d+/unit\d+/")  # the model's, all known
MAX_DEPTH = 1000  # of blocks that a scan stacked; each becomes tensors


def read_google(tensors: Mapping[str, Tensor], path: Path, resolution: tuple[int, int] | None) -> PretrainedModel:
    """A ViT. Its position table must fill a square grid: these files do not store the grid.

    vit_jax tests on the whole image, both sides resized; big_vision on the middle of it. Of a file of two towers the
    image's is read, without the head, which projects to what the towers share and is no classifier.

    Args:
        resolution: only needed where positions are computed and not stored (sines and cosines).

    Raises:
        BadInput: not such a file, shapes that contradict each other, or weights of the model that are not known.
    """
    try:
        prefix = _prefix(tensors)
        named = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        named = _map_head_named(_unstacked(named))
        vintage = _vintage(named)
        config = _config(named, vintage, resolution)
        if prefix in _TOWERS:
            config = replace(config, num_classes=0)
        table = next((p for p in _POSITIONS if p in named), None)
        lines = layout(config, vintage, table)
        state = read(lines, named)
        if isinstance(config.position, SinCos2d):
            state["pos_embed"] = _computed(config)
    except (KeyError, IndexError, ValueError, RuntimeError, ArithmeticError) as problem:
        if isinstance(problem, BadInput):
            raise BadInput(f"{path}: {problem}") from None
        raise BadInput(f"{path} is not a ViT in Google's layout: missing or misshapen {problem}") from None
    beside = unexpected_keys(lines, named)
    unknown = [name for name in beside if _OWN.match(name)]
    if unknown:
        raise BadInput(f"{path} has the weights {prefix + unknown[0]!r}, which no ViT of its shape has")
    check_state(config, state, path)
    others = tuple(sorted(name for name in tensors if not name.startswith(prefix)))
    big_vision = bool(prefix) or table != _POSITIONS[0]
    preprocess = Preprocess(config.resolution) if big_vision else Preprocess(config.resolution, SquareResize())
    provenance = {"source": path.name, "layout": "big_vision" if big_vision else "google vit npz"}
    return PretrainedModel(config, state, preprocess, None, provenance, (*beside, *others))


def _computed(config: ViTConfig) -> Tensor:
    """The table that is not stored; big_vision adds it before the class token is put first, whose row is zero."""
    table = sincos2d(config.grid, config.width)
    return torch.cat([torch.zeros(int(config.class_token), config.width), table])[None]


def write_google(config: ViTConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file: vit_jax's layout, or big_vision's where only that can say it.

    Raises:
        BadInput: a part that neither layout has; the message names it.
    """
    _refuse(config)
    folded = isinstance(config.position, Learned1d) and config.class_token and not config.position.class_entry
    fixed = isinstance(config.position, SinCos2d) and not config.position.learned
    if isinstance(config.pool, AttentionPool) or folded or fixed:
        if config.backbone:
            raise BadInput("big_vision's layout has no hybrids, and vit_jax's lacks this position or pooling")
        lines = layout(config, LINEN, None if fixed else _POSITIONS[1])
        return {f"params/{name}": tensor for name, tensor in write(lines, state).items()}
    # as released; every known reader takes these names
    return write(layout(config, BEFORE_LINEN, _POSITIONS[0]), state)


def layout(config: ViTConfig, vintage: Vintage, positions: str | None) -> list[Rule]:
    """Every tensor of a model of `config`; `positions` is the name of the table, None where it is computed."""
    heads = config.heads
    lines = [
        Rule("patch_embed.proj.weight", ("embedding/kernel",), CONV),
        Rule("patch_embed.proj.bias", ("embedding/bias",), SAME),
        *_norm("norm", "Transformer/encoder_norm"),
    ]
    if config.backbone:
        lines += _backbone(config.backbone)
    if config.class_token:
        lines.append(Rule("cls_token", ("cls",), SAME))
    if positions is not None:
        lines.append(Rule("pos_embed", (positions,), SAME))
    for i in range(config.depth):
        ours, theirs = f"blocks.{i}", f"Transformer/encoderblock_{i}"
        attention = f"{theirs}/{vintage.attention}"
        lines += _norm(f"{ours}.norm1", f"{theirs}/{vintage.norm1}")
        lines += _norm(f"{ours}.norm2", f"{theirs}/{vintage.norm2}")
        lines += _projection(f"{ours}.attn.qkv", attention, ("query", "key", "value"), heads)
        lines += _out(f"{ours}.attn.proj", attention, heads)
        lines += _mlp(f"{ours}.mlp", f"{theirs}/{vintage.mlp}")
    if isinstance(config.pool, AttentionPool):
        attention = f"MAPHead_0/{LINEN.attention}"
        lines.append(Rule("attn_pool.latent", ("MAPHead_0/probe",), SAME))
        lines += _projection("attn_pool.q", attention, ("query",), heads)
        lines += _projection("attn_pool.kv", attention, ("key", "value"), heads)
        lines += _out("attn_pool.proj", attention, heads)
        lines += _norm("attn_pool.norm", "MAPHead_0/LayerNorm_0")
        lines += _mlp("attn_pool.mlp", "MAPHead_0/MlpBlock_0")
    if config.hidden:
        lines += _dense("pre_logits", "pre_logits")
    if config.num_classes:
        lines += _dense("head", "head")
    return lines


def _dense(ours: str, theirs: str) -> list[Rule]:
    return [Rule(f"{ours}.weight", (f"{theirs}/kernel",), DENSE), Rule(f"{ours}.bias", (f"{theirs}/bias",), SAME)]


def _norm(ours: str, theirs: str) -> list[Rule]:
    return [Rule(f"{ours}.weight", (f"{theirs}/scale",), FLAT), Rule(f"{ours}.bias", (f"{theirs}/bias",), FLAT)]


def _mlp(ours: str, theirs: str) -> list[Rule]:
    return _dense(f"{ours}.fc1", f"{theirs}/Dense_0") + _dense(f"{ours}.fc2", f"{theirs}/Dense_1")


def _projection(ours: str, theirs: str, parts: tuple[str, ...], heads: int) -> list[Rule]:
    kernels, biases = ([f"{theirs}/{part}/{kind}" for part in parts] for kind in ("kernel", "bias"))
    return [
        Rule(f"{ours}.weight", tuple(kernels), heads_kernel(len(parts), heads)),
        Rule(f"{ours}.bias", tuple(biases), heads_bias(len(parts), heads)),
    ]


def _out(ours: str, theirs: str, heads: int) -> list[Rule]:
    return [
        Rule(f"{ours}.weight", (f"{theirs}/out/kernel",), from_heads(heads)),
        Rule(f"{ours}.bias", (f"{theirs}/out/bias",), SAME),
    ]


def _backbone(stages: Stages) -> list[Rule]:
    ours = "patch_embed.backbone" + (".stem" if stages.units else "")
    lines = [Rule(f"{ours}.conv.weight", ("conv_root/kernel",), CONV), *_norm(f"{ours}.norm", "gn_root")]
    for s, units in enumerate(stages.units):
        for u in range(units):
            unit, theirs = f"patch_embed.backbone.stages.{s}.blocks.{u}", f"block{s + 1}/unit{u + 1}"
            for i in (1, 2, 3):
                lines.append(Rule(f"{unit}.conv{i}.weight", (f"{theirs}/conv{i}/kernel",), CONV))
                lines += _norm(f"{unit}.norm{i}", f"{theirs}/gn{i}")
            if u == 0:
                lines.append(Rule(f"{unit}.downsample.conv.weight", (f"{theirs}/conv_proj/kernel",), CONV))
                lines += _norm(f"{unit}.downsample.norm", f"{theirs}/gn_proj")
    return lines


_TOWERS = ("params/img/", "img/")


def _prefix(tensors: Mapping[str, Tensor]) -> str:
    """What comes before all names: nothing, `params/`, `params/img/` (of two towers), `opt/target/`."""
    found = [name.removesuffix("embedding/kernel") for name in tensors if name.endswith("embedding/kernel")]
    prefixes = [p for p in found if p in ("", "params/", "opt/target/", *_TOWERS)]
    if not prefixes:
        raise KeyError("embedding/kernel")
    return prefixes[0]


def _unstacked(named: dict[str, Tensor]) -> dict[str, Tensor]:
    """big_vision's scanned models keep all blocks in one array each, depth first."""
    theirs = "Transformer/encoderblock/"
    apart = {name: tensor for name, tensor in named.items() if not name.startswith(theirs)}
    for name, tensor in named.items():
        if name.startswith(theirs):
            if tensor.shape[0] > MAX_DEPTH:
                raise BadInput(f"{name!r} has the shape {tuple(tensor.shape)}, expected up to {MAX_DEPTH} blocks first")
            for i, layer in enumerate(tensor):
                apart[f"Transformer/encoderblock_{i}/{name.removeprefix(theirs)}"] = layer
    return apart


def _map_head_named(named: dict[str, Tensor]) -> dict[str, Tensor]:
    """Early attention-pooling files have the parts of that head among the model's own."""
    inlined = ("probe", "MlpBlock_0/", "MultiHeadDotProductAttention_0/", "LayerNorm_0/")
    return {f"MAPHead_0/{name}" if name.startswith(inlined) else name: tensor for name, tensor in named.items()}


def _vintage(named: Mapping[str, Tensor]) -> Vintage:
    for vintage in (BEFORE_LINEN, LINEN):
        if f"Transformer/encoderblock_0/{vintage.attention}/query/kernel" in named:
            return vintage
    raise BadInput("no attention weights under either naming of the blocks")


def _config(named: Mapping[str, Tensor], vintage: Vintage, resolution: tuple[int, int] | None) -> ViTConfig:
    kernel = named["embedding/kernel"]
    stages = _stages(named)
    channels = stages.channels if stages else 3
    if kernel.ndim != 4 or kernel.shape[0] != kernel.shape[1] or kernel.shape[2] != channels or not kernel.numel():
        raise BadInput(f"the patch embedding has the shape {tuple(kernel.shape)}, expected (P, P, {channels}, D)")
    blocks = {int(m[1]) for name in named if (m := re.match(r"Transformer/encoderblock_(\d+)/", name))}
    first = "Transformer/encoderblock_0"
    width, heads, _ = named[f"{first}/{vintage.attention}/query/kernel"].shape
    config = ViTConfig(
        patch=kernel.shape[0],
        width=width,
        depth=len(blocks),
        heads=heads,
        mlp=named[f"{first}/{vintage.mlp}/Dense_0/kernel"].shape[1],
        num_classes=named["head/kernel"].shape[1] if "head/kernel" in named else 0,
        pool=AttentionPool() if "MAPHead_0/probe" in named else ClassToken() if "cls" in named else AveragePool(),
        hidden=named["pre_logits/kernel"].shape[1] if "pre_logits/kernel" in named else None,
        backbone=stages,
    )
    name = next((name for name in _POSITIONS if name in named), None)
    position, size = _positions(config, name, None if name is None else named[name], resolution)
    return replace(config, position=position, resolution=size)


def _positions(
    config: ViTConfig, name: str | None, table: Tensor | None, resolution: tuple[int, int] | None
) -> tuple[PositionConfig, tuple[int, int]]:
    if table is None:
        if resolution is None:
            raise BadInput(
                "positions are computed and not stored (sines and cosines): say at which resolution it was trained, "
                "resolution=224 or --resolution 224"
            )
        return SinCos2d(), resolution
    # vit_jax adds its table after the class token is put first, big_vision before
    for entry in (config.class_token,) if name == _POSITIONS[0] else (config.class_token, False):
        side = isqrt(table.shape[1] - entry)
        if side * side == table.shape[1] - entry and side:
            return Learned1d(class_entry=entry or not config.class_token), (side * config.stride, side * config.stride)
    token = " and a class token" if config.class_token else ""
    raise BadInput(f"{name!r} has {table.shape[1]} positions, which are no square grid{token}")


def _stages(named: Mapping[str, Tensor]) -> Stages | None:
    if "conv_root/kernel" not in named:
        return None
    units = units_of_stages(named, r"block(\d+)/unit(\d+)/")
    return Stages(units=units, width=named["conv_root/kernel"].shape[3])


def _refuse(config: ViTConfig) -> None:
    """Raises BadInput for what Google's layouts do not have."""
    position = config.position
    plain = isinstance(position, SinCos2d) or (isinstance(position, Learned1d) and position.where == "stem")
    pool = isinstance(config.pool, (ClassToken, AttentionPool)) or config.pool == AveragePool()
    lacking = {
        f"positions {type(position).__name__} of this kind": not plain,
        f"pooling {config.pool}": not pool,
        "registers": config.registers,
        "layer scale": config.layer_scale is not None,
        "norms of q and k": config.qk_norm,
        "gated MLPs": config.gated,
        "axial attention": config.axial,
        f"grid that is not square ({config.grid[0]} x {config.grid[1]} patches; it is not stored)": config.grid[0]
        != config.grid[1],
    }
    for what, wanted in lacking.items():
        if wanted:
            raise BadInput(f"Google's .npz layouts have no {what}; a bundle keeps everything")
