"""Equation 4 and D.3: from tokens to a representation (class token or average), and from it to logits.

B batch · N tokens · D width · R representation width · K classes
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from vitrail.models.initialise import lecun_normal_, uninitialised


@dataclass(frozen=True)
class ClassToken:
    """An extra learned token, put first; its state after the last norm is the representation."""


@dataclass(frozen=True)
class AveragePool:
    """No class token; the mean of all tokens after the last norm."""


PoolConfig = ClassToken | AveragePool


def prefix_tokens(pool: PoolConfig) -> int:
    """How many tokens come before the patches."""
    return 1 if isinstance(pool, ClassToken) else 0


def pool_tokens(tokens: Float[Tensor, "b n d"], pool: PoolConfig) -> Float[Tensor, "b d"]:
    """The one vector that stands for the image."""
    match pool:
        case ClassToken():
            return tokens[:, 0]
        case AveragePool():
            return tokens.mean(dim=1)


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
