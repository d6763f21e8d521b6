"""The tables of sizes: a name such as "B/16", "R50+L/32" or "R152x2" -> a config (Table 1, Table 3, official code)."""

import re
from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import NamedTuple

from vitrail.core.errors import BadInput, unknown
from vitrail.models.resnet import BIT, ResNetConfig, Stages
from vitrail.models.vit import ViTConfig


class Shape(NamedTuple):
    """The size of an encoder."""

    depth: int
    width: int
    mlp: int
    heads: int


# Table 1; Ti, S, M from the official code; b (figure 4) halves B; the last three from "Scaling Vision Transformers"
# and the shape-optimised one.
#                    layers width   mlp  heads
SHAPES = {
    "Ti":     Shape(12,  192,   768,  3),
    "S":      Shape(12,  384,  1536,  6),
    "b":      Shape(12,  384,  1536,  6),
    "M":      Shape(12,  512,  2048,  8),
    "B":      Shape(12,  768,  3072, 12),
    "L":      Shape(24, 1024,  4096, 16),
    "H":      Shape(32, 1280,  5120, 16),
    "So400m": Shape(27, 1152,  4304, 16),
    "g":      Shape(40, 1408,  6144, 16),
    "G":      Shape(48, 1664,  8192, 16),
}  # fmt: skip

# Units of the four stages of a ResNet.
STAGES = {
    "R26": (2, 2, 2, 2),
    "R50": (3, 4, 6, 3),
    "R101": (3, 4, 23, 3),
    "R152": (3, 8, 36, 3),
    "R200": (3, 24, 36, 3),
}

AXIAL_HEADS = 8  # of the axial ResNets (Wang et al. 2020)

# The variants that the paper and the official code name; any other patch or width works too ("B/12", "R50x4").
# fmt: off
NAMES = (
    "Ti/16", "S/32", "S/16", "b/32", "M/16", "B/32", "B/16", "B/8", "L/32", "L/16", "H/14", "So400m/14", "g/14", "G/14",
    "R+Ti/16", "R26+S/32", "R26+B/32", "R50+B/32", "R50+B/16", "R50+L/32", "R50+L/16",
    "Axial-B/32", "Axial-B/16",
    "R26x1", "R50x1", "R50x2", "R50x3", "R101x1", "R101x3", "R152x1", "R152x2", "R152x4", "R200x3", "Axial-R50x1",
)
# fmt: on

_REGISTERED: dict[str, Callable[[], ViTConfig | ResNetConfig]] = {}


def list_models(pattern: str = "*") -> list[str]:
    """The names of the models, registered ones last; those that match a pattern such as "R50*" or "*/16"."""
    return [name for name in (*NAMES, *_REGISTERED) if fnmatchcase(name, pattern)]


def register_model(name: str, function: Callable[[], ViTConfig | ResNetConfig]) -> None:
    """Gives a model a name, for `create_model` and `--model` in the processes that have registered it.

    Args:
        function: returns the config; classes and resolution are those of whoever asks for the model.

    Raises:
        BadInput: the name is taken.
    """
    try:
        variant(name)
    except BadInput:
        _REGISTERED[name] = function
    else:
        raise BadInput(f"the model {name!r} exists already; register it by another name")


def variant(name: str) -> ViTConfig | ResNetConfig:
    """The config of "Ti/16", "R50+B/16", "R101x3", ... at 224 pixels and without a classifier.

    Raises:
        BadInput: no such size, no patch after the slash, or a ResNet with a stride that it does not have.
    """
    if name in _REGISTERED:
        own = _REGISTERED[name]()
        if not isinstance(own, ViTConfig | ResNetConfig):
            raise BadInput(f"the model {name!r} was registered with a function that returns {own!r}, not a ViTConfig")
        return own
    resnet = re.fullmatch(r"(?P<kind>BiT-|Axial-)?(?P<stages>R\d+)x(?P<width>\d+(?:\.\d+)?)", name)
    if resnet and resnet["stages"] in STAGES:
        axial = resnet["kind"] == "Axial-"
        stages = replace(
            Stages() if axial else BIT, units=STAGES[resnet["stages"]], width=round(64 * float(resnet["width"]))
        )
        return ResNetConfig(stages, axial_heads=AXIAL_HEADS if axial else 0)
    match = re.fullmatch(
        r"(?:(?P<stages>R\d*)(?:x1)?\+)?(?P<axial>Axial-)?(?:ViT-)?(?P<shape>\w+)/(?P<patch>\d+)", name
    )
    if match is None or match["shape"] not in SHAPES or (match["stages"] or "R") not in ("R", *STAGES):
        raise unknown("model", name, list_models())
    patch, shape = int(match["patch"]), SHAPES[match["shape"]]
    if patch < 1:
        raise BadInput(f"model {name!r}: a patch has at least one pixel")
    if match["axial"] and match["stages"]:
        raise BadInput(f"model {name!r}: axial attention goes over patches of pixels, not over a ResNet")
    config = ViTConfig(patch=patch, width=shape.width, depth=shape.depth, heads=shape.heads, mlp=shape.mlp)
    config = replace(config, axial=bool(match["axial"]))
    return config if match["stages"] is None else _hybrid(name, config, match["stages"])


def _hybrid(name: str, config: ViTConfig, stages: str) -> ViTConfig:
    """Section 4.1: all four stages for /32; for /16 the units of the last stage go to the third.

    R+Ti/16 is the official name of the root alone under patches of 8: one token for 32 pixels, whatever the name says.
    """
    if stages == "R":
        if config.patch != 16:
            raise BadInput(f"model {name!r}: the root alone goes under patches of 8, which are called /16")
        return replace(config, patch=8, backbone=Stages(units=()))
    first, second, third, fourth = STAGES[stages]
    match config.patch:
        case 32:
            return replace(config, patch=1, backbone=Stages(units=(first, second, third, fourth)))
        case 16:
            return replace(config, patch=1, backbone=Stages(units=(first, second, third + fourth)))
    raise BadInput(f"model {name!r}: a hybrid has one token for 16 or 32 pixels, expected {stages}+.../16 or .../32")


def variant_like(name: str, like: ViTConfig | ResNetConfig) -> ViTConfig | ResNetConfig:
    """The variant of that name in the place of `like`: its sizes, and all else of `like` that it has too.

    Resolution and classes stay; between two ViTs position, pooling, dropout and the like stay too, and a hidden layer
    as wide as the encoder stays so. A registered model keeps all else of its own. Raises BadInput as `variant` does.
    """
    config = replace(variant(name), resolution=like.resolution, num_classes=like.num_classes, head_bias=like.head_bias)
    if name in _REGISTERED or not isinstance(config, ViTConfig) or not isinstance(like, ViTConfig):
        return config
    sizes = {key: getattr(config, key) for key in ("patch", "width", "depth", "heads", "mlp", "backbone", "axial")}
    return replace(like, **sizes, hidden=config.width if like.hidden == like.width else like.hidden)
