"""Polyak averaging: a moving average of the weights from the first step, used for evaluation and for the bundle."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from vitrail.train.sharded import local

Average = dict[str, Tensor]


def start_average(model: nn.Module) -> Average:
    """A copy of the weights."""
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def update_average(average: Average, model: nn.Module, decay: float) -> None:
    """average ← decay · average + (1 - decay) · weights."""
    with torch.no_grad():
        weights = [local(p.detach()) for _, p in model.named_parameters()]
        torch._foreach_lerp_([local(a) for a in average.values()], weights, 1 - decay)


@contextmanager
def use_averaged(model: nn.Module, average: Average | None) -> Iterator[nn.Module]:
    """The model with its averaged weights inside the block, and its own again after it. Without an average: itself."""
    weights = {name: local(p.detach()) for name, p in model.named_parameters()} if average is not None else {}
    own = {name: weight.clone() for name, weight in weights.items()}
    _forget_gathered(model)
    try:
        for name, weight in weights.items():
            weight.copy_(local((average or {})[name]))
        yield model
    finally:
        for name, weight in weights.items():
            weight.copy_(own[name])
        _forget_gathered(model)


def _forget_gathered(model: nn.Module) -> None:
    """Sharded modules may keep whole weights from one forward pass to the next, which are not these any more."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
