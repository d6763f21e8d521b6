"""Adam and SGD with momentum. Weight decay is decoupled and multiplied by the learning rate, unless it is `coupled`.

That is the convention of Table 3: a decay of 0.1 at a learning rate of 1e-3 shrinks a weight by
1e-4 a step. (big_vision's `wd` is already multiplied by the learning rate.)
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn
from torch.optim.sgd import sgd

from vitrail.core.errors import BadInput
from vitrail.train.sharded import local

Decayed = Literal["kernels", "all"]  # kernels: matrices of linear maps; all: biases, norms, positions and tokens too


@dataclass(frozen=True)
class Adam:
    """Adam with decoupled decay (AdamW)."""

    lr: float = 1e-3
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    decayed: Decayed = "kernels"
    layer_decay: float | None = None  # the rate falls by this factor with every layer away from the head; see `factors`
    moments: ClassVar[int] = 2  # numbers that it keeps for each parameter, from its first step on


@dataclass(frozen=True)
class Momentum:
    """SGD with momentum, not Nesterov: the paper's optimiser for fine-tuning, and BiT's for all."""

    lr: float = 0.03
    momentum: float = 0.9
    weight_decay: float = 0.0
    decayed: Decayed = "kernels"
    layer_decay: float | None = None
    # The decay is added to the gradient, where momentum multiplies it by 1 / (1 - momentum): BiT's 1e-4 is of this
    # kind, and decoupled it is 1e-3, the ratio of `wd` to `lr` in big_vision's configs of BiT.
    coupled: bool = False
    moments: ClassVar[int] = 1


OptimizerConfig = Adam | Momentum


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser over all parameters of `model` that are trained, in a group for each decay and factor of the rate.

    Of sharded parameters (FSDP2) each process updates its rows. Raises BadInput for a layer decay that means nothing.
    """
    rates = factors(config.layer_decay, (name for name, _ in model.named_parameters()))
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, p in model.named_parameters():
        if p.requires_grad:
            decay = config.weight_decay if is_decayed(name, p, config.decayed) else 0.0
            new = {"params": [], "weight_decay": decay, "factor": rates[name], "lr": config.lr * rates[name]}
            groups.setdefault((decay, rates[name]), new)["params"].append(p)
    match config:
        case Adam():
            return torch.optim.AdamW(list(groups.values()), betas=config.betas, eps=config.eps, fused=True)
        case Momentum():
            return MomentumSGD(list(groups.values()), config.momentum, config.coupled)


def is_decayed(name: str, parameter: torch.Tensor, decayed: Decayed) -> bool:
    """Whether weight decay acts on this parameter."""
    return decayed == "all" or (parameter.ndim >= 2 and name.endswith(".weight"))


_LAYER = re.compile(r"(stages\.\d+\.)?blocks\.\d+\.")
_STEM = re.compile(r"patch_embed\.|stem\.|cls_token|reg_token|pos_embed")


def factors(layer_decay: float | None, names: Iterable[str]) -> dict[str, float]:
    """What the learning rate of each parameter is multiplied by: layer_decay ** its distance from the head (BEiT).

    With L layers (blocks of a ViT, units of a ResNet) layer i is L - i away, i from 0. The head, the pooling and the
    last norm are 0 away, as in BEiT's and MAE's code (timm counts the last norm to the last layer). What is before the
    first layer is L + 1 away: patch embedding with a hybrid's whole ResNet, tokens, positions of every kind, and a
    ResNet's root. `names` are those of all parameters of a model, in its order; all are 1 without a layer decay.

    Raises:
        BadInput: a layer decay that is not above 0 and up to 1.
    """
    if layer_decay is not None and not 0 < layer_decay <= 1:
        raise BadInput(f"layer_decay is {layer_decay}, expected above 0 and up to 1")
    found = {name: _LAYER.match(name) for name in names}
    layers = list(dict.fromkeys(match[0] for match in found.values() if match))
    away = {layer: len(layers) - i for i, layer in enumerate(layers)}
    rates = {}
    for name, match in found.items():
        distance = away[match[0]] if match else len(layers) + 1 if _STEM.match(name) else 0
        rates[name] = 1.0 if layer_decay is None else layer_decay**distance
    return rates


class MomentumSGD(torch.optim.Optimizer):
    """v ← momentum · v + gradient; w ← w · (1 - lr · decay) - lr · v. Coupled: v takes up gradient + decay · w instead.

    PyTorch's own has coupled decay only, and its fused kernel does not take sharded tensors. Here it is given the rows
    that this process holds. The velocity, `momentum_buffer`, is sharded as its parameter is.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], momentum: float, coupled: bool):
        super().__init__(groups, {"momentum": momentum, "coupled": coupled})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update from the gradients that are there."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            trained = [p for p in group["params"] if p.grad is not None]
            moving = trained if group["momentum"] else []
            for p in moving:
                if "momentum_buffer" not in self.state[p]:
                    self.state[p]["momentum_buffer"] = torch.zeros_like(p)
            weights = [local(p) for p in trained]
            if group["weight_decay"] and not group["coupled"]:
                torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            sgd(
                weights,
                [local(p.grad) for p in trained],
                [local(self.state[p]["momentum_buffer"]) for p in moving],
                fused=True,
                weight_decay=group["weight_decay"] if group["coupled"] else 0.0,
                momentum=group["momentum"],
                lr=group["lr"],
                dampening=0.0,
                nesterov=False,
                maximize=False,
            )
        return loss


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """From now on, for all groups: each keeps its factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["factor"]
