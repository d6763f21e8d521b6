"""What an image and a step ask for, whatever computes them: arithmetic, bytes, weights. From configs alone."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from vitrail.core.device import TrainingPrecision
from vitrail.models.build import ModelConfig
from vitrail.models.cost import layer_matrices, parameters, training_activations
from vitrail.models.objective import Labels, Objective
from vitrail.models.objective_cost import pass_attention_multiply_adds, pass_multiply_adds
from vitrail.models.vit import ViTConfig

# Bytes that pass through memory outside of products and attention, for each byte that is kept for the backward pass:
# of a compiled layer in bfloat16 160 a token and unit of width (as counted by Inductor), where 48 are kept. Recomputed
# layers go through their forward pass, 42 of the 160, once more.
STREAMED, AGAIN = 160 / 48, 42 / 160


@dataclass(frozen=True)
class Work:
    """Of a model and an objective: FLOPs and bytes of an image's training step, and the weights."""

    parameters: int
    layer_parameters: int  # of one of the layers that are sharded one by one
    layers: int
    width: int
    tokens: int  # rows that an image adds to products
    products: float  # FLOPs of products with weights
    attention: float  # FLOPs of products without
    kept: float  # bytes of activations until the backward pass
    streamed: float  # bytes through memory beside the products
    matrices: Mapping[tuple[int, int], int]  # of Transformer layers, how many of each shape

    @property
    def root_parameters(self) -> int:
        """Outside of the layers: embeddings, positions, the last norm, the head."""
        return self.parameters - self.layers * self.layer_parameters

    @property
    def flops(self) -> float:
        """Of an image, without what is recomputed."""
        return self.products + self.attention


def work_of(model: ModelConfig, objective: Objective = Labels(), number: int = 3, *, recompute: bool = False) -> Work:
    """What training `model` asks for. MAE's decoder and the patches that are left out: by their share of the FLOPs.

    Args:
        number: bytes of an activation, on the mean (vitrail.core.device.number_bytes).
        recompute: activations of a layer in the backward pass again: then FLOPs are 4 / 3 of those that count.
    """
    whole = parameters(model)
    once = pass_multiply_adds(model, objective)
    attention = pass_attention_multiply_adds(model, objective)
    alone = pass_multiply_adds(model, Labels())
    kept = training_activations(model, number) * once / alone
    held = training_activations(model, number, recompute=recompute) * once / alone
    factor = 8 if recompute else 6
    if isinstance(model, ViTConfig):
        layers, width, tokens = model.depth, model.width, model.tokens
        layer = whole - parameters(replace(model, depth=model.depth - 1)) if model.depth > 1 else whole
    else:
        layers, width, tokens = sum(model.stages.units), model.stages.width * 8, 196
        layer = whole // layers
    return Work(
        parameters=whole,
        layer_parameters=layer,
        layers=layers,
        width=width,
        tokens=tokens,
        products=float(factor * (once - attention)),
        attention=float(factor * attention),
        kept=held,
        streamed=kept * STREAMED * (1 + (AGAIN if recompute else 0)),
        matrices=layer_matrices(model),
    )


def number_of(precision: TrainingPrecision) -> int:
    """Bytes of an activation on an accelerator: `auto` is bfloat16 there, of which autocast leaves half in float32."""
    return 4 if precision == "float32" else 3
