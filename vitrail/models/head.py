"""Equation 4 and D.3: from tokens to a representation (class token, average, attention), and from it to logits.

B batch · N tokens · D width · R representation width · K classes
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.models.attention import attend
from vitrail.models.encoder import Mlp
from vitrail.models.initialise import lecun_normal_, linear, uninitialised, xavier_uniform_


@dataclass(frozen=True)
class ClassToken:
    """An extra learned token, put first; its state after the last norm is the representation."""


@dataclass(frozen=True)
class AveragePool:
    """The mean of all patches after the last norm. The paper's has no class token."""

    class_token: bool = False  # there is one all the same, which the mean leaves out (MAE's fine-tuned models)
    norm_after: bool = False  # the last norm is that of the mean (timm's `fc_norm`)


@dataclass(frozen=True)
class AttentionPool:
    """One learned query attends to all patches after the last norm, then an MLP (big_vision's MAP head)."""


@dataclass(frozen=True)
class TokenAndAverage:
    """The class token and the mean of the patches, side by side (DINOv2's classifiers)."""


@dataclass(frozen=True)
class TokenAndDistilled:
    """The class token and the first register, side by side (DeiT's distillation token, and its two classifiers)."""


PoolConfig = ClassToken | AveragePool | AttentionPool | TokenAndAverage | TokenAndDistilled


def has_class_token(pool: PoolConfig) -> bool:
    """True where the sequence starts with a class token."""
    match pool:
        case ClassToken() | TokenAndAverage() | TokenAndDistilled():
            return True
        case AveragePool(class_token):
            return class_token
        case AttentionPool():
            return False


def pooled_width(pool: PoolConfig, width: int) -> int:
    """The width of what `pool_tokens` returns."""
    return 2 * width if isinstance(pool, (TokenAndAverage, TokenAndDistilled)) else width


def pool_tokens(
    tokens: Float[Tensor, "b n d"], pool: PoolConfig, prefix: int, attention_pool: nn.Module | None = None
) -> Float[Tensor, "b r"]:
    """The one vector that stands for the image; the first `prefix` tokens are no patches."""
    match pool:
        case ClassToken():
            return tokens[:, 0]
        case AveragePool():
            return tokens[:, prefix:].mean(dim=1)
        case TokenAndAverage():
            return torch.cat([tokens[:, 0], tokens[:, prefix:].mean(dim=1)], dim=-1)
        case TokenAndDistilled():
            return tokens[:, :2].flatten(1)
        case AttentionPool():
            assert attention_pool is not None
            return attention_pool(tokens[:, prefix:])


class AttentionPooling(nn.Module):
    """Multi-head attention of one learned query over tokens, and x + MLP(LN(x)). State-dict keys are timm's."""

    def __init__(self, width: int, heads: int, mlp: Mlp, eps: float):
        super().__init__()
        self.heads = heads
        self.latent = nn.Parameter(torch.empty(1, 1, width))
        nn.init.xavier_uniform_(self.latent[0])  # [1, D]: flax counts a fan-in of 1, PyTorch in 3-D one of D
        self.q = linear(width, width)
        self.kv = linear(width, 2 * width)
        xavier_uniform_(self.kv.weight, parts=2)
        self.proj = linear(width, width)
        self.norm = nn.LayerNorm(width, eps=eps)
        self.mlp = mlp

    def forward(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b d"]:
        query = self.q(self.latent).expand(tokens.shape[0], -1, -1)
        q = rearrange(query, "b n (h k) -> b h n k", h=self.heads)
        k, v = rearrange(self.kv(tokens), "b n (two h k) -> two b h n k", two=2, h=self.heads).unbind(0)
        x = self.proj(rearrange(attend(q, k, v), "b h n k -> b n (h k)"))
        return (x + self.mlp(self.norm(x)))[:, 0]


def hidden_layer(width: int, representation: int) -> nn.Linear:
    """The hidden layer of the pre-training head, to be followed by tanh (`pre_logits` in the official files)."""
    layer = uninitialised(nn.Linear, width, representation)
    lecun_normal_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def classifier(width: int, classes: int, bias: float = 0.0) -> nn.Linear:
    """The last linear map; its weight starts at zero, so that all logits start at `bias`."""
    layer = uninitialised(nn.Linear, width, classes)
    nn.init.zeros_(layer.weight)
    nn.init.constant_(layer.bias, bias)
    return layer
