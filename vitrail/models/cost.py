"""The cost of a model from its config alone: parameters, multiply-adds, FLOPs, and the memory of activations.

Nothing is allocated and nothing takes longer for a larger model: a file's config may ask for 10^12 layers or units.

N tokens · D width · M MLP width · H heads · K classes · h w grid of patches or places of a feature map
"""

from vitrail.models.build import ModelConfig
from vitrail.models.head import AttentionPool, AveragePool, ClassToken, pooled_width
from vitrail.models.position import Learned1d, Learned2d, NoPosition, Relative, SinCos2d, has_class_entry, tables
from vitrail.models.resnet import ResNetConfig
from vitrail.models.resnet_cost import (
    GROUP_STATISTICS,
    area,
    trunk_kept,
    trunk_multiply_adds,
    trunk_parameters,
    trunk_peak,
)
from vitrail.models.vit import ViTConfig


def parameters(config: ModelConfig) -> int:
    """The number of parameters; those that are never trained (fixed sines and cosines) are among them."""
    head = (config.representation_width + 1) * config.num_classes
    match config:
        case ResNetConfig(stages):
            under = trunk_parameters(stages, config.resolution, config.axial_heads)
            return under + (2 * stages.channels if stages.order == "pre" else 0) + head
        case ViTConfig():
            return _stem_parameters(config) + _encoder_parameters(config) + _pool_parameters(config) + head


def layer_matrices(config: ModelConfig) -> dict[tuple[int, int], int]:
    """The matrices of a Transformer's layers, how many of each shape: q, k, v, the projection, the MLP's."""
    if isinstance(config, ResNetConfig):
        return {}
    d, m, blocks = config.width, config.mlp, config.depth * (2 if config.axial else 1)
    shapes = [(d, d)] * 4 + [(m, d)] * (2 if config.gated else 1) + [(d, m)]
    return {shape: blocks * shapes.count(shape) for shape in dict.fromkeys(shapes)}


def multiply_adds(config: ModelConfig, *, padding: bool = True) -> int:
    """Multiply-adds of one image's forward pass: convolutions and matrix products, both of attention's included.

    `padding=False` leaves out a convolution's products with the zeros around its input, as XLA's cost analysis does;
    Table 6 was counted so.
    """
    head = config.representation_width * config.num_classes
    match config:
        case ResNetConfig(stages):
            return trunk_multiply_adds(stages, config.resolution, padding, config.axial_heads) + head
        case ViTConfig():
            d, n, under = config.width, config.tokens, config.backbone
            stem = area(config.grid) * _patch_numbers(config) * d
            if under:
                stem += trunk_multiply_adds(under, config.resolution, padding)
            wide = 4 * d * d + (3 if config.gated else 2) * d * config.mlp
            block = sum(lines * length for lines, length in sequences(config)) * wide
            if isinstance(config.position, Relative):
                block += n * (2 * n - 1) * d  # q and the vector of every offset
            return stem + config.depth * block + attention_multiply_adds(config) + _pool_multiply_adds(config) + head


def attention_multiply_adds(config: ModelConfig) -> int:
    """Of these the two products of the blocks' attention, q·k and a·v, that no weights take part in."""
    if isinstance(config, ResNetConfig):
        return 0
    return config.depth * sum(lines * 2 * length**2 * config.width for lines, length in sequences(config))


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
            last = area(config.grid) * stages.channels * b
            kept = trunk_kept(stages, config.resolution, b, config.axial_heads) + last
            if stages.order == "pre":
                kept += last + GROUP_STATISTICS  # what the last norm and its ReLU return
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
    image = config.channels * area(config.resolution) * b
    match config:
        case ResNetConfig(stages):
            last = area(config.grid) * stages.channels
            head = max(3 * last if stages.order == "pre" else 0, last + stages.channels + config.num_classes) * b
            return image + max(trunk_peak(stages, config.resolution, b, config.axial_heads), head)
        case ViTConfig():
            return image + max(_stem_peak(config, b), _block_peak(config, b), _head_peak(config, b))


_TOKEN_STATISTICS = 8  # bytes that a layer norm keeps for a token: mean and deviation, in float32

# The parts of a ViT. `_kept` is what the backward pass needs, `_peak` the most that is alive in the forward pass, both
# in bytes for an image, `b` for a number.


def _patch_numbers(config: ViTConfig) -> int:
    """The number of values in a patch."""
    return (config.backbone.channels if config.backbone else config.channels) * config.patch**2


def _feature_map(config: ViTConfig) -> int:
    """The number of values that the ResNet under a hybrid puts out."""
    under = config.backbone
    return area(under.grid(config.resolution)) * under.channels if under else 0


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
    under = trunk_parameters(config.backbone) if config.backbone else 0
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
    d, patches = config.width, area(config.grid)
    hidden = pooled_width(config.pool, d) * (config.hidden or 0)
    if isinstance(config.pool, AttentionPool):
        return 2 * patches * (d * d + d) + 2 * d * d + 2 * d * config.mlp + hidden
    return hidden


def _stem_kept(config: ViTConfig, b: int) -> int:
    """The flattened patches, a copy, and what lies below them."""
    kept = area(config.grid) * _patch_numbers(config) * b
    if config.backbone:
        kept += trunk_kept(config.backbone, config.resolution, b)
        if config.backbone.units and config.backbone.order == "post":
            kept += _feature_map(config) * b  # what the last ReLU returns
    return kept + (config.tokens * config.width if config.dropout else 0)


def _stem_peak(config: ViTConfig, b: int) -> int:
    """A feature map, its flattened patches and their embedding; later the tokens before and after their positions."""
    patches, d = area(config.grid), config.width
    embedding = _feature_map(config) + patches * (_patch_numbers(config) + d)
    under = trunk_peak(config.backbone, config.resolution, b) if config.backbone else 0
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
            attention = (3 * area(config.grid) + 1) * d * b + 4 * config.heads
            mlp = 2 * (d + m) * b + _TOKEN_STATISTICS
            return norm + attention + mlp + read + hidden
        case _:
            return norm + read + hidden


def _head_peak(config: ViTConfig, b: int) -> int:
    """The tokens before and after the last norm, and what follows."""
    d = config.width
    keys = 2 * area(config.grid) * d if isinstance(config.pool, AttentionPool) else 0
    vectors = pooled_width(config.pool, d) + 2 * (config.hidden or 0) + config.num_classes
    return (2 * config.tokens * d + max(keys, vectors)) * b
