"""What an objective is to the loop: from a model, a batch and a key to inputs, a loss, and sums for metrics.

Masks are keyed by (seed, epoch, example), as augmentations are: they do not depend on processes or micro-batches.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from vitrail.data.transforms.counter_rng import CounterRNG
from vitrail.models.mae import MaskedAutoencoder, draw_order, painting_loss
from vitrail.models.masked_patches import (
    COLOURS,
    Corruption,
    PatchPredictor,
    draw_corruption,
    flat_pixels,
    mean_colours,
    neighbours_colour,
    small_colours,
)
from vitrail.models.objective import TrainedModel
from vitrail.models.vit import chosen
from vitrail.train.loss import LossConfig, loss


class Part(NamedTuple):
    """Images of one forward pass, and all that a loss may be made from."""

    images: Float[Tensor, "b c y x"]  # as the model reads them
    pixels: UInt8[Tensor, "b 3 y x"]  # augmented, from 0 to 255
    targets: Tensor  # class numbers, or shares of the classes where images were mixed
    labels: Tensor  # classes, or a one for each class that an image has
    epochs: Int64[Tensor, " b"]
    indices: Int64[Tensor, " b"]


class Loss(NamedTuple):
    """The mean over the images of a part, and sums over them, which `summary` makes metrics of."""

    mean: Tensor
    sums: dict[str, Tensor]


def inputs(model: TrainedModel, part: Part, key: int) -> tuple[Tensor, ...]:
    """What the model is called with."""
    match model:
        case PatchPredictor():
            return part.images, *_corruption(model, part, key)
        case MaskedAutoencoder():
            return part.images, draw_order(_numbers(model, part, key, 1))
        case _:
            return (part.images,)


def loss_of(
    model: TrainedModel,
    output: Any,
    given: tuple[Tensor, ...],
    part: Part,
    config: LossConfig,
    weights: Tensor | None = None,
    priors: Tensor | None = None,
) -> Loss:
    """The loss of what the model returned for `given`, outside of autocast."""
    match model:
        case PatchPredictor():
            return _of_patches(model, output, Corruption(*given[1:]), part)
        case MaskedAutoencoder():
            if not len(part.images):
                return Loss(output.sum() * 0, {})
            patch = model.config.patch
            return Loss(painting_loss(output, part.images, given[1], model.objective, patch), {})
        case _:
            logits, y = output.logits, part.labels
            mean = loss(logits, part.targets, config, weights, priors) if len(y) else logits.sum() * 0
            return Loss(mean, {"accuracy": _hits(logits.detach(), y)})


def summary(sums: dict[str, Tensor], images: int) -> dict[str, float]:
    """The metrics of sums over so many images: means; of how often each colour was there, the largest share."""
    means = {name: float(total) / images for name, total in sums.items() if name != "colours"}
    if "colours" in sums:
        means["majority"] = float(sums["colours"].max() / sums["colours"].sum())
    return means


def _hits(logits: Tensor, labels: Tensor) -> Tensor:
    """How many images have the class that is likeliest, or have it among theirs."""
    likeliest = logits.argmax(dim=-1)
    return (likeliest == labels).sum() if labels.ndim == 1 else labels.gather(1, likeliest[:, None]).sum()


def _numbers(model: PatchPredictor | MaskedAutoencoder, part: Part, key: int, each: int) -> Tensor:
    h, w = model.config.grid
    device = part.images.device
    rng = CounterRNG(key, part.epochs.to(device), part.indices.to(device))
    return rng.uniform(0, each * h * w)


def _corruption(model: PatchPredictor, part: Part, key: int) -> Corruption:
    return draw_corruption(model.objective, _numbers(model, part, key, 3))


def _of_patches(model: PatchPredictor, output: Tensor, corruption: Corruption, part: Part) -> Loss:
    """Cross-entropy of colours, or the squared error of pixels; and how many colours were right, beside who else."""
    patch, target, pixels = model.config.patch, model.objective.target, part.pixels.to(output.device)
    predicted, places = output.float(), corruption.places
    nothing = not len(pixels)
    if target == "pixels":
        wanted = chosen(flat_pixels(pixels, patch), places)
        return Loss(output.sum() * 0 if nothing else (predicted - wanted).square().mean(), {})
    predicted = predicted.unflatten(2, (-1, COLOURS))  # [B, M, 1 or 16, 512]
    of_all = small_colours(pixels, patch) if target == "small-colours" else mean_colours(pixels, patch)[:, :, None]
    wanted = chosen(of_all, places)
    mean = output.sum() * 0 if nothing else F.cross_entropy(predicted.flatten(0, 2), wanted.flatten())
    right = (predicted.detach().argmax(dim=-1) == wanted).double().mean(dim=(1, 2))
    seen = torch.ones_like(corruption.masked).scatter_(1, places, False)
    guess = chosen(neighbours_colour(pixels, patch, seen)[:, :, None], places)
    flat = wanted.flatten()
    colours = flat.new_zeros(COLOURS).scatter_add_(0, flat, torch.ones_like(flat))  # bincount would read its length
    near = (guess == wanted).double().mean(dim=(1, 2))
    return Loss(mean, {"accuracy": right.sum(), "neighbours": near.sum(), "colours": colours})
