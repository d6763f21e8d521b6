"""Equations 2 and 3: the MLP, and the block: x + MSA(LN(x)), then x + MLP(LN(x)); stochastic depth.

B batch · N tokens · D width · M MLP width · O offsets · K head width
"""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vitrail.models.attention import Attention
from vitrail.models.initialise import linear

Gelu = Literal["tanh", "exact"]
FEW = 64  # images of a pass


class Mlp(nn.Module):
    """Linear(D -> M), GELU, Linear(M -> D), with dropout after the GELU and at the end.

    `gated`: two halves, silu(first) · second, in place of the GELU (DINOv2's giant).
    """

    def __init__(self, width: int, hidden: int, gelu: Gelu, dropout: float, gated: bool = False):
        super().__init__()
        self.fc1 = linear(width, 2 * hidden if gated else hidden)
        self.fc2 = linear(hidden, width)
        self.dropout = nn.Dropout(dropout)
        self.approximate = "tanh" if gelu == "tanh" else "none"
        self.gated = gated
        for bias in (self.fc1.bias, self.fc2.bias):
            nn.init.normal_(bias, std=1e-6)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        hidden = self.fc1(x)
        if self.gated:
            gate, value = hidden.chunk(2, dim=-1)
            hidden_BNM = F.silu(gate) * value
        else:
            hidden_BNM = F.gelu(hidden, approximate=self.approximate)
        return self.dropout(self.fc2(self.dropout(hidden_BNM)))


class LayerNorm(nn.LayerNorm):
    """Of a residual stream in float32 also with weights that travelled between processes in bfloat16."""

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        weight, bias = self.weight, self.bias
        if x.dtype == torch.float32 != weight.dtype:
            return F.layer_norm(x, self.normalized_shape, weight.float(), bias.float(), self.eps)
        return F.layer_norm(x, self.normalized_shape, weight, bias, self.eps)


class LayerScale(nn.Module):
    """A learned factor for each channel of a branch (DeiT III, DINOv2; not in the paper)."""

    def __init__(self, width: int, start: float):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), start))

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        return x * self.gamma


def add_to_some(x: Float[Tensor, "b n d"], branch: Callable[[Tensor], Tensor], rate: float) -> Float[Tensor, "b n d"]:
    """Stochastic depth (arXiv 1603.09382): x + branch(x), with the branch left out for a share `rate` of the batch.

    round(B · (1 - rate)) images are drawn from torch's global generator. The branch is computed for them alone, times
    B / their number: the mean over draws is x + branch(x). The other rows of x stay as they are. Below FEW images such
    a share cannot be cut, at rate 0.1 of 4 images none: there each image draws for itself, and the branch is computed
    for all. Shapes depend on B alone, so a compiled graph serves all draws.
    """
    batch = x.shape[0]
    if batch < FEW:
        added = branch(x)
        return x + added * x.new_empty(batch, 1, 1).bernoulli_(1 - rate).div_(1 - rate)
    kept = max(1, round(batch * (1 - rate)))
    if kept == batch:
        return x + branch(x)
    rows = torch.randperm(batch, device=x.device)[:kept]
    some = x.index_select(0, rows)
    added = branch(some)
    # a copy of rows, each once: sums at places would be atomic on CUDA
    sums = torch.add(some, added, alpha=batch / kept)  # in the dtype of x + added, under autocast
    return x.to(sums.dtype).index_copy(0, rows, sums)


class Block(nn.Module):
    """One pre-norm layer of the encoder. `drop_path`: the rate of stochastic depth, of either branch by itself."""

    def __init__(
        self,
        width: int,
        heads: int,
        mlp: int,
        *,
        gelu: Gelu = "tanh",
        eps: float = 1e-6,
        dropout: float = 0.0,
        gated: bool = False,
        qk_norm: bool = False,
        layer_scale: float | None = None,
        drop_path: float = 0.0,
    ):
        super().__init__()
        self.drop_path = drop_path
        self.norm1 = LayerNorm(width, eps=eps)
        self.attn = Attention(width, heads, dropout, qk_norm, eps)
        self.ls1 = nn.Identity() if layer_scale is None else LayerScale(width, layer_scale)
        self.norm2 = LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, mlp, gelu, dropout, gated)
        self.ls2 = nn.Identity() if layer_scale is None else LayerScale(width, layer_scale)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        want_weights: bool = False,
        relative: Float[Tensor, "o k"] | None = None,
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b h n n"] | None]:
        """The tokens after this layer, and the weights of attention where they are wanted.

        Raises:
            ValueError: weights are wanted in training, of a layer that stochastic depth computes for some images only.
        """
        if self.training and self.drop_path > 0:
            if want_weights:
                raise ValueError("stochastic depth leaves out images: ask for weights of attention after model.eval()")
            x = add_to_some(x, lambda some: self.ls1(self.attn(self.norm1(some), False, relative)[0]), self.drop_path)
            return add_to_some(x, lambda some: self.ls2(self.mlp(self.norm2(some))), self.drop_path), None
        mixed, weights = self.attn(self.norm1(x), want_weights, relative)
        x = x + self.ls1(mixed)
        return x + self.ls2(self.mlp(self.norm2(x))), weights
