"""Attention of all heads for a batch of images: distances, maps and rollout, reduced layer by layer.

B batch · L layers · H heads · N tokens · y x patch grid · K classes · D width
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vitrail.analysis.distance import attention_distance
from vitrail.analysis.maps import output_map, patch_map, pooling_weights
from vitrail.analysis.rollout import rolled
from vitrail.models.cost import inference_activations
from vitrail.models.vit import ViT, ViTConfig


class Look(NamedTuple):
    """One batch, seen from inside; all in float32 on the model's device.

    logits, representation: as in ModelOutput
    distance: [B, L, H], the mean attention distance of each head in pixels of the image
    rollout: [B, y, x], how much of each patch reaches what the classifier reads (not normalised)
    heads: [B, chosen layers, H, y, x], what each head of the layers that were chosen attends to
    """

    logits: Float[Tensor, "b k"]
    representation: Float[Tensor, "b d"]
    distance: Float[Tensor, "b l heads"]
    rollout: Float[Tensor, "b y x"]
    heads: Float[Tensor, "b chosen heads y x"]


def look(
    model: ViT,
    images: Float[Tensor, "b c h w"],
    *,
    layers: Sequence[int] = (),
    place: tuple[int, int] | None = None,
) -> Look:
    """Watches the attention of every layer; of one layer at a time the weights [B, H, N, N] are held.

    Put the model into evaluation mode first. Plain and hybrid models, any grid, with and without class token or
    registers.

    Args:
        images: as the model reads them (`vitrail.data.loader.normalise.normalise`).
        layers: whose heads are mapped one by one, counted from 0, in ascending order.
        place: the row and column (from 0) of the patch that looks, in the maps of heads; None: what the classifier
            reads, the class token or the mean of all patches.
    """
    config = model.config
    grid, prefix = config.grid, config.num_prefix_tokens
    distances: list[Tensor] = []
    heads: list[Tensor] = []
    mixed: Tensor | None = None

    def watch(layer: int, weights: Tensor) -> None:
        nonlocal mixed
        distances.append(attention_distance(weights, grid, config.stride, prefix))
        mixed = rolled(mixed, weights)
        if layer in layers:
            seen = (
                output_map(weights, grid, prefix, config.pool)
                if place is None
                else patch_map(weights, grid, prefix, place)
            )
            heads.append(seen.to(torch.float32, copy=True))  # a part of the weights would hold all of them

    with torch.no_grad():
        output = model(images, attention=True, watch=watch)
        reading = None
        if model.attn_pool is not None:
            reading = pooling_weights(model.attn_pool, output.tokens[:, prefix:]).float().mean(dim=1)
    assert mixed is not None
    none = images.new_zeros(len(images), 0, config.heads, *grid)
    return Look(
        output.logits.float(),
        output.representation.float(),
        torch.stack(distances, dim=1),
        output_map(mixed, grid, prefix, config.pool, reading).clone(),
        torch.stack(heads, dim=1) if heads else none.float(),
    )


def bytes_to_look(config: ViTConfig) -> int:
    """The most bytes alive at once for each image that `look` is given: activations and the weights of one layer.

    An upper estimate: logits, weights and a copy of them for each head, and four matrices of the rollout, in float32.
    """
    return inference_activations(config, 4) + 4 * config.tokens**2 * (3 * config.heads + 4)
