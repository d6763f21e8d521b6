"""The Vision Transformer: patches, positions, encoder, head (figure 1, equations 1 to 4).

B batch · y x pixels · N tokens · D width · H heads · K classes
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.core.errors import BadInput
from vitrail.models.encoder import Block, Gelu
from vitrail.models.head import (
    AveragePool,
    ClassToken,
    PoolConfig,
    classifier,
    hidden_layer,
    pool_tokens,
    prefix_tokens,
)
from vitrail.models.output import ModelOutput
from vitrail.models.patches import PatchEmbedding, grid_of
from vitrail.models.position import Learned1d, NoPosition, PositionConfig, SinCos2d, sincos2d

__all__ = ["AveragePool", "ClassToken", "ViT", "ViTConfig"]


@dataclass(frozen=True)
class ViTConfig:
    """A plain Vision Transformer; the defaults are B/16 at 224 pixels (Table 1)."""

    patch: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp: int = 3072
    resolution: tuple[int, int] = (224, 224)  # height, width
    num_classes: int = 0  # 0: no classifier, logits are the representation
    pool: PoolConfig = ClassToken()
    position: PositionConfig = Learned1d()
    hidden: int | None = None  # width of the hidden tanh layer before the classifier; pre-training heads have one
    dropout: float = 0.0  # after every dense layer but q, k, v, and after the positions
    gelu: Gelu = "tanh"  # what the official code computes; timm's and transformers' files want "exact"
    eps: float = 1e-6  # of the layer norms
    head_bias: float = 0.0  # start of the classifier's bias; -ln K or -10 with the sigmoid loss

    @property
    def grid(self) -> tuple[int, int]:
        """The patch grid (h, w)."""
        return grid_of(self.resolution, self.patch)

    @property
    def tokens(self) -> int:
        """Patches and class token."""
        return self.grid[0] * self.grid[1] + prefix_tokens(self.pool)

    @property
    def representation_width(self) -> int:
        """The width of what the classifier reads."""
        return self.hidden or self.width

    def check(self) -> None:
        """Raises BadInput for sizes that do not fit together."""
        if min(self.patch, self.width, self.depth, self.heads, self.mlp) < 1 or self.num_classes < 0:
            raise BadInput(f"patch, width, depth, heads and mlp must be at least 1: {self}")
        if self.width % self.heads:
            raise BadInput(f"width {self.width} is not divisible by {self.heads} heads")
        if min(self.grid) < 1:
            size = f"{self.resolution[0]} x {self.resolution[1]}"
            raise BadInput(f"a resolution of {size} pixels is smaller than one patch of {self.patch} x {self.patch}")
        if not 0 <= self.dropout < 1:
            raise BadInput(f"dropout is {self.dropout}, expected 0 up to below 1")


def dropped_border(config: ViTConfig) -> str | None:
    """A sentence when the resolution is not a multiple of the patch: those pixels are dropped, as the original does."""
    rows, columns = (side % config.patch for side in config.resolution)
    if not rows and not columns:
        return None
    h, w = config.grid
    return (
        f"{config.resolution[0]} x {config.resolution[1]} pixels are no multiple of the patch {config.patch}: "
        f"the last {rows} rows and {columns} columns of pixels are dropped, the grid is {h} x {w}"
    )


class ViT(nn.Module):
    """Float images [B, 3, H, W] (official range: -1 to 1) -> ModelOutput. State-dict keys are those of timm.

    `preprocess` and `classes` travel with a loaded model (vitrail.weights.load); a new one has none.
    """

    preprocess: Any = None
    classes: tuple[str, ...] = ()

    def __init__(self, config: ViTConfig):
        super().__init__()
        config.check()
        self.config = config
        prefix = prefix_tokens(config.pool)
        self.patch_embed = PatchEmbedding(config.patch, config.width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width)) if prefix else None
        self.pos_embed = _positions(config)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.mlp, gelu=config.gelu, eps=config.eps, dropout=config.dropout)
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width, eps=config.eps)
        self.pre_logits = hidden_layer(config.width, config.hidden) if config.hidden else None
        self.head = (
            classifier(config.representation_width, config.num_classes, config.head_bias)
            if config.num_classes
            else None
        )

    def forward(self, images: Float[Tensor, "b c y x"], attention: bool | Collection[int] = False) -> ModelOutput:
        """`attention=True`, or the layers whose weights to return: only those are computed explicitly."""
        if tuple(images.shape[-2:]) != self.config.resolution:
            raise ValueError(
                f"images are {tuple(images.shape[-2:])} pixels (height, width), this model reads "
                f"{self.config.resolution}; load it with resolution=... to resample its positions"
            )
        layers = range(len(self.blocks)) if attention is True else attention or ()
        if not all(0 <= i < len(self.blocks) for i in layers):
            raise ValueError(f"attention={list(layers)}: this model has the layers 0 to {len(self.blocks) - 1}")
        x_BND = self.patch_embed(images)
        if self.cls_token is not None:
            x_BND = torch.cat([self.cls_token.expand(x_BND.shape[0], -1, -1).to(x_BND.dtype), x_BND], dim=1)
        if self.pos_embed is not None:
            x_BND = x_BND + self.pos_embed
        x_BND = self.dropout(x_BND)
        weights = []
        for i, block in enumerate(self.blocks):
            x_BND, w_BHNN = block(x_BND, want_weights=i in layers)
            if w_BHNN is not None:
                weights.append(w_BHNN)
        tokens = self.norm(x_BND)
        representation = pool_tokens(tokens, self.config.pool)
        if self.pre_logits is not None:
            representation = self.pre_logits(representation).tanh()
        logits = representation if self.head is None else self.head(representation)
        return ModelOutput(logits, representation, tokens, tuple(weights) if layers else None)


def _positions(config: ViTConfig) -> nn.Parameter | None:
    match config.position:
        case NoPosition():
            return None
        case Learned1d():
            return nn.Parameter(torch.randn(1, config.tokens, config.width) * 0.02)
        case SinCos2d(learned):
            table = torch.zeros(1, config.tokens, config.width)
            table[0, prefix_tokens(config.pool) :] = sincos2d(config.grid, config.width)
            return nn.Parameter(table, requires_grad=learned)
