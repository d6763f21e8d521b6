"""BiT's `.npz` files (gs://bit_models): pre-activation ResNets; both of their naming quirks."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from vitrail.core.errors import BadInput
from vitrail.data.transforms.pipeline import Preprocess, SquareResize
from vitrail.models.resnet import BIT, ResNetConfig, Stages
from vitrail.weights.key_map import CONV, FLAT, SAME, Rule, read, unexpected_keys, units_of_stages, write
from vitrail.weights.pretrained import PretrainedModel, check_state


def read_bit(tensors: Mapping[str, Tensor], path: Path, resolution: tuple[int, int] | None) -> PretrainedModel:
    """A BiT ResNet, whose authors test on the whole image, both sides resized.

    Args:
        resolution: what it was trained at; these files do not say it.

    Raises:
        BadInput: not such a file, shapes that contradict each other, or weights that no BiT ResNet has.
    """
    named = {re.sub(r"(standardized_conv2d|group_norm|conv2d)_\d+", r"\1", n): t for n, t in tensors.items()}
    try:
        config = ResNetConfig(
            stages=_stages(named),
            resolution=resolution or (224, 224),
            num_classes=named["resnet/head/conv2d/kernel"].shape[3] if "resnet/head/conv2d/kernel" in named else 0,
        )
        digits = 2 if "resnet/block1/unit01/a/group_norm/gamma" in named else 1
        lines = layout(config, digits)
        state = read(lines, named)
    except (KeyError, IndexError, ValueError, RuntimeError) as problem:
        if isinstance(problem, BadInput):
            raise BadInput(f"{path}: {problem}") from None
        raise BadInput(f"{path} is not a ResNet in BiT's layout: missing or misshapen {problem}") from None
    others = unexpected_keys(lines, named)
    unknown = [name for name in others if name.startswith("resnet/")]
    if unknown:
        raise BadInput(f"{path} has the weights {unknown[0]!r}, which no BiT ResNet of its shape has")
    check_state(config, state, path)
    preprocess = Preprocess(config.resolution, SquareResize())
    size = f"{config.resolution[0]} x {config.resolution[1]}"
    silent = f"BiT's files do not say their resolution; {size} pixels are assumed, --resolution gives another"
    provenance = {"source": path.name, "layout": "bit npz"}
    return PretrainedModel(config, state, preprocess, None, provenance, others, assumed=() if resolution else (silent,))


def write_bit(config: ResNetConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file; raises BadInput for post-activation units and attention: the layout has neither."""
    if config.axial_heads:
        raise BadInput("BiT's .npz layout has no axial attention; a bundle keeps everything")
    if config.stages.order == "post":
        raise BadInput("BiT's .npz layout has no post-activation units; a bundle keeps everything")
    return write(layout(config, digits=2), state)


def layout(config: ResNetConfig, digits: int) -> list[Rule]:
    """Every tensor; units are numbered with so many digits."""
    conv = "standardized_conv2d/kernel"
    lines = [Rule("stem.conv.weight", (f"resnet/root_block/{conv}",), CONV), *_norm("norm", "resnet/group_norm")]
    for s, units in enumerate(config.stages.units):
        for u in range(units):
            ours, theirs = f"stages.{s}.blocks.{u}", f"resnet/block{s + 1}/unit{u + 1:0{digits}d}"
            for i, part in enumerate("abc", start=1):
                lines.append(Rule(f"{ours}.conv{i}.weight", (f"{theirs}/{part}/{conv}",), CONV))
                lines += _norm(f"{ours}.norm{i}", f"{theirs}/{part}/group_norm")
            if u == 0:
                lines.append(Rule(f"{ours}.downsample.conv.weight", (f"{theirs}/a/proj/{conv}",), CONV))
    if config.num_classes:
        lines.append(Rule("head.fc.weight", ("resnet/head/conv2d/kernel",), CONV))
        lines.append(Rule("head.fc.bias", ("resnet/head/conv2d/bias",), SAME))
    return lines


def _norm(ours: str, theirs: str) -> list[Rule]:
    return [Rule(f"{ours}.weight", (f"{theirs}/gamma",), FLAT), Rule(f"{ours}.bias", (f"{theirs}/beta",), FLAT)]


def _stages(named: Mapping[str, Tensor]) -> Stages:
    units = units_of_stages(named, r"resnet/block(\d+)/unit(\d+)/")
    width = named["resnet/root_block/standardized_conv2d/kernel"].shape[3]
    return replace(BIT, units=units, width=width)
