"""Position embeddings (section 3.2 and D.4): none, 1-D, 2-D, relative, sines and cosines; and where they act.

B batch · L layers (1 where one table serves all) · N tokens · h w patch grid · D width · H heads · K head width
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vitrail.core.errors import BadInput

Where = Literal["stem", "layers", "shared"]  # once after the stem; a table before each layer; one table before each


@dataclass(frozen=True)
class NoPosition:
    """The tokens are a bag of patches."""


@dataclass(frozen=True)
class Learned1d:
    """One learned vector for each patch in raster order. The paper's default."""

    where: Where = "stem"
    class_entry: bool = True  # the class token has a vector too; not in big_vision's, DeiT III's and registers' files


@dataclass(frozen=True)
class Learned2d:
    """A learned vector of half the width for each column and for each row, concatenated (column first)."""

    where: Where = "stem"
    class_entry: bool = True  # the class token has a vector of the whole width


@dataclass(frozen=True)
class Relative:
    """A learned vector for each difference of two places in the sequence, used as a key: logits + q · r(i - j).

    Shared by the heads of a layer, scaled like the content's logits. The paper leaves both open.
    """

    shared: bool = False  # by all layers


@dataclass(frozen=True)
class SinCos2d:
    """Sines and cosines of column and row; the class token's entry is zero. Fixed, or where learning starts from.

    Learned from there, a short run knows at once what is beside what (big_vision's later recipes keep it fixed).
    """

    learned: bool = False


PositionConfig = NoPosition | Learned1d | Learned2d | Relative | SinCos2d


class ColumnsAndRows(nn.Module):
    """The parameters of Learned2d: `x` [L, w, D/2], `y` [L, h, D/2] and the class token's `token` [L, 1, D]."""

    def __init__(self, layers: int, grid: tuple[int, int], width: int, class_entry: bool):
        super().__init__()
        self.x = noise(layers, grid[1], width // 2)
        self.y = noise(layers, grid[0], width // 2)
        self.token = noise(layers, 1, width) if class_entry else None

    def forward(self) -> Float[Tensor, "l n d"]:
        """All layers' tables, the class token's entry first where there is one."""
        h, w = self.y.shape[1], self.x.shape[1]
        x_LNK = self.x[:, None].expand(-1, h, -1, -1).flatten(1, 2)
        y_LNK = self.y[:, :, None].expand(-1, -1, w, -1).flatten(1, 2)
        patches = torch.cat([x_LNK, y_LNK], dim=-1)
        return patches if self.token is None else torch.cat([self.token, patches], dim=1)


Embedding = nn.Parameter | ColumnsAndRows | None


def noise(*shape: int) -> nn.Parameter:
    """The official start of position embeddings: normal, deviation 0.02, not truncated."""
    return nn.Parameter(torch.randn(*shape) * 0.02)


def embedding(
    position: PositionConfig,
    *,
    grid: tuple[int, int],
    width: int,
    heads: int,
    depth: int,
    class_token: bool,
    tokens: int,
) -> Embedding:
    """New parameters of a kind: a table [L, N, D], or for relative embeddings [L, 2N-1, K]; None where there are none.

    `tokens` counts all of the sequence. Raises BadInput for a width that the kind cannot split.
    """
    match position:
        case NoPosition():
            return None
        case Learned1d(where):
            entries = grid[0] * grid[1] + has_class_entry(position, class_token)
            return noise(tables(where, depth), entries, width)
        case Learned2d(where):
            if width % 2:
                raise BadInput(f"2-D positions halve the width, {width} is odd")
            return ColumnsAndRows(tables(where, depth), grid, width, has_class_entry(position, class_token))
        case Relative(shared):
            return noise(1 if shared else depth, 2 * tokens - 1, width // heads)
        case SinCos2d(learned):
            table = torch.zeros(1, grid[0] * grid[1] + class_token, width)
            table[0, int(class_token) :] = sincos2d(grid, width)
            return nn.Parameter(table, requires_grad=learned)


def tables(where: Where, depth: int) -> int:
    """The number of learned tables."""
    return depth if where == "layers" else 1


def has_class_entry(position: PositionConfig, class_token: bool) -> bool:
    """True where the first row of the added table is the class token's."""
    match position:
        case Learned1d(_, class_entry) | Learned2d(_, class_entry):
            return class_token and class_entry
        case SinCos2d():
            return class_token
        case _:
            return False


def added_table(
    position: PositionConfig, parameters: Embedding, *, class_token: bool, registers: int
) -> Float[Tensor, "l n d"] | None:
    """The embedding added to all tokens, for every layer with its own; tokens without an entry are given zeros."""
    if parameters is None or isinstance(position, Relative):
        return None
    table = parameters() if isinstance(parameters, ColumnsAndRows) else parameters
    entry = has_class_entry(position, class_token)
    empty = registers + (class_token and not entry)
    if not empty:
        return table
    zeros = table.new_zeros(table.shape[0], empty, table.shape[2])
    return torch.cat([table[:, : int(entry)], zeros, table[:, int(entry) :]], dim=1)


def before_layer(
    position: PositionConfig, table: Float[Tensor, "l n d"] | None, layer: int
) -> Float[Tensor, "1 n d"] | None:
    """The embedding that is added before a layer (0: the first, which is what "at the stem" means)."""
    where: Where = position.where if isinstance(position, (Learned1d, Learned2d)) else "stem"
    if table is None or (where == "stem" and layer > 0):
        return None
    return table[min(layer, table.shape[0] - 1)][None]


def relative_of_layer(position: PositionConfig, parameters: Embedding, layer: int) -> Float[Tensor, "o k"] | None:
    """The relative vectors of a layer, for the offsets -(N-1) to N-1."""
    if not isinstance(position, Relative) or not isinstance(parameters, Tensor):
        return None
    return parameters[min(layer, parameters.shape[0] - 1)]


def relative_logits(q: Float[Tensor, "b h n k"], relative: Float[Tensor, "o k"]) -> Float[Tensor, "b h n n"]:
    """q_i · r(i - j) / sqrt(K) for all pairs of tokens: one product with every offset, then each row is shifted."""
    n = q.shape[-2]
    scores = (q * q.shape[-1] ** -0.5) @ relative.flip(0).to(q.dtype).T  # column c stands for the offset N - 1 - c
    flat = F.pad(scores, (0, 1)).flatten(-2)  # a row of 2N starts one column later each time it is read as 2N - 1
    rows = flat[..., n - 1 : n - 1 + n * (2 * n - 1)].unflatten(-1, (n, 2 * n - 1))
    return rows[..., :n]


def sincos2d(grid: tuple[int, int], width: int, temperature: float = 10_000.0) -> Float[Tensor, "n d"]:
    """big_vision's table: [sin xω, cos xω, sin yω, cos yω] with ω_k = temperature^(-k / (D/4 - 1)), raster order.

    Raises:
        BadInput: a width that is not a multiple of 4, or below 8.
    """
    if width % 4 or width < 8:
        raise BadInput(f"sin-cos positions need a width that is a multiple of 4 and at least 8, not {width}")
    omega = temperature ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4 - 1))
    y, x = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    x_NK, y_NK = (place.flatten()[:, None].double() * omega for place in (x, y))
    return torch.cat([x_NK.sin(), x_NK.cos(), y_NK.sin(), y_NK.cos()], dim=1).float()
