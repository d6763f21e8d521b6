"""Alternatives of a config by name: the one table of names, and a part of a config exchanged for another.

The names are what people write (`--optimizer sgd`) and read; JSON keeps the names of the types.
"""

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, Union, get_args, get_origin, get_type_hints

from vitrail.core.errors import unknown

# The type, as JSON has it under "type" -> its name for people. A union of one type and None is "none" or this name.
NAMES = {
    "ViTConfig": "vit", "ResNetConfig": "resnet", "Stages": "resnet",  # named in full by models.variants: "R50+B/16"
    "NoPosition": "none", "Learned1d": "1d", "Learned2d": "2d", "Relative": "relative", "SinCos2d": "sincos",
    "ClassToken": "token", "AveragePool": "average", "AttentionPool": "attention",
    "TokenAndAverage": "token-and-average", "TokenAndDistilled": "token-and-distilled",
    "Adam": "adam", "Momentum": "sgd", "Muon": "muon",
    "Linear": "linear", "Cosine": "cosine", "Rsqrt": "rsqrt", "Steps": "steps",
    "Softmax": "softmax", "Sigmoid": "sigmoid", "LogitAdjusted": "logit-adjusted",
    "InceptionCrop": "inception", "RandomResizedCrop": "random-resized", "PadCrop": "pad", "ResizeCrop": "resize",
    "SimpleRandomCrop": "simple-random", "WholeImage": "none",
    "SquareResize": "square", "CentreCrop": "centre-crop",
    "ColourJitter": "on", "RandAugment": "on", "RandomErasing": "on",
    "Labels": "labels", "MaskedPatches": "masked-patches", "MAE": "mae",
    "Whole": "whole", "HeadOnly": "head", "LastBlocks": "blocks", "LayerDecay": "decay", "Lora": "lora",
}  # fmt: skip

# Of one alternative, for another: a field -> the field that means the same.
_SAME = {
    ("Adam", "Muon"): {
        "lr": "adam_lr", "weight_decay": "adam_weight_decay", "betas": "adam_betas", "eps": "adam_eps",
    },
}  # fmt: skip


def name_of(value: Any) -> str:
    """The name of a part of a config, given as the object or as its JSON; "none" for None."""
    if value is None:
        return "none"
    tag = value.get("type", "") if isinstance(value, Mapping) else type(value).__name__
    return NAMES.get(str(tag), str(tag))


def members(kind: Any) -> dict[str, type | None]:
    """The alternatives of a union of dataclasses by name; empty for any other type."""
    parts = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else ()
    if len(parts) < 2 or not all(part is type(None) or dataclasses.is_dataclass(part) for part in parts):
        return {}
    none = {"none": None} if type(None) in parts else {}
    return {**none, **{NAMES.get(part.__name__, part.__name__): part for part in parts if part is not type(None)}}


def choices(config: Any, prefix: str = "") -> dict[str, dict[str, type | None]]:
    """Where a config has alternatives, and which: {"optimizer": {"adam": Adam, "sgd": Momentum}, ...}."""
    found: dict[str, dict[str, type | None]] = {}
    hints = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        if there := members(hints[field.name]):
            found[prefix + field.name] = there
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            found |= choices(value, f"{prefix}{field.name}.")
    return found


def part(config: Any, path: str) -> Any:
    """The part of a config at "model.position"."""
    for name in path.split("."):
        config = getattr(config, name)
    return config


def with_part(config: Any, path: str, value: Any) -> Any:
    """The config with another value at "model.position"."""
    first, _, rest = path.partition(".")
    inner = with_part(getattr(config, first), rest, value) if rest else value
    return dataclasses.replace(config, **{first: inner})


def choose(config: Any, path: str, name: str) -> Any:
    """The config with the alternative of that name at `path`.

    Fields that the old and the new alternative share keep their values, under another name where that means the same
    (Adam's `lr` is Muon's `adam_lr`); the others are the new one's defaults.

    Raises:
        BadInput: no such alternative; the message has the nearest.
    """
    there, old = choices(config)[path], part(config, path)
    if name not in there:
        raise unknown(path, name, there)
    kind = there[name]
    if kind is None or kind is type(old):
        return config if kind else with_part(config, path, None)
    return with_part(config, path, kind(**kept(old, kind)))


def kept(old: Any, kind: type) -> dict[str, Any]:
    """The fields of `old` that `kind` has too, by their names there."""
    if old is None:
        return {}
    there, back = type(old).__name__, kind.__name__
    same = _SAME.get((there, back)) or {new: field for field, new in _SAME.get((back, there), {}).items()}
    names = {field.name for field in dataclasses.fields(kind)} - set(same.values())
    found = {}
    for field in dataclasses.fields(old):
        name = same.get(field.name, field.name if field.name in names else None)
        if name is not None:
            found[name] = getattr(old, field.name)
    return found
