"""What a model costs, from its config alone: parameters, multiply-adds, FLOPs of training. Nothing is allocated."""

from vitrail.models.build import ModelConfig
from vitrail.models.position import NoPosition


def parameters(config: ModelConfig) -> int:
    """The number of parameters: patches, tokens, positions, blocks, norm, hidden layer, head."""
    d, m, k = config.width, config.mlp, config.num_classes
    embedding = 3 * config.patch**2 * d + d + d * config.prefix
    positions = 0 if isinstance(config.position, NoPosition) else config.tokens * d
    block = 4 * d * d + 4 * d + 2 * d * m + m + d + 4 * d
    hidden = d * config.hidden + config.hidden if config.hidden else 0
    head = config.representation_width * k + k
    return embedding + positions + config.depth * block + 2 * d + hidden + head


def multiply_adds(config: ModelConfig) -> int:
    """Multiply-adds of one image's forward pass: matrix products only, both of attention's included."""
    d, m, n = config.width, config.mlp, config.tokens
    patches = config.grid[0] * config.grid[1]
    embedding = patches * 3 * config.patch**2 * d
    block = n * (4 * d * d + 2 * d * m) + 2 * n * n * d
    head = d * (config.hidden or 0) + config.representation_width * config.num_classes
    return embedding + config.depth * block + head


def training_flops(config: ModelConfig) -> int:
    """FLOPs of one image's training step: 2 a multiply-add, and 3 times the forward pass with the backward."""
    return 6 * multiply_adds(config)
