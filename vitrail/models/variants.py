"""The tables of sizes: a name such as "B/16" -> a config (Table 1; Ti and S from the official code)."""

import re
from typing import NamedTuple

from vitrail.core.errors import BadInput, unknown
from vitrail.models.vit import ViTConfig


class Shape(NamedTuple):
    """The size of an encoder."""

    depth: int
    width: int
    mlp: int
    heads: int


#              layers width   mlp  heads
SHAPES = {
    "Ti": Shape(12, 192, 768, 3),
    "S": Shape(12, 384, 1536, 6),
    "B": Shape(12, 768, 3072, 12),
    "L": Shape(24, 1024, 4096, 16),
    "H": Shape(32, 1280, 5120, 16),
}

# The variants that the paper and the official code name; any other patch works too ("B/8").
NAMES = ("Ti/16", "S/32", "S/16", "B/32", "B/16", "B/8", "L/32", "L/16", "H/14")


def variant(name: str) -> ViTConfig:
    """The config of "Ti/16", "B/32", ... at 224 pixels and without a classifier.

    Raises:
        BadInput: no such size, or no patch after the slash.
    """
    match = re.fullmatch(r"(?:ViT-)?(?P<shape>\w+)/(?P<patch>\d+)", name)
    if match is None:
        raise unknown("model", name, NAMES)
    if match["shape"] not in SHAPES:
        raise unknown("model", name, NAMES)
    patch = int(match["patch"])
    if patch < 1:
        raise BadInput(f"model {name!r}: a patch has at least one pixel")
    shape = SHAPES[match["shape"]]
    return ViTConfig(patch=patch, width=shape.width, depth=shape.depth, heads=shape.heads, mlp=shape.mlp)
