"""Which weights fine-tuning changes: all, the classifier, the last layers, all at falling rates, a low-rank addition.

LoRA is arXiv 2106.09685; the layer decay is BEiT's (vitrail.train.optim.factors).
"""

from dataclasses import dataclass
from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vitrail.core.errors import BadInput
from vitrail.models.build import Model
from vitrail.models.initialise import on_meta
from vitrail.models.objective import TrainedModel
from vitrail.models.resnet import ResNet
from vitrail.train.parallel import layers


@dataclass(frozen=True)
class Whole:
    """All weights, as in the paper."""


@dataclass(frozen=True)
class HeadOnly:
    """The new classifier alone, on frozen features."""


@dataclass(frozen=True)
class LastBlocks:
    """The last `count` layers, and what follows them: last norm, pooling, classifier. What is below has no backward."""

    count: int = 2


@dataclass(frozen=True)
class LayerDecay:
    """All weights; the learning rate falls by the factor `rate` with every layer away from the head."""

    rate: float = 0.75


@dataclass(frozen=True)
class Lora:
    """The classifier, and for each linear map of the layers an addition (alpha / rank) B A of that rank to its matrix.

    A is [rank, in], drawn as PyTorch draws linear maps; B is [out, rank] and starts at zero, so training starts from
    the model as it was. Afterwards it is added to the matrix: what is saved is a plain model.
    """

    rank: int = 8
    alpha: float = 16.0


Tuned = Whole | HeadOnly | LastBlocks | LayerDecay | Lora


def make_trainable(model: Model, tuned: Tuned) -> None:
    """Freezes what is not trained, and puts LoRA's matrices in, drawn from torch's global generator.

    Frozen weights get no gradient and no optimiser state; below the first trained one there is no backward pass.

    Raises:
        BadInput: more layers than there are, or a rank that means nothing.
    """
    match tuned:
        case Whole() | LayerDecay():
            return
        case HeadOnly():
            train_only(model, [])
        case LastBlocks(count):
            units = layers(model)
            if not 1 <= count <= len(units):
                raise BadInput(
                    f"the last {count} layers are to be trained, the model has {len(units)}; HeadOnly trains none"
                )
            train_only(model, [*units[-count:], *_after_layers(model)])
        case Lora(rank, alpha):
            if rank < 1 or not alpha > 0:
                raise BadInput(f"LoRA of rank {rank} and alpha {alpha:g}: both must be above 0, such as 8 and 16")
            if isinstance(model, ResNet):
                raise BadInput("LoRA adds to the linear maps of a Transformer's layers, and a ResNet has none")
            train_only(model, [])
            for name, linear in _linear_maps(model):
                _put(model, name, LoraLinear(linear, rank, alpha))


def train_only(model: Model, parts: list[nn.Module]) -> None:
    """Freezes all but these parts and the classifier. What was frozen before, as fixed positions are, stays so."""
    kept = {id(p) for part in [*parts, _classifier(model)] for p in part.parameters()}
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.requires_grad and id(parameter) in kept)


def trained_parameters(model: nn.Module) -> int:
    """How many numbers training changes."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def work_share(model: TrainedModel) -> float:
    """The arithmetic of a training step as a share of that of the whole model, from what is frozen.

    The forward pass is a third of a whole step, the gradients of activations and of weights are a third each; the
    layers count alike, and what lies outside of them nothing.
    """
    units = layers(model)
    anything = [any(p.requires_grad for p in unit.parameters()) for unit in units]
    matrices = [any(p.requires_grad for n, p in unit.named_parameters() if n.endswith(".weight")) for unit in units]
    deep = len(units) - anything.index(True) if any(anything) else 0
    return (1 + deep / len(units) + sum(matrices) / len(units)) / 3


class LoraLinear(nn.Linear):
    """A frozen linear map and its low-rank addition; the names of its own weights stay."""

    def __init__(self, linear: nn.Linear, rank: int, alpha: float):
        with on_meta():
            super().__init__(linear.in_features, linear.out_features)
        self.weight, self.bias = linear.weight, linear.bias
        self.scale = alpha / rank
        self.lora_a = nn.Parameter(linear.weight.new_empty(rank, linear.in_features))
        self.lora_b = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=sqrt(5))

    def forward(self, x: Float[Tensor, "*n i"]) -> Float[Tensor, "*n o"]:
        return F.linear(x, self.weight, self.bias) + self.scale * F.linear(F.linear(x, self.lora_a), self.lora_b)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """One matrix for both, in a plain linear map."""
        with on_meta():
            plain = nn.Linear(self.in_features, self.out_features)
        plain.weight = nn.Parameter(self.weight + self.scale * (self.lora_b @ self.lora_a))
        plain.bias = self.bias
        return plain


def merge(model: nn.Module) -> None:
    """Adds LoRA's matrices to those that they belong to, for good; a model without them stays as it is."""
    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLinear):
            _put(model, name, module.merged())


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, module)


def _linear_maps(model: Model) -> list[tuple[str, nn.Linear]]:
    """Those of the layers: attention's two matrices and the MLP's two."""
    found = [(name, m) for name, m in model.named_modules() if name.startswith("blocks.")]
    return [(name, m) for name, m in found if isinstance(m, nn.Linear)]


def _classifier(model: Model) -> nn.Module:
    assert model.head is not None, "fine-tuning gives every model a classifier"
    return model.head


def _after_layers(model: Model) -> list[nn.Module]:
    names = ("norm", "fc_norm", "attn_pool", "pre_logits")
    return [part for part in (getattr(model, name, None) for name in names) if isinstance(part, nn.Module)]
