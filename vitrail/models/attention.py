"""Equations 5 to 8: multi-head self-attention.

B batch · N tokens · D width · H heads · K head width · O = 2N-1 offsets
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vitrail.core.device import multiplies_bfloat16
from vitrail.models.attention_kernel import Kernel, attend_by, fastest_kernel
from vitrail.models.initialise import linear, xavier_uniform_
from vitrail.models.position import relative_logits


def attention_weights(
    q: Float[Tensor, "b h n k"], k: Float[Tensor, "b h m k"], bias: Float[Tensor, "b h n m"] | None = None
) -> Float[Tensor, "b h n m"]:
    """Equation 6: softmax(q kᵀ / sqrt(K) + bias), in the dtype of q."""
    logits = q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)
    return (logits if bias is None else logits + bias).softmax(dim=-1)


def attend(
    q: Float[Tensor, "b h n k"],
    k: Float[Tensor, "b h m k"],
    v: Float[Tensor, "b h m k"],
    bias: Float[Tensor, "b h n m"] | None = None,
) -> Float[Tensor, "b h n k"]:
    """Equation 7, by the kernel that was measured to be the fastest for this device, dtype and length."""
    if torch.compiler.is_exporting():  # a graph may run on another machine: nothing of this one is asked
        # with a bias the products stand in the graph, which every runtime reads and fuses by itself
        return _fused(q, k, v, None) if bias is None else attention_weights(q, k, bias) @ v
    training = torch.is_grad_enabled() and q.requires_grad
    kernel = kernel_for(q.device.type, q.dtype, q.shape[-2], q.shape[-1], bias is not None, training)
    if kernel == "fused":
        return _fused(q, k, v, bias)
    return attend_by(kernel, q, k, v) if bias is None else attention_weights(q, k, bias) @ v


def kernel_for(device: str, dtype: torch.dtype, tokens: int, head_width: int, biased: bool, training: bool) -> Kernel:
    """The kernel of equation 7, which in bfloat16 on a CPU with units for it is measured.

    In float32 the fused one is the fastest; a bias it cannot learn there, so that is done by products.
    """
    if device != "cpu" or dtype != torch.bfloat16 or not CPU_MULTIPLIES_BFLOAT16:
        return "fused"
    return "products" if biased else fastest_kernel(tokens, head_width, training)


def _fused(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


CPU_MULTIPLIES_BFLOAT16 = multiplies_bfloat16(torch.device("cpu"))  # torch.compile cannot trace the question


class Attention(nn.Module):
    """MSA of appendix A, with one matrix for q, k and v (q first) and biases everywhere.

    `qk_norm`: a layer norm of each head's q and k (later models; not in the paper).
    """

    def __init__(self, width: int, heads: int, dropout: float, qk_norm: bool = False, eps: float = 1e-6):
        super().__init__()
        self.heads = heads
        self.qkv = linear(width, 3 * width)
        xavier_uniform_(self.qkv.weight, parts=3)  # the official code draws q, k and v separately
        self.q_norm = nn.LayerNorm(width // heads, eps=eps) if qk_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(width // heads, eps=eps) if qk_norm else nn.Identity()
        self.proj = linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x_BND: Float[Tensor, "b n d"],
        want_weights: bool = False,
        relative: Float[Tensor, "o k"] | None = None,
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b h n n"] | None]:
        """`relative`: the vectors of relative positions (models/position.py)."""
        q, k, v = rearrange(self.qkv(x_BND), "b n (three h k) -> three b h n k", three=3, h=self.heads).unbind(0)
        q, k = self.q_norm(q), self.k_norm(k)
        bias = None if relative is None else relative_logits(q, relative)
        weights = attention_weights(q, k, bias) if want_weights else None
        mixed_BHNK = attend(q, k, v, bias) if weights is None else weights @ v
        return self.dropout(self.proj(rearrange(mixed_BHNK, "b h n k -> b n (h k)"))), weights
