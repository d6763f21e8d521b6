"""Which kernel computes attention in a model on this device: what records of throughput say of it."""

import torch

from vitrail.models.attention import kernel_for
from vitrail.models.build import ModelConfig
from vitrail.models.cost import sequences
from vitrail.models.mae import MAE
from vitrail.models.objective import TrainedModel
from vitrail.models.position import Relative
from vitrail.models.vit import ViTConfig


def attention_kernel(
    config: ModelConfig, device: torch.device, dtype: torch.dtype, *, training: bool, tokens: int | None = None
) -> str | None:
    """`fused` (PyTorch's scaled_dot_product_attention), `products` or `mixed` (models/attention_kernel.py).

    Several, as "fused, mixed", where rows and columns of axial attention take different ones; None for a ResNet.

    Args:
        dtype: of matrix products.
        tokens: of a sequence, where it is not the model's own number.
    """
    if not isinstance(config, ViTConfig):
        return None
    lengths = [tokens] if tokens is not None else [length for _, length in sequences(config)]
    biased, head_width = isinstance(config.position, Relative), config.width // config.heads
    found = [kernel_for(device.type, dtype, length, head_width, biased, training) for length in lengths]
    return ", ".join(dict.fromkeys(found))


def training_kernel(trained: TrainedModel, device: torch.device, dtype: torch.dtype) -> str | None:
    """The same in a training step; MAE's encoder sees the visible patches alone."""
    config, objective, tokens = trained.config, getattr(trained, "objective", None), None
    if isinstance(objective, MAE) and isinstance(config, ViTConfig):
        tokens = objective.visible(config.grid[0] * config.grid[1]) + config.num_prefix_tokens
    return attention_kernel(config, device, dtype, training=True, tokens=tokens)
