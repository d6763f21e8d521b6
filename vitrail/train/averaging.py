"""Polyak averaging: a moving average of the weights from the first step, used for evaluation and for the bundle."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Average = dict[str, Tensor]


def start_average(model: nn.Module) -> Average:
    """A copy of the weights."""
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def update_average(average: Average, model: nn.Module, decay: float) -> None:
    """average ← decay · average + (1 - decay) · weights."""
    with torch.no_grad():
        weights: list[Tensor] = [p for _, p in model.named_parameters()]
        torch._foreach_lerp_(list(average.values()), weights, 1 - decay)


@contextmanager
def averaged(model: nn.Module, average: Average | None) -> Iterator[nn.Module]:
    """The model with its averaged weights inside the block, and its own again after it. Without an average: itself."""
    if average is None:
        yield model
        return
    parameters = dict(model.named_parameters())
    own = {name: p.data for name, p in parameters.items()}
    try:
        for name, p in parameters.items():
            p.data = average[name]
        yield model
    finally:
        for name, p in parameters.items():
            p.data = own[name]
