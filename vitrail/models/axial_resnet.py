"""Axial attention in the place of a ResNet's 3x3 convolutions (appendix D.6; Wang et al. 2020, arXiv 2003.07853).

B batch · C channels · h w feature map · L length of a line · H heads · K width of a head's queries (half its values')
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vitrail.models.initialise import linear

GROUPS = 32


class LineAttention(nn.Module):
    """Self-attention along lines of one length, with learned vectors for each difference of places.

    Logits are q_i · k_j + q_i · p_(i-j) + k_j · r_(i-j), over sqrt(K), and the output Σ_j a_ij (v_j + s_(i-j)): the
    three terms of Wang et al., who normalise each by its batch. BiT's networks know no batch, so queries, keys and
    values go through one group norm, over an image's whole map, and logits are scaled as in equation 6.
    """

    def __init__(self, channels: int, heads: int, length: int, eps: float):
        super().__init__()
        self.heads, self.length, width = heads, length, channels // heads
        self.qkv = linear(channels, 2 * channels, bias=False)
        self.norm = nn.GroupNorm(GROUPS, 2 * channels, eps)
        self.relative = nn.Parameter(torch.randn(2 * length - 1, 2 * width) * width**-0.5)  # p, r, s

    def forward(self, x: Float[Tensor, "b lines l c"]) -> Float[Tensor, "b lines l c"]:
        both = self.norm(self.qkv(x).movedim(-1, 1)).movedim(1, -1)
        q, k, v = rearrange(both, "b n l (h d) -> b n h l d", h=self.heads).split(self.parts, dim=-1)
        at = torch.arange(self.length, device=x.device)
        p, r, s = self.relative.to(q.dtype)[at[:, None] - at + self.length - 1].split(self.parts, dim=-1)
        places = torch.einsum("bnhik,ijk->bnhij", q, p) + torch.einsum("bnhjk,ijk->bnhij", k, r)
        weights = ((q @ k.transpose(-2, -1) + places) * q.shape[-1] ** -0.5).softmax(dim=-1)
        mixed = weights @ v + torch.einsum("bnhij,ijd->bnhid", weights, s)
        return rearrange(mixed, "b n h l d -> b n l (h d)")

    @property
    def parts(self) -> list[int]:
        """Widths of a head's query, key and value."""
        half = self.relative.shape[1] // 4
        return [half, half, 2 * half]


class AxialPair(nn.Module):
    """Attention along the rows, a norm, attention along the columns; a mean of 2 x 2 where the convolution strides."""

    def __init__(self, channels: int, heads: int, grid: tuple[int, int], stride: int, eps: float):
        super().__init__()
        self.grid, self.stride = grid, stride
        self.row = LineAttention(channels, heads, grid[1], eps)
        self.norm = nn.GroupNorm(GROUPS, channels, eps)
        self.column = LineAttention(channels, heads, grid[0], eps)

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c h w"]:
        """Raises ValueError for a map of another size: the places of its lines have no vectors."""
        if x.shape[2:] != self.grid:
            raise ValueError(f"this axial attention is over maps of {self.grid}, not {tuple(x.shape[2:])}")
        x = self.norm(self.row(rearrange(x, "b c h w -> b h w c")).movedim(-1, 1))
        x = rearrange(self.column(rearrange(x, "b c h w -> b w h c")), "b w h c -> b c h w")
        # of an odd side the last window is half as wide, and so is what it is the mean of
        return x if self.stride == 1 else F.avg_pool2d(x, self.stride, ceil_mode=True, count_include_pad=False)
