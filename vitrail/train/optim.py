"""Adam and SGD with momentum, both with weight decay that is decoupled and multiplied by the learning rate.

That is the convention of Table 3: a decay of 0.1 at a learning rate of 1e-3 shrinks a weight by
1e-4 a step. (big_vision's `wd` is already multiplied by the learning rate.)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

Decayed = Literal["kernels", "all"]  # kernels: matrices of linear maps; all: biases, norms, positions and tokens too


@dataclass(frozen=True)
class Adam:
    """Adam with decoupled decay (AdamW)."""

    lr: float = 1e-3
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    decayed: Decayed = "kernels"


@dataclass(frozen=True)
class Momentum:
    """SGD with momentum, not Nesterov: the paper's optimiser for fine-tuning."""

    lr: float = 0.03
    momentum: float = 0.9
    weight_decay: float = 0.0
    decayed: Decayed = "kernels"


OptimizerConfig = Adam | Momentum


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser over all parameters of `model` that are trained, in two groups: with decay, and without."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    with_decay = [p for name, p in trained if is_decayed(name, p, config.decayed)]
    without = [p for name, p in trained if not is_decayed(name, p, config.decayed)]
    groups = [{"params": with_decay, "weight_decay": config.weight_decay}, {"params": without, "weight_decay": 0.0}]
    groups = [g for g in groups if g["params"]]
    match config:
        case Adam():
            return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)
        case Momentum():
            return DecoupledSGD(groups, lr=config.lr, momentum=config.momentum, fused=True)


def is_decayed(name: str, parameter: torch.Tensor, decayed: Decayed) -> bool:
    """Whether weight decay acts on this parameter."""
    return decayed == "all" or (parameter.ndim >= 2 and name.endswith(".weight"))


class DecoupledSGD(torch.optim.SGD):
    """PyTorch's SGD adds the decay to the gradient, where momentum keeps it; here weights shrink by lr · decay."""

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        kept = [group["weight_decay"] for group in self.param_groups]
        with torch.no_grad():
            for group in self.param_groups:
                if group["weight_decay"]:
                    torch._foreach_mul_(group["params"], 1 - group["lr"] * group["weight_decay"])
                group["weight_decay"] = 0.0
        try:
            return super().step(closure)
        finally:
            for group, decay in zip(self.param_groups, kept, strict=True):
                group["weight_decay"] = decay


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """For all groups, from now on."""
    for group in optimizer.param_groups:
        group["lr"] = lr
