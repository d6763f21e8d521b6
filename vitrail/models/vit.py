"""The Vision Transformer: patches, positions, encoder, head (figure 1, equations 1 to 4).

B batch · y x pixels · N tokens · D width · H heads · K classes
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn

from vitrail.core.errors import BadInput
from vitrail.models.attention import Attention
from vitrail.models.axial import AxialBlock
from vitrail.models.encoder import Block, Gelu, Mlp
from vitrail.models.head import (
    AttentionPool,
    AttentionPooling,
    AveragePool,
    ClassToken,
    PoolConfig,
    TokenAndDistilled,
    classifier,
    has_class_token,
    hidden_layer,
    pool_tokens,
    pooled_width,
)
from vitrail.models.hybrid import backbone
from vitrail.models.initialise import mimetic_
from vitrail.models.output import ModelOutput
from vitrail.models.patches import PatchEmbedding, grid_of
from vitrail.models.position import (
    Learned1d,
    PositionConfig,
    Relative,
    added_table,
    before_layer,
    embedding,
    relative_of_layer,
)
from vitrail.models.resnet import Stages

__all__ = ["AveragePool", "ClassToken", "ViT", "ViTConfig"]

Watch = Callable[[int, Float[Tensor, "b heads n n"]], None]  # a layer, counted from 0, and its weights of attention


@dataclass(frozen=True)
class ViTConfig:
    """A Vision Transformer, plain or hybrid; the defaults are B/16 at 224 pixels (Table 1)."""

    patch: int = 16  # of the image, or of the backbone's feature map
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp: int = 3072
    resolution: tuple[int, int] = (224, 224)  # height, width
    num_classes: int = 0  # 0: no classifier, logits are the representation
    pool: PoolConfig = ClassToken()
    position: PositionConfig = Learned1d()
    hidden: int | None = None  # width of the hidden tanh layer before the classifier; pre-training heads have one
    backbone: Stages | None = None  # a hybrid's ResNet; None: patches of pixels
    dropout: float = 0.0  # after every dense layer but q, k, v, and after the positions
    gelu: Gelu = "tanh"  # what the official code computes; timm's and transformers' files want "exact"
    eps: float = 1e-6  # of the layer norms
    head_bias: float = 0.0  # start of the classifier's bias; -ln K or -10 with the sigmoid loss
    # Not in the paper; files that people hold have them.
    registers: int = 0  # extra learned tokens after the class token, without positions (2309.16588)
    layer_scale: float | None = None  # start of a learned factor for each channel of a branch (DeiT III, DINOv2)
    qk_norm: bool = False  # a layer norm of q and k in each head
    gated: bool = False  # silu(a) · b in place of the MLP's GELU (DINOv2's giant)
    channels: int = 3  # of the images; 1: grey
    axial: bool = False  # attention along rows, then along columns, each with an MLP of its own (D.6)
    drop_path: float = 0.0  # stochastic depth: rate of the last block, rising evenly from 0 in the first (AugReg: 0.1)
    mimetic: bool = False  # attention starts where trained ViTs have it (2305.09828); the model is the same

    @property
    def stride(self) -> int:
        """Pixels of the image from one token to the next."""
        return self.patch * (self.backbone.stride if self.backbone else 1)

    @property
    def grid(self) -> tuple[int, int]:
        """The patch grid (h, w)."""
        return grid_of(self.backbone.grid(self.resolution) if self.backbone else self.resolution, self.patch)

    @property
    def class_token(self) -> bool:
        """True where the sequence starts with a class token."""
        return has_class_token(self.pool)

    @property
    def num_prefix_tokens(self) -> int:
        """The number of tokens before the patches: class token, then registers."""
        return int(self.class_token) + self.registers

    @property
    def tokens(self) -> int:
        """All tokens of the sequence."""
        return self.grid[0] * self.grid[1] + self.num_prefix_tokens

    @property
    def representation_width(self) -> int:
        """The width of what the classifier reads."""
        return self.hidden or pooled_width(self.pool, self.width)

    def check(self) -> None:
        """Raises BadInput for sizes that do not fit together."""
        sizes, counts = (self.patch, self.width, self.depth, self.heads, self.mlp), (self.num_classes, self.registers)
        if min(sizes) < 1 or min(counts) < 0 or self.channels < 1:
            raise BadInput(f"patch, width, depth, heads and mlp must be at least 1: {self}")
        if self.width % self.heads:
            raise BadInput(f"width {self.width} is not divisible by {self.heads} heads")
        if self.backbone:
            self.backbone.check()
            if self.channels != 3:
                raise BadInput(f"a hybrid's ResNet reads 3 channels, not {self.channels}")
        if isinstance(self.pool, TokenAndDistilled) and not self.registers:
            raise BadInput("TokenAndDistilled reads the first register, and there are no registers")
        if min(self.grid) < 1:
            size = f"{self.resolution[0]} x {self.resolution[1]}"
            raise BadInput(f"a resolution of {size} pixels is smaller than one patch of {self.stride} x {self.stride}")
        if not 0 <= self.dropout < 1:
            raise BadInput(f"dropout is {self.dropout}, expected 0 up to below 1")
        if self.axial and self.mimetic:
            raise BadInput(
                "a mimetic start is for attention over all tokens, not along rows and columns; leave it out: "
                "--model.mimetic False"
            )
        if self.axial and (isinstance(self.position, Relative) or self.drop_path):
            raise BadInput("axial attention has no relative positions of the whole sequence, and no stochastic depth")
        if not 0 <= self.drop_path < 1:
            raise BadInput(f"drop_path is {self.drop_path}, expected 0 up to below 1")


def cropped_border(config: Any) -> str | None:
    """A sentence when the resolution is not a multiple of the patch: those pixels are dropped, as the original does."""
    if not isinstance(config, ViTConfig) or config.backbone:  # convolutions pad
        return None
    rows, columns = (side % config.patch for side in config.resolution)
    if not rows and not columns:
        return None
    h, w = config.grid
    return (
        f"{config.resolution[0]} x {config.resolution[1]} pixels are no multiple of the patch {config.patch}: "
        f"the last {rows} rows and {columns} columns of pixels are dropped, the grid is {h} x {w}"
    )


def layer(config: ViTConfig, drop_path: float = 0.0) -> Block:
    """A new layer of the encoder."""
    return Block(
        config.width,
        config.heads,
        config.mlp,
        gelu=config.gelu,
        eps=config.eps,
        dropout=config.dropout,
        gated=config.gated,
        qk_norm=config.qk_norm,
        layer_scale=config.layer_scale,
        drop_path=drop_path,
    )


def chosen(tokens_BND: Shaped[Tensor, "b n d"], places_BV: Int64[Tensor, "b v"]) -> Shaped[Tensor, "b v d"]:
    """Of each image the tokens at its places."""
    return tokens_BND.gather(1, places_BV[:, :, None].expand(-1, -1, tokens_BND.shape[2]))


class ViT(nn.Module):
    """Float images [B, 3, H, W] (official range: -1 to 1) -> ModelOutput. State-dict keys are those of timm.

    `preprocess`, `classes`, `temperature` and `thresholds` travel with a loaded model (vitrail.weights.load); a new one
    has none.
    """

    preprocess: Any = None
    classes: tuple[str, ...] = ()
    temperature: float | None = None
    thresholds: tuple[float, ...] | None = None

    def __init__(self, config: ViTConfig):
        super().__init__()
        config.check()
        self.config = config
        width, eps = config.width, config.eps
        under = config.backbone
        self.patch_embed = (
            PatchEmbedding(config.patch, width, under.channels, backbone(under))
            if under
            else PatchEmbedding(config.patch, width, config.channels)
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width)) if config.class_token else None
        self.reg_token = nn.Parameter(torch.randn(1, config.registers, width) * 1e-6) if config.registers else None
        self.pos_embed = embedding(
            config.position,
            grid=config.grid,
            width=width,
            heads=config.heads,
            depth=config.depth,
            class_token=config.class_token,
            tokens=config.tokens,
        )
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            AxialBlock(partial(layer, config), config.grid, config.num_prefix_tokens)
            if config.axial
            else layer(config, config.drop_path * i / max(1, config.depth - 1))
            for i in range(config.depth)
        )
        if config.mimetic:
            for module in self.blocks.modules():
                if isinstance(module, Attention):
                    mimetic_(module.qkv, module.proj, config.heads)
        after = isinstance(config.pool, AveragePool) and config.pool.norm_after
        self.norm = nn.Identity() if after else nn.LayerNorm(width, eps=eps)
        self.attn_pool = None
        if isinstance(config.pool, AttentionPool):
            mlp = Mlp(width, config.mlp, config.gelu, dropout=0.0)
            self.attn_pool = AttentionPooling(width, config.heads, mlp, eps)
        self.fc_norm = nn.LayerNorm(width, eps=eps) if after else nn.Identity()
        self.pre_logits = hidden_layer(pooled_width(config.pool, width), config.hidden) if config.hidden else None
        self.head = (
            classifier(config.representation_width, config.num_classes, config.head_bias)
            if config.num_classes
            else None
        )

    def forward(
        self, images: Float[Tensor, "b c y x"], attention: bool | Collection[int] = False, watch: Watch | None = None
    ) -> ModelOutput:
        """`attention=True`, or the layers whose weights to return: only those are computed explicitly.

        `watch` is given the weights of these layers one by one instead: none are held, and none are returned.
        """
        if tuple(images.shape[-2:]) != self.config.resolution:
            raise ValueError(
                f"images are {tuple(images.shape[-2:])} pixels (height, width), this model reads "
                f"{self.config.resolution}; load it with resolution=... to resample its positions"
            )
        return self.encode(partial(self.patch_embed, images), attention, watch)

    def encode(
        self,
        patches: Callable[[], Float[Tensor, "b n d"]],
        attention: bool | Collection[int] = False,
        watch: Watch | None = None,
        visible_BV: Int64[Tensor, "b v"] | None = None,
    ) -> ModelOutput:
        """What follows the embedding of the patches; `visible`: of each image, the places of the patches that are seen.

        `patches` makes them: what a caller holds would stay in memory until the last layer.

        Positions are added to the patches that are seen, by their own places; relative ones are those of the sequence.
        """
        layers = range(len(self.blocks)) if attention is True else attention or ()
        if not all(0 <= i < len(self.blocks) for i in layers):
            raise ValueError(f"attention={list(layers)}: this model has the layers 0 to {len(self.blocks) - 1}")
        config = self.config
        x_BND = self._with_prefix(patches() if visible_BV is None else chosen(patches(), visible_BV))
        table_LND = self.position_table()
        if table_LND is not None and visible_BV is not None:
            places = visible_BV + config.num_prefix_tokens
            prefix = torch.arange(config.num_prefix_tokens, device=places.device).expand(places.shape[0], -1)
            rows_BN = torch.cat([prefix, places], dim=1)
        else:
            rows_BN = None
        weights = []
        for i, block in enumerate(self.blocks):
            here = before_layer(config.position, table_LND, i)
            if here is not None:
                x_BND = x_BND + (here if rows_BN is None else here[0][rows_BN])
            if i == 0:
                x_BND = self.dropout(x_BND)
            relative = relative_of_layer(config.position, self.pos_embed, i)
            x_BND, w_BHNN = block(x_BND, i in layers, relative)
            if w_BHNN is not None:
                if watch is None:
                    weights.append(w_BHNN)
                else:
                    watch(i, w_BHNN)
                del w_BHNN  # before the next layer makes its own
        tokens = self.norm(x_BND)
        representation = self.fc_norm(pool_tokens(tokens, config.pool, config.num_prefix_tokens, self.attn_pool))
        if self.pre_logits is not None:
            representation = self.pre_logits(representation).tanh()
        logits = representation if self.head is None else self.head(representation)
        return ModelOutput(logits, representation, tokens, tuple(weights) if layers and watch is None else None)

    def position_table(self) -> Float[Tensor, "l n d"] | None:
        """The embedding added to the tokens, for every layer that has its own; None where nothing is added."""
        config = self.config
        return added_table(config.position, self.pos_embed, class_token=config.class_token, registers=config.registers)

    def _with_prefix(self, patches_BND: Float[Tensor, "b n d"]) -> Float[Tensor, "b m d"]:
        """Class token, registers, patches."""
        extra = [t for t in (self.cls_token, self.reg_token) if t is not None]
        if not extra:
            return patches_BND
        prefix = [t.expand(patches_BND.shape[0], -1, -1).to(patches_BND.dtype) for t in extra]
        return torch.cat([*prefix, patches_BND], dim=1)
