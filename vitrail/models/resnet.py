"""BiT ResNets: standardised convolutions and group norm; pre-activation units, or post-activation (hybrids, axial).

B batch · C channels · y x pixels · h w feature map · K classes
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vitrail.core.errors import BadInput
from vitrail.models.axial_resnet import GROUPS, AxialPair
from vitrail.models.convolution import GroupNorm, channels_last, convolve
from vitrail.models.initialise import lecun_normal_, uninitialised
from vitrail.models.output import ModelOutput


@dataclass(frozen=True)
class Stages:
    """The trunk of a ResNet. The defaults are the post-activation R50 under the official hybrids."""

    units: tuple[int, ...] = (3, 4, 6, 3)  # of each stage; none: the root alone
    width: int = 64  # channels of the root; 64 times the width factor
    order: Literal["pre", "post"] = "post"  # activation before or after the convolutions of a unit
    eps: float = 1e-6  # of the group norms
    weight_eps: float = 1e-5  # of the standardisation of weights
    weight_eps_on: Literal["deviation", "variance"] = "deviation"  # what it is added to

    def check(self) -> None:
        """Raises BadInput for sizes that do not fit together."""
        if self.width < GROUPS or self.width % GROUPS:
            raise BadInput(f"a ResNet's width must be a multiple of {GROUPS} (its groups), not {self.width}")
        if len(self.units) > 4 or any(n < 1 for n in self.units):
            raise BadInput(f"a ResNet has up to four stages of at least one unit, not {self.units}")

    @property
    def channels(self) -> int:
        """The width of the feature map that comes out."""
        return self.width * 2 ** (len(self.units) + 1) if self.units else self.width

    @property
    def stride(self) -> int:
        """Pixels of the input between neighbours in the feature map."""
        return 4 * 2 ** max(0, len(self.units) - 1)

    def grid(self, resolution: tuple[int, int]) -> tuple[int, int]:
        """The feature map (h, w) of an image: each of the strides rounds up."""
        return -(-resolution[0] // self.stride), -(-resolution[1] // self.stride)


BIT = Stages(order="pre", eps=1e-5, weight_eps=1e-10, weight_eps_on="variance")  # the published BiT files


@dataclass(frozen=True)
class ResNetConfig:
    """A BiT ResNet; the default is the published pre-activation R50x1."""

    stages: Stages = BIT
    resolution: tuple[int, int] = (224, 224)  # height, width that it was trained at; it reads any
    num_classes: int = 0
    head_bias: float = 0.0
    axial_heads: int = 0  # attention along rows and columns instead of 3x3 convolutions (D.6), at this resolution alone

    @property
    def channels(self) -> int:
        """Of the images."""
        return 3

    @property
    def grid(self) -> tuple[int, int]:
        """The last feature map (h, w)."""
        return self.stages.grid(self.resolution)

    @property
    def representation_width(self) -> int:
        """The width of what the classifier reads."""
        return self.stages.channels

    def check(self) -> None:
        """Raises BadInput for sizes that do not fit together."""
        self.stages.check()
        if not self.stages.units:
            raise BadInput("a ResNet needs at least one stage")
        if min(self.resolution) < 1 or self.num_classes < 0:
            raise BadInput(f"resolution and classes must be positive: {self}")
        if self.axial_heads < 0 or (self.axial_heads and self.stages.width % (2 * self.axial_heads)):
            raise BadInput(
                f"{self.axial_heads} axial heads do not split a width of {self.stages.width} into even parts"
            )


class StandardisedConv(nn.Conv2d):
    """A convolution whose weight is given mean 0 and deviation 1 for each output channel before it is used."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, stages: Stages):
        super().__init__(channels, out, kernel, stride, padding=kernel // 2, bias=False)
        lecun_normal_(self.weight)
        self.eps, self.on_variance = stages.weight_eps, stages.weight_eps_on == "variance"
        self.same = stages.order == "post"

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b d h w"]:
        weight = standardise(self.weight, self.eps, self.on_variance)
        kernel, stride = self.kernel_size[0], self.stride[0]
        if self.same and stride > 1:
            return convolve(pad_same(x, kernel, stride), weight, stride, 0)
        return convolve(x, weight, stride, kernel // 2)


def standardise(weight: Float[Tensor, "o i p q"], eps: float, on_variance: bool) -> Float[Tensor, "o i p q"]:
    """(w - mean) / (deviation + eps), or / sqrt(variance + eps); always in float32, variance biased."""
    w = weight.float()
    if on_variance:  # what a layer norm does, in one kernel
        return F.layer_norm(w.flatten(1), (w[0].numel(),), eps=eps).view_as(w).to(weight.dtype)
    variance, mean = torch.var_mean(w, dim=(1, 2, 3), keepdim=True, correction=0)
    return ((w - mean) / (variance.sqrt() + eps)).to(weight.dtype)


def pad_same(x: Float[Tensor, "b c y x"], kernel: int, stride: int) -> Float[Tensor, "b c h w"]:
    """TensorFlow's SAME: zeros, as many as the last window needs, the odd one at the bottom and right."""
    sides = []
    for size in (x.shape[-1], x.shape[-2]):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        sides += [total // 2, total - total // 2]
    return F.pad(x, sides) if any(sides) else x


Axial = tuple[int, tuple[int, int]]


class Unit(nn.Module):
    """A bottleneck: 1x1, 3x3 (which strides), 1x1 convolutions; a projection where the shape changes.

    `axial`: the heads of attention and the map (h, w) that it reads, in the place of the 3x3 convolution.
    """

    def __init__(self, channels: int, middle: int, stride: int, stages: Stages, axial: Axial | None = None):
        super().__init__()
        out, pre = 4 * middle, stages.order == "pre"
        self.pre = pre
        self.norm1 = GroupNorm(GROUPS, channels if pre else middle, stages.eps)
        self.conv1 = StandardisedConv(channels, middle, 1, 1, stages)
        self.norm2 = GroupNorm(GROUPS, middle, stages.eps)
        self.conv2: nn.Module = (
            AxialPair(middle, *axial, stride, stages.eps)
            if axial
            else StandardisedConv(middle, middle, 3, stride, stages)
        )
        self.norm3 = GroupNorm(GROUPS, middle if pre else out, stages.eps)
        self.conv3 = StandardisedConv(middle, out, 1, 1, stages)
        self.downsample = Projection(channels, out, stride, stages) if stride > 1 or channels != out else None
        if not pre:
            nn.init.zeros_(self.norm3.weight)  # a unit starts as the identity

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b d h w"]:
        return self._pre_activated(x) if self.pre else self._post_activated(x)

    def _pre_activated(self, x: Tensor) -> Tensor:
        y = self.norm1(x).relu()
        shortcut = x if self.downsample is None else self.downsample(y)
        y = self.norm2(self.conv1(y)).relu()
        y = self.norm3(self.conv2(y)).relu()
        return self.conv3(y) + shortcut

    def _post_activated(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.norm1(self.conv1(x)).relu()
        y = self.norm2(self.conv2(y)).relu()
        return (self.norm3(self.conv3(y)) + shortcut).relu()


class Projection(nn.Module):
    """The shortcut of a unit that changes the shape; post-activation units normalise it."""

    def __init__(self, channels: int, out: int, stride: int, stages: Stages):
        super().__init__()
        self.conv = StandardisedConv(channels, out, 1, stride, stages)
        self.norm = GroupNorm(GROUPS, out, stages.eps) if stages.order == "post" else nn.Identity()

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b d h w"]:
        return self.norm(self.conv(x))


class Root(nn.Module):
    """A 7x7 convolution and a 3x3 maximum, each of stride 2.

    Pre-activation: padded with zeros also before the maximum, as the original; no norm. Post-activation: SAME, a norm
    and a ReLU, after which zeros under the maximum are as good as the original's -inf.
    """

    def __init__(self, stages: Stages):
        super().__init__()
        self.post = stages.order == "post"
        self.conv = StandardisedConv(3, stages.width, 7, 2, stages)
        self.norm = GroupNorm(GROUPS, stages.width, stages.eps) if self.post else nn.Identity()

    def forward(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b d h w"]:
        x = self.norm(self.conv(channels_last(images)))
        if self.post:
            return F.max_pool2d(pad_same(x.relu(), 3, 2), 3, 2)
        return F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 2)


class Stage(nn.Module):
    """Units of one resolution."""

    def __init__(self, units: list[Unit]):
        super().__init__()
        self.blocks = nn.Sequential(*units)

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b d h w"]:
        return self.blocks(x)


def trunk(stages: Stages, axial_heads: int = 0, resolution: tuple[int, int] = (0, 0)) -> tuple[Root, nn.Sequential]:
    """The root and the stages; where there are axial heads, for images of one resolution."""
    made, channels, grid = [], stages.width, Stages(units=()).grid(resolution)
    for i, count in enumerate(stages.units):
        middle, units = stages.width * 2**i, []
        for number in range(count):
            stride = 2 if i and not number else 1
            units.append(Unit(channels, middle, stride, stages, (axial_heads, grid) if axial_heads else None))
            channels, grid = 4 * middle, (-(-grid[0] // stride), -(-grid[1] // stride))
        made.append(Stage(units))
    return Root(stages), nn.Sequential(*made)


class ResNet(nn.Module):
    """Float images [B, 3, H, W] -> ModelOutput; `tokens` are the last feature map in raster order.

    They may have any size; an axial one reads those of its resolution, others raise ValueError.

    State-dict keys are those of timm's `resnetv2`. `preprocess`, `classes`, `temperature` and `thresholds` travel with
    a loaded one.
    """

    preprocess: Any = None
    classes: tuple[str, ...] = ()
    temperature: float | None = None
    thresholds: tuple[float, ...] | None = None

    def __init__(self, config: ResNetConfig):
        super().__init__()
        config.check()
        self.config = config
        self.stem, self.stages = trunk(config.stages, config.axial_heads, config.resolution)
        pre, channels = config.stages.order == "pre", config.stages.channels
        self.norm = GroupNorm(GROUPS, channels, config.stages.eps) if pre else nn.Identity()
        self.head = ConvClassifier(channels, config.num_classes, config.head_bias) if config.num_classes else None

    def forward(self, images: Float[Tensor, "b c y x"], attention: bool | Collection[int] = False) -> ModelOutput:
        """Raises ValueError when asked for attention, which a ResNet does not have."""
        if attention:
            raise ValueError("a ResNet has no attention to return")
        x = self.stages(self.stem(images))
        if self.config.stages.order == "pre":
            x = self.norm(x).relu()
        representation = x.mean(dim=(2, 3))
        logits = representation if self.head is None else self.head(representation)
        return ModelOutput(logits, representation, x.flatten(2).transpose(1, 2))


class ConvClassifier(nn.Module):
    """A linear classifier whose weight is kept as a 1x1 convolution [K, C, 1, 1], as in every published BiT file."""

    def __init__(self, channels: int, classes: int, bias: float):
        super().__init__()
        self.fc = uninitialised(nn.Conv2d, channels, classes, 1)
        nn.init.zeros_(self.fc.weight)
        nn.init.constant_(self.fc.bias, bias)

    def forward(self, x: Float[Tensor, "b c"]) -> Float[Tensor, "b k"]:
        return F.linear(x, self.fc.weight.flatten(1), self.fc.bias)
