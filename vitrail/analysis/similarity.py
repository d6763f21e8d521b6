"""Position-embedding similarity (figures 7 centre and 10)."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def position_similarity(table: Float[Tensor, "1 n d"], prefix: int) -> Float[Tensor, "m m"]:
    """Cosine similarity of every pair of patch positions, raster order, without the first `prefix` entries.

    Args:
        table: what is added to the tokens of one layer, such as `model.position_table()[:1]`.
        prefix: how many tokens come before the patches: class token, then registers.
    """
    positions = F.normalize(table[0, prefix:].detach().float(), dim=-1)
    return positions @ positions.T
