"""The cost of a model from its config alone: parameters, multiply-adds, FLOPs, and the memory of activations.

Nothing is allocated and nothing takes longer for a larger model: a file's config may ask for 10^12 layers or units.

N tokens · D width · M MLP width · H heads · K classes · h w grid of patches or places of a feature map
"""

from typing import NamedTuple

from vitrail.models.axial_resnet import GROUPS
from vitrail.models.build import ModelConfig
from vitrail.models.head import AttentionPool, AveragePool, ClassToken, pooled_width
from vitrail.models.position import Learned1d, Learned2d, NoPosition, Relative, SinCos2d, has_class_entry, tables
from vitrail.models.resnet import ResNetConfig, Stages
from vitrail.models.vit import ViTConfig

Grid = tuple[int, int]


def parameters(config: ModelConfig) -> int:
    """The number of parameters; those that are never trained (fixed sines and cosines) are among them."""
    head = (config.representation_width + 1) * config.num_classes
    match config:
        case ResNetConfig(stages):
            under = _trunk_parameters(stages, config.resolution, config.axial_heads)
            return under + (2 * stages.channels if stages.order == "pre" else 0) + head
        case ViTConfig():
            return _stem_parameters(config) + _encoder_parameters(config) + _pool_parameters(config) + head


def multiply_adds(config: ModelConfig, *, padding: bool = True) -> int:
    """Multiply-adds of one image's forward pass: convolutions and matrix products, both of attention's included.

    `padding=False` leaves out a convolution's products with the zeros around its input, as XLA's cost analysis does;
    Table 6 was counted so.
    """
    head = config.representation_width * config.num_classes
    match config:
        case ResNetConfig(stages):
            return _trunk_multiply_adds(stages, config.resolution, padding, config.axial_heads) + head
        case ViTConfig():
            d, n, under = config.width, config.tokens, config.backbone
            stem = _area(config.grid) * _patch_numbers(config) * d
            if under:
                stem += _trunk_multiply_adds(under, config.resolution, padding)
            wide = 4 * d * d + (3 if config.gated else 2) * d * config.mlp
            block = sum(lines * (length * wide + 2 * length**2 * d) for lines, length in sequences(config))
            if isinstance(config.position, Relative):
                block += n * (2 * n - 1) * d  # q and the vector of every offset
            return stem + config.depth * block + _pool_multiply_adds(config) + head


def training_flops(config: ModelConfig) -> int:
    """FLOPs of one image's training step: 2 a multiply-add, and 3 times the forward pass with the backward."""
    return 6 * multiply_adds(config)


def training_memory(
    config: ModelConfig, batch: int, bytes_per_number: int = 4, *, moments: int = 2, trained: int | None = None
) -> int:
    """Bytes of a step with `batch` images: activations, weights, and gradients and `moments` of what is `trained`."""
    count = parameters(config)
    kept = count + (1 + moments) * (count if trained is None else trained)
    return 4 * kept + batch * training_activations(config, bytes_per_number)


def training_activations(config: ModelConfig, bytes_per_number: int = 4, *, recompute: bool = False) -> int:
    """Bytes that autograd keeps for the backward pass of each image of a batch.

    Holds for the forward pass as it is written, run eagerly, with PyTorch's fused attention; relative positions are
    counted without it, since its CPU kernel cannot learn a bias. Another kernel keeps other things; recomputed
    activations (checkpointing) and torch.compile keep less. Left out is what does not grow with the batch (weights,
    gradients, optimiser, standardised weights) and what lives only for a moment (gradients of activations).

    `bytes_per_number`: 4 for float32, 2 where weights and all are bfloat16. Autocast lies between: the residual
    stream stays in float32, and on CUDA also what norms return. Dropout's masks take a byte a number, as on CUDA.

    `recompute`: of every block of a ViT only the input is kept, and all of one block at a time. (A ResNet's units are
    counted whole: the estimate is then too large.)
    """
    b = bytes_per_number
    match config:
        case ResNetConfig(stages):
            last = _area(config.grid) * stages.channels * b
            kept = _trunk_kept(stages, config.resolution, b, config.axial_heads) + last
            if stages.order == "pre":
                kept += last + _GROUP_STATISTICS  # what the last norm and its ReLU return
            return kept + (stages.channels * b if config.num_classes else 0)
        case ViTConfig():
            blocks = config.depth * _block_kept(config, b)
            if recompute:
                blocks = config.depth * config.tokens * config.width * b + _block_kept(config, b)
            return _stem_kept(config, b) + blocks + _head_kept(config, b)


def inference_activations(config: ModelConfig, bytes_per_number: int = 4) -> int:
    """The most bytes alive at once for each image of a batch without gradients, the image itself included.

    Holds for the forward pass as it is written, run eagerly, with PyTorch's fused attention. Left out are the weights,
    what is computed from them alone, and what a kernel allocates for itself.
    """
    b = bytes_per_number
    image = config.channels * _area(config.resolution) * b
    match config:
        case ResNetConfig(stages):
            last = _area(config.grid) * stages.channels
            head = max(3 * last if stages.order == "pre" else 0, last + stages.channels + config.num_classes) * b
            return image + max(_trunk_peak(stages, config.resolution, b, config.axial_heads), head)
        case ViTConfig():
            return image + max(_stem_peak(config, b), _block_peak(config, b), _head_peak(config, b))


_TOKEN_STATISTICS = 8  # bytes that a layer norm keeps for a token: mean and deviation, in float32
_GROUP_STATISTICS = 8 * GROUPS  # and a group norm for an image

# The parts of a ViT. `_kept` is what the backward pass needs, `_peak` the most that is alive in the forward pass, both
# in bytes for an image, `b` for a number.


def _patch_numbers(config: ViTConfig) -> int:
    """The number of values in a patch."""
    return (config.backbone.channels if config.backbone else config.channels) * config.patch**2


def _feature_map(config: ViTConfig) -> int:
    """The number of values that the ResNet under a hybrid puts out."""
    under = config.backbone
    return _area(under.grid(config.resolution)) * under.channels if under else 0


def _stem_parameters(config: ViTConfig) -> int:
    """The ResNet below, the patch embedding, extra tokens and positions."""
    d, (h, w) = config.width, config.grid
    entry = has_class_entry(config.position, config.class_token)
    match config.position:
        case NoPosition():
            positions = 0
        case Learned1d(where):
            positions = tables(where, config.depth) * (h * w + entry) * d
        case Learned2d(where):
            positions = tables(where, config.depth) * ((h + w) * (d // 2) + entry * d)
        case Relative(shared):
            positions = (1 if shared else config.depth) * (2 * config.tokens - 1) * (d // config.heads)
        case SinCos2d():
            positions = (h * w + entry) * d
    under = _trunk_parameters(config.backbone) if config.backbone else 0
    return under + (_patch_numbers(config) + 1) * d + config.num_prefix_tokens * d + positions


def _encoder_parameters(config: ViTConfig) -> int:
    """The blocks and the last norm, wherever that is."""
    d, m = config.width, config.mlp
    attention = 4 * d * d + 4 * d + (4 * (d // config.heads) if config.qk_norm else 0)
    mlp = (2 if config.gated else 1) * (d * m + m) + m * d + d
    norms = 4 * d + (2 * d if config.layer_scale is not None else 0)
    return config.depth * len(sequences(config)) * (attention + mlp + norms) + 2 * d


def _pool_parameters(config: ViTConfig) -> int:
    """Attention pooling (a query, four matrices, a norm, an MLP) and the hidden layer."""
    d, m = config.width, config.mlp
    hidden = (pooled_width(config.pool, d) + 1) * (config.hidden or 0)
    if isinstance(config.pool, AttentionPool):
        return d + 4 * d * d + 4 * d + 2 * d + 2 * d * m + m + d + hidden
    return hidden


def _pool_multiply_adds(config: ViTConfig) -> int:
    """Attention pooling and the hidden layer."""
    d, patches = config.width, _area(config.grid)
    hidden = pooled_width(config.pool, d) * (config.hidden or 0)
    if isinstance(config.pool, AttentionPool):
        return 2 * patches * (d * d + d) + 2 * d * d + 2 * d * config.mlp + hidden
    return hidden


def _stem_kept(config: ViTConfig, b: int) -> int:
    """The flattened patches, a copy, and what lies below them."""
    kept = _area(config.grid) * _patch_numbers(config) * b
    if config.backbone:
        kept += _trunk_kept(config.backbone, config.resolution, b)
        if config.backbone.units and config.backbone.order == "post":
            kept += _feature_map(config) * b  # what the last ReLU returns
    return kept + (config.tokens * config.width if config.dropout else 0)


def _stem_peak(config: ViTConfig, b: int) -> int:
    """A feature map, its flattened patches and their embedding; later the tokens before and after their positions."""
    patches, d = _area(config.grid), config.width
    embedding = _feature_map(config) + patches * (_patch_numbers(config) + d)
    under = _trunk_peak(config.backbone, config.resolution, b) if config.backbone else 0
    return max(under, embedding * b, 2 * config.tokens * d * b)


def sequences(config: ViTConfig) -> list[tuple[int, int]]:
    """The attentions of a layer: how many sequences, of how many tokens each. Axial: the rows, then the columns."""
    if not config.axial:
        return [(1, config.tokens)]
    (h, w), prefix = config.grid, config.num_prefix_tokens
    return [(h, prefix + w), (w, prefix + h)]


def _block_kept(config: ViTConfig, b: int) -> int:
    """Of an axial layer both halves, to within a few per cent: the copies that regroup tokens are left out."""
    if config.axial:
        return sum(_half_kept(config, b, lines * length) for lines, length in sequences(config))
    return _half_kept(config, b, config.tokens)


def _half_kept(config: ViTConfig, b: int, n: int) -> int:
    """The inputs and outputs of both norms, attention, and the MLP's hidden layers."""
    d, m = config.width, config.mlp
    rows = n * config.heads
    kept = 4 * n * d * b + 2 * n * _TOKEN_STATISTICS + (4 if config.gated else 2) * n * m * b
    if isinstance(config.position, Relative):  # q scaled for the positions, q and k scaled, v, weights, their mixture
        kept += (5 * n * d + rows * n) * b
    else:  # q, k, v, their mixture, and the logarithm of each softmax's denominator in float32
        kept += 4 * n * d * b + 4 * rows
    if config.qk_norm:  # q and k before their norms or after; and the mixture, copied into the order of tokens
        kept += 3 * n * d * b + 2 * rows * _TOKEN_STATISTICS
    if config.layer_scale is not None:
        kept += 2 * n * d * b
    return kept + (n * (2 * d + m) if config.dropout else 0)


def _block_peak(config: ViTConfig, b: int) -> int:
    n, d, m = max(lines * length for lines, length in sequences(config)), config.width, config.mlp
    rows = n * config.heads
    # The block's input, the norm's output, q, k, v (and what norms make of q and k), their mixture, its projection.
    attention = (10 if config.qk_norm else 7) * n * d
    if isinstance(config.position, Relative):  # products with every offset, and their padded copy, which stays
        products = (7 if config.qk_norm else 5) * n * d + rows * (4 * n - 1)
        attention = max(products, attention + 2 * rows * n)
    # The block's input, attention's output, their sum, its norm, the MLP's hidden layers and its output.
    mlp = n * (max(4 * d + 4 * m, 5 * d + 3 * m) if config.gated else 5 * d + 2 * m)
    return max(attention, mlp) * b


def _head_kept(config: ViTConfig, b: int) -> int:
    """The last norm, the pooling, and what the hidden layer and the classifier read."""
    n, d, m = config.tokens, config.width, config.mlp
    norm = n * d * b + n * _TOKEN_STATISTICS
    hidden = (config.hidden or 0) * b
    read = pooled_width(config.pool, d) * b if config.hidden or config.num_classes else 0
    match config.pool:
        case ClassToken():
            return norm + n * read + hidden  # one token holds on to all
        case AveragePool(_, norm_after=True):
            return d * b + _TOKEN_STATISTICS + read + hidden
        case AttentionPool():  # the tokens, k, v, the mixture; the MLP on it
            attention = (3 * _area(config.grid) + 1) * d * b + 4 * config.heads
            mlp = 2 * (d + m) * b + _TOKEN_STATISTICS
            return norm + attention + mlp + read + hidden
        case _:
            return norm + read + hidden


def _head_peak(config: ViTConfig, b: int) -> int:
    """The tokens before and after the last norm, and what follows."""
    d = config.width
    keys = 2 * _area(config.grid) * d if isinstance(config.pool, AttentionPool) else 0
    vectors = pooled_width(config.pool, d) + 2 * (config.hidden or 0) + config.num_classes
    return (2 * config.tokens * d + max(keys, vectors)) * b


# The parts of a ResNet.


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
        return 25 * self.middle * _area(self.before) // 2 + 5 * self.axial_weights // 4 if self.heads else 0

    @property
    def axial_weights(self) -> int:
        """The number of weights of attention, along the rows and along the columns."""
        return self.heads * _area(self.before) * sum(self.before)

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


def _area(grid: Grid) -> int:
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


def _trunk_parameters(stages: Stages, resolution: Grid = (1, 1), heads: int = 0) -> int:
    def unit(u: _Units) -> int:
        convolutions = u.inputs * u.middle + u.spatial_parameters + u.middle * u.outputs
        norms = 2 * (2 * u.middle + (u.inputs if u.pre else u.outputs))
        projection = u.inputs * u.outputs + (0 if u.pre else 2 * u.outputs)
        return convolutions + norms + (projection if u.first else 0)

    root = 3 * 7**2 * stages.width + (0 if stages.order == "pre" else 2 * stages.width)
    return root + sum(u.times * unit(u) for u in _units(stages, resolution, heads))


def _trunk_multiply_adds(stages: Stages, resolution: Grid, padding: bool, heads: int = 0) -> int:
    pre = stages.order == "pre"

    def kernel(size: int, stride: int, before: Grid) -> int:
        h, w = (_meetings(side, size, stride, pre, padding) for side in before)
        return h * w

    def spatial(u: _Units) -> int:
        if not u.heads:
            return u.middle**2 * kernel(3, u.stride, u.before)
        # q, k, v; then for each pair of a line q·k, q·p and k·r of half the width, and a·v and a·s of the whole
        return _area(u.before) * u.middle // 2 * sum(4 * u.middle + 7 * length for length in u.before)

    def unit(u: _Units) -> int:
        convolutions = u.middle * (u.inputs * _area(u.before) + u.outputs * _area(u.after)) + spatial(u)
        return convolutions + (u.inputs * u.outputs * _area(u.after) if u.first else 0)

    root = 3 * stages.width * kernel(7, 2, resolution)
    return root + sum(u.times * unit(u) for u in _units(stages, resolution, heads))


def _trunk_kept(stages: Stages, resolution: Grid, b: int, heads: int = 0) -> int:
    """All but the last feature map, whose reader decides."""

    def unit(u: _Units) -> int:
        before, after = _area(u.before), _area(u.after)
        middle = 2 * u.middle * (before + after) + u.middle * u.padded  # after two convolutions, and after their ReLUs
        middle += u.axial_kept
        statistics = 3 * _GROUP_STATISTICS
        if u.pre:  # the input's ReLU, the sum
            return (middle + u.inputs * before + u.outputs * after) * b + statistics
        projection = u.outputs * after * b + _GROUP_STATISTICS if u.first else 0
        return (middle + 2 * u.outputs * after) * b + statistics + projection  # the third convolution, the last ReLU

    c, pre, large = stages.width, stages.order == "pre", _strided(resolution, 2)
    small = _area(_strided(large, 2))
    root = c * (_padded(large, 3, 2, pre) + small) * b + 8 * c * small  # the maximum: its input, itself, where it was
    if pre:
        root += 3 * _area(resolution) * b
    else:
        root += (3 * _padded(resolution, 7, 2, pre) + 2 * c * _area(large)) * b + _GROUP_STATISTICS
    last = stages.channels * _area(stages.grid(resolution)) * b
    return root + sum(u.times * unit(u) for u in _units(stages, resolution, heads)) - last


def _trunk_peak(stages: Stages, resolution: Grid, b: int, heads: int = 0) -> int:
    """Beside the image. What the root returns lives until all stages end, and a stage's input until the stage does."""

    def unit(u: _Units) -> int:
        entering, leaving = u.inputs * _area(u.before), u.outputs * _area(u.after)
        wide, narrow = u.middle * _area(u.before), u.middle * _area(u.after)
        shortcut = leaving if u.first else 0
        spatial = wide + max(u.middle * u.padded + narrow, 2 * narrow)
        if u.heads:  # q, k, v before and after their norm; three terms of the logits of the longer lines
            spatial = 5 * wide + 3 * u.heads * _area(u.before) * max(u.before)
        largest = max(2 * wide, spatial, narrow + 2 * leaving)
        if u.pre:  # the input's ReLU stays until that of the first convolution is there
            return entering + max(2 * entering, shortcut + max(entering + 2 * wide, largest))
        return entering + shortcut + largest

    c, pre, grid = stages.width, stages.order == "pre", _strided(resolution, 2)
    large, small, padded = c * _area(grid), c * _area(_strided(grid, 2)), c * _padded(grid, 3, 2, pre)
    peaks = [(large + padded + small) * b + 8 * small]  # the maximum, and where it was
    if not pre:
        peaks += [(3 * _padded(resolution, 7, 2, pre) + large) * b, (2 * large + padded) * b]
    stage = small
    for u in _units(stages, resolution, heads):
        if u.first:
            stage = u.inputs * _area(u.before)
        waiting = (small if stage != small else 0) + (0 if u.first else stage)
        peaks.append((unit(u) + waiting) * b if u.times else 0)
    return max(peaks)
