"""The cost of the stages of a ResNet from their config alone: parameters, multiply-adds, and bytes of activations.

`kept` is what the backward pass needs, `peak` the most that is alive in the forward pass, both in bytes for an image,
`b` for a number. A processor in bfloat16 keeps the columns of its products, too (models/convolution.py): an R50x1 of
224 pixels 0.94 times what is said here, of 64 pixels and 16 images 1.33 times, an R41x2 of 32 pixels 1.65 times.
"""

from typing import NamedTuple

from vitrail.models.axial_resnet import GROUPS
from vitrail.models.resnet import Stages

Grid = tuple[int, int]

GROUP_STATISTICS = 8 * GROUPS  # bytes that a group norm keeps for an image: mean and deviation, in float32


class _Units(NamedTuple):
    """Equal bottleneck units."""

    times: int
    inputs: int  # channels
    middle: int  # channels
    stride: int
    before: Grid
    first: bool  # of a stage: the shortcut is projected
    pre: bool  # activation before the convolutions
    heads: int  # of axial attention in the place of the 3x3 convolution; 0: there is none

    @property
    def outputs(self) -> int:
        return 4 * self.middle

    @property
    def after(self) -> Grid:
        return _strided(self.before, self.stride)

    @property
    def padded(self) -> int:
        """Places of the padded copy that the 3x3 convolution reads; 0 where the kernel pads."""
        return 0 if self.pre or self.stride == 1 or self.heads else _padded(self.before, 3, self.stride, self.pre)

    @property
    def axial_kept(self) -> int:
        """Numbers that the two attentions keep of an image, measured to within a tenth: the kernels decide."""
        return 25 * self.middle * area(self.before) // 2 + 5 * self.axial_weights // 4 if self.heads else 0

    @property
    def axial_weights(self) -> int:
        """The number of weights of attention, along the rows and along the columns."""
        return self.heads * area(self.before) * sum(self.before)

    @property
    def spatial_parameters(self) -> int:
        """Of the 3x3 convolution, or of the two attentions, each with a norm and vectors of places, and their norm."""
        c = self.middle
        if not self.heads:
            return 9 * c**2
        return sum(2 * c**2 + 4 * c + (2 * length - 1) * 2 * (c // self.heads) for length in self.before) + 2 * c


def _units(stages: Stages, resolution: Grid, heads: int = 0) -> list[_Units]:
    """Two entries for each stage: its first unit, and the others."""
    made, inputs, grid, pre = [], stages.width, _strided(resolution, 4), stages.order == "pre"
    for i, count in enumerate(stages.units):
        first = _Units(1, inputs, stages.width * 2**i, 1 if i == 0 else 2, grid, True, pre, heads)
        inputs, grid = first.outputs, first.after
        made += [first, _Units(count - 1, inputs, first.middle, 1, grid, False, pre, heads)]
    return made


def area(grid: Grid) -> int:
    return grid[0] * grid[1]


def _strided(grid: Grid, stride: int) -> Grid:
    return -(-grid[0] // stride), -(-grid[1] // stride)


def _padding(size: int, kernel: int, stride: int, pre: bool) -> tuple[int, int]:
    """Zeros before and after a side: equally many, or TensorFlow's SAME."""
    if pre:
        return kernel // 2, kernel // 2
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _padded(grid: Grid, kernel: int, stride: int, pre: bool) -> int:
    """The number of positions in a padded map."""
    h, w = (size + sum(_padding(size, kernel, stride, pre)) for size in grid)
    return h * w


def _meetings(size: int, kernel: int, stride: int, pre: bool, padding: bool) -> int:
    """Counts the meetings of kernel and input positions along one side; without `padding`, not those with zeros."""
    places = -(-size // stride)
    if padding:
        return places * kernel
    before, _ = _padding(size, kernel, stride, pre)
    # Place t of the kernel at place o of the output meets place o·stride + t - before of the input.
    first = [max(0, -((t - before) // stride)) for t in range(kernel)]
    last = [min(places - 1, (size - 1 - t + before) // stride) for t in range(kernel)]
    return sum(max(0, z - a + 1) for a, z in zip(first, last, strict=True))


def trunk_parameters(stages: Stages, resolution: Grid = (1, 1), heads: int = 0) -> int:
    def unit(u: _Units) -> int:
        convolutions = u.inputs * u.middle + u.spatial_parameters + u.middle * u.outputs
        norms = 2 * (2 * u.middle + (u.inputs if u.pre else u.outputs))
        projection = u.inputs * u.outputs + (0 if u.pre else 2 * u.outputs)
        return convolutions + norms + (projection if u.first else 0)

    root = 3 * 7**2 * stages.width + (0 if stages.order == "pre" else 2 * stages.width)
    return root + sum(u.times * unit(u) for u in _units(stages, resolution, heads))


def trunk_multiply_adds(stages: Stages, resolution: Grid, padding: bool, heads: int = 0) -> int:
    pre = stages.order == "pre"

    def kernel(size: int, stride: int, before: Grid) -> int:
        h, w = (_meetings(side, size, stride, pre, padding) for side in before)
        return h * w

    def spatial(u: _Units) -> int:
        if not u.heads:
            return u.middle**2 * kernel(3, u.stride, u.before)
        # q, k, v; then for each pair of a line q·k, q·p and k·r of half the width, and a·v and a·s of the whole
        return area(u.before) * u.middle // 2 * sum(4 * u.middle + 7 * length for length in u.before)

    def unit(u: _Units) -> int:
        convolutions = u.middle * (u.inputs * area(u.before) + u.outputs * area(u.after)) + spatial(u)
        return convolutions + (u.inputs * u.outputs * area(u.after) if u.first else 0)

    root = 3 * stages.width * kernel(7, 2, resolution)
    return root + sum(u.times * unit(u) for u in _units(stages, resolution, heads))


def trunk_kept(stages: Stages, resolution: Grid, b: int, heads: int = 0) -> int:
    """All but the last feature map, whose reader decides."""

    def unit(u: _Units) -> int:
        before, after = area(u.before), area(u.after)
        middle = 2 * u.middle * (before + after) + u.middle * u.padded  # after two convolutions, and after their ReLUs
        middle += u.axial_kept
        statistics = 3 * GROUP_STATISTICS
        if u.pre:  # the input's ReLU, the sum
            return (middle + u.inputs * before + u.outputs * after) * b + statistics
        projection = u.outputs * after * b + GROUP_STATISTICS if u.first else 0
        return (middle + 2 * u.outputs * after) * b + statistics + projection  # the third convolution, the last ReLU

    c, pre, large = stages.width, stages.order == "pre", _strided(resolution, 2)
    small = area(_strided(large, 2))
    root = c * (_padded(large, 3, 2, pre) + small) * b + 8 * c * small  # the maximum: its input, itself, where it was
    if pre:
        root += 3 * area(resolution) * b
    else:
        root += (3 * _padded(resolution, 7, 2, pre) + 2 * c * area(large)) * b + GROUP_STATISTICS
    last = stages.channels * area(stages.grid(resolution)) * b
    return root + sum(u.times * unit(u) for u in _units(stages, resolution, heads)) - last


def trunk_peak(stages: Stages, resolution: Grid, b: int, heads: int = 0) -> int:
    """Beside the image. What the root returns lives until all stages end, and a stage's input until the stage does."""

    def unit(u: _Units) -> int:
        entering, leaving = u.inputs * area(u.before), u.outputs * area(u.after)
        wide, narrow = u.middle * area(u.before), u.middle * area(u.after)
        shortcut = leaving if u.first else 0
        spatial = wide + max(u.middle * u.padded + narrow, 2 * narrow)
        if u.heads:  # q, k, v before and after their norm; three terms of the logits of the longer lines
            spatial = 5 * wide + 3 * u.heads * area(u.before) * max(u.before)
        largest = max(2 * wide, spatial, narrow + 2 * leaving)
        if u.pre:  # the input's ReLU stays until that of the first convolution is there
            return entering + max(2 * entering, shortcut + max(entering + 2 * wide, largest))
        return entering + shortcut + largest

    c, pre, grid = stages.width, stages.order == "pre", _strided(resolution, 2)
    large, small, padded = c * area(grid), c * area(_strided(grid, 2)), c * _padded(grid, 3, 2, pre)
    peaks = [(large + padded + small) * b + 8 * small]  # the maximum, and where it was
    if not pre:
        peaks += [(3 * _padded(resolution, 7, 2, pre) + large) * b, (2 * large + padded) * b]
    stage = small
    for u in _units(stages, resolution, heads):
        if u.first:
            stage = u.inputs * area(u.before)
        waiting = (small if stage != small else 0) + (0 if u.first else stage)
        peaks.append((unit(u) + waiting) * b if u.times else 0)
    return max(peaks)
