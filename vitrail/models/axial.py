"""Axial attention (appendix D.6): each layer attends along the rows with an MLP, then along the columns with another.

B batch · P tokens before the patches · N = P + h·w tokens · h w patch grid · D width · H heads · L length of a line
"""

from collections.abc import Callable

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.models.encoder import Block


class AxialBlock(nn.Module):
    """A layer of an Axial-ViT: `row`, then `column`, each a whole pre-norm block with its own MLP.

    Every row is a sequence of its own, and the tokens before the patches (the class token) stand at the beginning of
    each of them; what the rows make of them is averaged. The paper leaves that open.
    """

    def __init__(self, make: Callable[[], Block], grid: tuple[int, int], prefix: int):
        super().__init__()
        self.grid, self.prefix = grid, prefix
        self.row, self.column = make(), make()

    def forward(
        self, x: Float[Tensor, "b n d"], want_weights: bool = False, relative: None = None
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b heads n n"] | None]:
        """The tokens after both, and where wanted the weights of attention as one map (see `joint_weights`)."""
        h, w = self.grid
        lines, seen = self.row(self.split(x, rows=True), want_weights)
        x = self.join(lines, x.shape[0], rows=True)
        lines, then = self.column(self.split(x, rows=False), want_weights)
        x = self.join(lines, x.shape[0], rows=False)
        if seen is None or then is None:
            return x, None
        along_rows = spread(seen.unflatten(0, (-1, h)), (h, w), self.prefix)
        along_columns = spread(then.unflatten(0, (-1, w)), (w, h), self.prefix)
        return x, joint_weights(along_rows, along_columns, self.grid, self.prefix)

    def split(self, x: Float[Tensor, "b n d"], rows: bool) -> Float[Tensor, "lines length d"]:
        """The rows (or columns) of all images as sequences, each with the tokens before the patches."""
        h, _ = self.grid
        pattern = "b (h w) d -> b h w d" if rows else "b (h w) d -> b w h d"
        lines = rearrange(x[:, self.prefix :], pattern, h=h)
        first = x[:, None, : self.prefix].expand(-1, lines.shape[1], -1, -1)
        return torch.cat([first, lines], dim=2).flatten(0, 1)

    def join(self, lines: Float[Tensor, "lines length d"], batch: int, rows: bool) -> Float[Tensor, "b n d"]:
        """The inverse of `split`; of the tokens before the patches the mean."""
        each = lines.unflatten(0, (batch, -1))
        pattern = "b h w d -> b (h w) d" if rows else "b w h d -> b (h w) d"
        return torch.cat([each[:, :, : self.prefix].mean(dim=1), rearrange(each[:, :, self.prefix :], pattern)], dim=1)


def spread(
    weights: Float[Tensor, "b lines heads length length"], grid: tuple[int, int], prefix: int
) -> Float[Tensor, "b heads n n"]:
    """Weights within lines as weights between all tokens, line after line; tokens before the patches: their mean."""
    lines, length = grid
    batch, heads = weights.shape[0], weights.shape[2]
    whole = weights.new_zeros(batch, heads, prefix + lines * length, prefix + lines * length)
    for i in range(lines):
        own = slice(prefix + i * length, prefix + (i + 1) * length)
        line = weights[:, i]
        whole[:, :, own, own] = line[:, :, prefix:, prefix:]
        whole[:, :, own, :prefix] = line[:, :, prefix:, :prefix]
        whole[:, :, :prefix, own] = line[:, :, :prefix, prefix:] / lines
        whole[:, :, :prefix, :prefix] += line[:, :, :prefix, :prefix] / lines
    return whole


def joint_weights(
    along_rows: Float[Tensor, "b heads n n"],
    along_columns: Float[Tensor, "b heads n n"],
    grid: tuple[int, int],
    prefix: int,
) -> Float[Tensor, "b heads n n"]:
    """How much a token reads of each through both, head by head; `along_columns` is in column-major order."""
    h, w = grid
    places = torch.arange(h * w, device=along_rows.device).view(w, h).T.flatten()  # of the raster in column-major order
    order = torch.cat([torch.arange(prefix, device=places.device), prefix + places])
    return along_columns[:, :, order][:, :, :, order] @ along_rows
