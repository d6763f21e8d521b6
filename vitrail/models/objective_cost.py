"""The cost of a training step by its objective: multiply-adds of its forward pass, from configs alone.

N patches · V tokens that the encoder sees · D width · E width of MAE's decoder
"""

from dataclasses import replace

from vitrail.models.build import ModelConfig
from vitrail.models.cost import attention_multiply_adds, multiply_adds
from vitrail.models.mae import MAE
from vitrail.models.masked_patches import MaskedPatches
from vitrail.models.objective import Objective, TrainedModel
from vitrail.models.vit import ViTConfig


def pass_multiply_adds(config: ModelConfig, objective: Objective) -> int:
    """Multiply-adds of one image's forward pass in training."""
    if not isinstance(objective, MaskedPatches | MAE) or not isinstance(config, ViTConfig):
        return multiply_adds(config)
    patches = config.grid[0] * config.grid[1]
    bare = replace(config, num_classes=0, hidden=None)
    whole = multiply_adds(bare)
    if isinstance(objective, MaskedPatches):
        return whole + objective.corrupted(patches) * config.width * objective.outputs(config.patch)
    pixels, e = config.channels * config.patch**2, objective.decoder_width
    stem = patches * pixels * config.width  # all patches are embedded, as published
    seen = objective.visible(patches) + config.num_prefix_tokens
    wide = config.width * (4 * config.width + (3 if config.gated else 2) * config.mlp)
    encoder = config.depth * seen * wide
    decoder = objective.decoder_depth * config.tokens * e * (4 * e + 2 * objective.decoder_mlp)
    attention = pass_attention_multiply_adds(config, objective)
    return stem + encoder + seen * config.width * e + decoder + attention + patches * e * pixels


def pass_attention_multiply_adds(config: ModelConfig, objective: Objective) -> int:
    """Of these the products of attention that no weights take part in."""
    if not isinstance(objective, MAE) or not isinstance(config, ViTConfig):
        return attention_multiply_adds(config)
    seen = objective.visible(config.grid[0] * config.grid[1]) + config.num_prefix_tokens
    encoder = config.depth * 2 * seen**2 * config.width
    return encoder + objective.decoder_depth * 2 * config.tokens**2 * objective.decoder_width


def training_flops_of(config: ModelConfig, objective: Objective) -> int:
    """FLOPs of one image's training step: 2 a multiply-add, and 3 times the forward pass with the backward."""
    return 6 * pass_multiply_adds(config, objective)


def flops_of(trained: TrainedModel) -> int:
    """The same of what is trained."""
    objective = getattr(trained, "objective", None)
    return 6 * (multiply_adds(trained.config) if objective is None else pass_multiply_adds(trained.config, objective))
