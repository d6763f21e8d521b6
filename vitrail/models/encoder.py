"""Equations 2 and 3: the MLP, and the block: x + MSA(LN(x)), then x + MLP(LN(x)).

B batch · N tokens · D width · M MLP width · O offsets · K head width
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vitrail.models.attention import Attention
from vitrail.models.initialise import linear

Gelu = Literal["tanh", "exact"]


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


class LayerScale(nn.Module):
    """A learned factor for each channel of a branch (DeiT III, DINOv2; not in the paper)."""

    def __init__(self, width: int, start: float):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), start))

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        return x * self.gamma


class Block(nn.Module):
    """One pre-norm layer of the encoder."""

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
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = Attention(width, heads, dropout, qk_norm, eps)
        self.ls1 = nn.Identity() if layer_scale is None else LayerScale(width, layer_scale)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, mlp, gelu, dropout, gated)
        self.ls2 = nn.Identity() if layer_scale is None else LayerScale(width, layer_scale)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        want_weights: bool = False,
        relative: Float[Tensor, "o k"] | None = None,
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b h n n"] | None]:
        mixed, weights = self.attn(self.norm1(x), want_weights, relative)
        x = x + self.ls1(mixed)
        return x + self.ls2(self.mlp(self.norm2(x))), weights
