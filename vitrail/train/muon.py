"""Muon (Jordan 2024, kellerjordan.github.io/posts/muon): a matrix moves along its momentum, orthogonalised.

The update of a matrix with the singular values S, U S Vᵀ, becomes about U Vᵀ: every direction moves alike, however
small its gradient. That is for the matrices of Transformer layers, each by itself: queries, keys and values lie in one
weight and are three, the halves of a gated MLP are two. All else moves by AdamW.

n matrices · r rows · c columns
"""

from collections.abc import Callable, Iterable, Sequence
from math import sqrt
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim.adamw import adamw

from vitrail.core.device import multiplies_bfloat16
from vitrail.models.encoder import Block
from vitrail.train.sharded import local, rows_of

COEFFICIENTS = (3.4445, -4.775, 2.0315)  # of x, x³ and x⁵: 5 iterations take singular values to 0.7 to 1.2
ITERATIONS = 5


def layer_matrices(model: nn.Module) -> dict[str, int]:
    """The weights of Transformer layers that are matrices, by name, and how many matrices each of them holds.

    Layers are those of encoders and decoders, of axial models both halves. Not among them: the patch embedding, a
    hybrid's ResNet, positions, the pooling, the head.
    """
    found: dict[str, int] = {}
    for name, module in model.named_modules():
        if isinstance(module, Block):
            parts = {"attn.qkv": 3, "attn.proj": 1, "mlp.fc1": 2 if module.mlp.gated else 1, "mlp.fc2": 1}
            found |= {f"{name}.{part}.weight": number for part, number in parts.items()}
    return found


def orthogonalised(matrices: Sequence[Float[Tensor, "_ _"]]) -> list[Float[Tensor, "_ _"]]:
    """About U Vᵀ of each, in their dtype and order; those of one shape, or of its transpose, in the same products."""
    alike: dict[tuple[int, ...], list[int]] = {}
    for i, matrix in enumerate(matrices):
        alike.setdefault(tuple(sorted(matrix.shape)), []).append(i)
    found = list(matrices)
    for places in alike.values():
        wide = torch.stack([_wide(matrices[i]) for i in places])
        for i, one in zip(places, newton_schulz(wide), strict=True):
            found[i] = one.mT if _tall(matrices[i]) else one
    return found


def newton_schulz(x: Float[Tensor, "n r c"]) -> Float[Tensor, "n r c"]:
    """The iteration, for matrices that are not taller than wide: r ≤ c."""
    a, b, c = COEFFICIENTS
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _tall(matrix: Tensor) -> bool:
    return matrix.shape[0] > matrix.shape[1]


def _wide(matrix: Tensor) -> Tensor:
    return matrix.mT if _tall(matrix) else matrix


class MuonAdamW(torch.optim.Optimizer):
    """Muon in groups whose `parts` say how many matrices a weight holds, AdamW in those where `parts` is 0.

    v ← m v + (1 - m) gradient; w ← w · (1 - lr · decay) - lr · sqrt(max(1, r / c)) · orthogonalised(v), with Nesterov's
    momentum of m v + (1 - m) gradient in the place of v. PyTorch's own (torch.optim.Muon, whose `adjust_lr_fn` of
    "original" this is) takes a weight for one matrix, each in products of its own, and no sharded ones. Products are in
    bfloat16 where the device multiplies it, else in float32.

    Of sharded parameters (FSDP2) each process keeps its rows of v, gathers the whole of each matrix, computes the same
    as the others and takes its rows of it.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        momentum: float,
        nesterov: bool,
        betas: tuple[float, float],
        eps: float,
    ):
        super().__init__(groups, {})
        self.momentum, self.nesterov, self.betas, self.eps = momentum, nesterov, betas, eps

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update from the gradients that are there."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        by_muon = []
        for group in self.param_groups:
            trained = [p for p in group["params"] if p.grad is not None]
            if group["parts"]:
                by_muon += [(p, group) for p in trained]
            else:
                self._adamw(trained, group)
        if by_muon:
            self._muon(by_muon)
        return loss

    def _muon(self, trained: list[tuple[nn.Parameter, dict[str, Any]]]) -> None:
        for p, _ in trained:
            if "momentum_buffer" not in self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        gradients = [local(p.grad) for p, _ in trained if p.grad is not None]
        velocities = [local(self.state[p]["momentum_buffer"]) for p, _ in trained]
        torch._foreach_lerp_(velocities, gradients, 1 - self.momentum)
        along = torch._foreach_lerp(gradients, velocities, self.momentum) if self.nesterov else velocities
        dtype = torch.bfloat16 if multiplies_bfloat16(gradients[0].device) else torch.float32
        whole = [_gathered(v.to(dtype), p) for v, (p, _) in zip(along, trained, strict=True)]
        updates = iter(
            orthogonalised([one for w, (_, g) in zip(whole, trained, strict=True) for one in w.chunk(g["parts"])])
        )
        for p, group in trained:
            own = [next(updates) for _ in range(group["parts"])]
            rows, columns = own[0].shape
            start, number, _ = rows_of(p)
            weight = local(p).mul_(1 - group["lr"] * group["weight_decay"])
            weight.add_(torch.cat(own)[start : start + number], alpha=-group["lr"] * sqrt(max(1, rows / columns)))

    def _adamw(self, trained: list[nn.Parameter], group: dict[str, Any]) -> None:
        for p in trained:
            if not self.state[p]:
                step = torch.zeros((), dtype=torch.float32, device=local(p).device)
                self.state[p].update(step=step, exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p))
        states = [self.state[p] for p in trained]
        adamw(
            [local(p) for p in trained],
            [local(p.grad) for p in trained if p.grad is not None],
            [local(state["exp_avg"]) for state in states],
            [local(state["exp_avg_sq"]) for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=self.eps,
            maximize=False,
        )


def _gathered(rows: Tensor, like: Tensor) -> Tensor:
    """The whole tensor, of which this process holds `rows` as it does of `like`."""
    if not isinstance(like, DTensor):
        return rows
    mesh, placements = like.device_mesh, like.placements
    return DTensor.from_local(rows, mesh, placements, shape=like.shape, stride=like.stride()).full_tensor()
