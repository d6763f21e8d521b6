"""Adam, SGD with momentum, Muon. Weight decay is decoupled and multiplied by the learning rate, unless `coupled`.

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
from vitrail.train.muon import MuonAdamW, layer_matrices
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


@dataclass(frozen=True)
class Muon:
    """Muon for the matrices of Transformer layers (train/muon.py), AdamW for all else; the schedule scales both."""

    lr: float = 0.02
    momentum: float = 0.95
    nesterov: bool = True
    weight_decay: float = 0.0  # of these matrices, times lr
    adam_lr: float = 1e-3  # of all else
    adam_weight_decay: float = 0.0
    adam_betas: tuple[float, float] = (0.9, 0.999)
    adam_eps: float = 1e-8
    decayed: Decayed = "kernels"
    layer_decay: float | None = None
    moments: ClassVar[int] = 2  # at most: of the matrices one, which `vitrail plan` counts

    def check(self) -> None:
        """Raises BadInput for rates and a momentum that mean nothing."""
        if not self.lr > 0:
            raise BadInput(f"the learning rate of muon is {self.lr}, expected above 0: adam_lr is scaled as it is")
        if not self.adam_lr >= 0:
            raise BadInput(f"adam_lr is {self.adam_lr}, expected 0 or more")
        if not 0 <= self.momentum < 1:
            raise BadInput(f"the momentum of muon is {self.momentum}, expected from 0 to below 1, such as 0.95")


OptimizerConfig = Adam | Momentum | Muon


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser over all parameters of `model` that are trained, in a group for each decay and factor of the rate.

    Of sharded parameters (FSDP2) each process updates its rows. Raises BadInput for a layer decay that means nothing,
    and for Muon where no matrix is trained that it is for.
    """
    rates = factors(config.layer_decay, (name for name, _ in model.named_parameters()))
    parts = _trained_matrices(config, model) if isinstance(config, Muon) else {}
    groups: dict[tuple[float, float, int], dict[str, Any]] = {}
    for name, p in model.named_parameters():
        if p.requires_grad:
            decay, factor, number = config.weight_decay, rates[name], parts.get(name, 0)
            if isinstance(config, Muon) and not number:
                decay, factor = config.adam_weight_decay, factor * (config.adam_lr / config.lr)
            decay = decay if is_decayed(name, p, config.decayed) else 0.0
            new = {"params": [], "weight_decay": decay, "factor": factor, "lr": config.lr * factor, "parts": number}
            groups.setdefault((decay, factor, number), new)["params"].append(p)
    match config:
        case Adam():
            return torch.optim.AdamW(list(groups.values()), betas=config.betas, eps=config.eps, fused=True)
        case Momentum():
            return MomentumSGD(list(groups.values()), config.momentum, config.coupled)
        case Muon(momentum=momentum, nesterov=nesterov, adam_betas=betas, adam_eps=eps):
            return MuonAdamW(groups.values(), momentum=momentum, nesterov=nesterov, betas=betas, eps=eps)


def _trained_matrices(config: Muon, model: nn.Module) -> dict[str, int]:
    config.check()
    parts, trained = layer_matrices(model), {name for name, p in model.named_parameters() if p.requires_grad}
    if not parts:
        raise BadInput("muon is for the matrices of Transformer layers, and this model has none: take adam or sgd")
    if not trained & parts.keys():
        raise BadInput("muon is for the matrices of Transformer layers, and none is trained here: take adam or sgd")
    return parts


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
