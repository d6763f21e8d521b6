"""Equations 2 and 3: the MLP, and the block: x + MSA(LN(x)), then x + MLP(LN(x)).

B batch · N tokens · D width · M MLP width
"""

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vitrail.models.attention import Attention
from vitrail.models.initialise import linear

Gelu = Literal["tanh", "exact"]


class Mlp(nn.Module):
    """Linear(D -> M), GELU, Linear(M -> D), with dropout after the GELU and at the end."""

    def __init__(self, width: int, hidden: int, gelu: Gelu, dropout: float):
        super().__init__()
        self.fc1 = linear(width, hidden)
        self.fc2 = linear(hidden, width)
        self.dropout = nn.Dropout(dropout)
        self.approximate = "tanh" if gelu == "tanh" else "none"
        for bias in (self.fc1.bias, self.fc2.bias):
            nn.init.normal_(bias, std=1e-6)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        hidden_BNM = self.dropout(F.gelu(self.fc1(x), approximate=self.approximate))
        return self.dropout(self.fc2(hidden_BNM))


class Block(nn.Module):
    """One pre-norm layer of the encoder."""

    def __init__(self, width: int, heads: int, mlp: int, *, gelu: Gelu, eps: float, dropout: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = Attention(width, heads, dropout)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, mlp, gelu, dropout)

    def forward(
        self, x: Float[Tensor, "b n d"], want_weights: bool = False
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b h n n"] | None]:
        mixed, weights = self.attn(self.norm1(x), want_weights)
        x = x + mixed
        return x + self.mlp(self.norm2(x)), weights
