"""Masked autoencoders (MAE, arXiv 2111.06377): the encoder sees a quarter of the patches, a decoder paints the rest.

B batch · C channels · N patches · V visible ones · P patch side · D width · E width of the decoder
"""

from dataclasses import dataclass
from functools import partial

import torch
from einops import rearrange
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

from vitrail.core.errors import BadInput
from vitrail.models.encoder import Block
from vitrail.models.initialise import linear
from vitrail.models.masked_patches import check_encoder
from vitrail.models.patches import grid_of
from vitrail.models.position import Relative, sincos2d
from vitrail.models.vit import ViT, ViTConfig, chosen


@dataclass(frozen=True)
class MAE:
    """The published decoder; a lighter one of one or two layers costs little where models are fine-tuned."""

    masked: float = 0.75  # of the patches: hidden from the encoder, painted by the decoder
    decoder_width: int = 512
    decoder_depth: int = 8
    decoder_heads: int = 16
    decoder_mlp: int = 2048
    normalised: bool = True  # targets: the pixels of each patch with mean 0 and deviation 1

    def check(self, config: ViTConfig) -> None:
        """Raises BadInput for sizes that do not fit together, and for models that the objective is not made for."""
        check_encoder(config, "mae")
        if isinstance(config.position, Relative):
            raise BadInput("mae leaves patches out, so relative positions would mean nothing: take --model.position 1d")
        if config.axial:
            raise BadInput("mae leaves patches out, so rows and columns would have holes: take masked-patches")
        sizes = (self.decoder_width, self.decoder_depth, self.decoder_heads, self.decoder_mlp)
        if min(sizes) < 1 or self.decoder_width % self.decoder_heads or self.decoder_width % 4:
            raise BadInput(f"the decoder's width must be a multiple of its heads and of 4, and nothing below 1: {self}")
        patches = config.grid[0] * config.grid[1]
        if not 0 <= self.masked <= 1:  # no number at all, too
            raise BadInput(f"masked is {self.masked:g}, expected a share of the patches")
        if not 0 < self.visible(patches) < patches:
            raise BadInput(f"{self.masked:g} masked of {patches} patches leaves {self.visible(patches)} to be seen")

    def visible(self, patches: int) -> int:
        """How many of so many patches the encoder sees: exactly these in every image."""
        return int(patches * (1 - self.masked))


def draw_order(numbers: Float64[Tensor, "b n"]) -> Int64[Tensor, "b n"]:
    """The patches of each image by their random numbers; the first are visible."""
    return numbers.argsort(dim=1, stable=True)


class MaskedAutoencoder(nn.Module):
    """A ViT that is trained as MAE's encoder, and the decoder. The names of the decoder's weights are those of Meta."""

    def __init__(self, encoder: ViT, objective: MAE):
        super().__init__()
        objective.check(encoder.config)
        self.encoder, self.objective = encoder, objective
        config, width = encoder.config, objective.decoder_width
        table = torch.zeros(1, config.tokens, width)
        table[0, config.num_prefix_tokens :] = sincos2d(config.grid, width)
        self.decoder_embed = linear(config.width, width)
        self.mask_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.decoder_pos_embed = nn.Parameter(table, requires_grad=False)
        self.decoder_blocks = nn.ModuleList(
            Block(width, objective.decoder_heads, objective.decoder_mlp, gelu=config.gelu, eps=config.eps)
            for _ in range(objective.decoder_depth)
        )
        self.decoder_norm = nn.LayerNorm(width, eps=config.eps)
        self.decoder_pred = linear(width, config.channels * config.patch**2)

    @property
    def config(self) -> ViTConfig:
        """The encoder's."""
        return self.encoder.config

    def forward(self, images: Float[Tensor, "b c y x"], order: Int64[Tensor, "b n"]) -> Float[Tensor, "b n pixels"]:
        """What is painted into every patch (row, column, channel), the visible ones too; `order`: see `draw_order`."""
        prefix, count = self.config.num_prefix_tokens, order.shape[1]
        visible = order[:, : self.objective.visible(count)]
        tokens = self.encoder.encode(partial(self.encoder.patch_embed, images), visible_BV=visible).tokens
        x_BVE = self.decoder_embed(tokens)
        hidden = self.mask_token.to(x_BVE.dtype).expand(order.shape[0], count - visible.shape[1], -1)
        patches = chosen(torch.cat([x_BVE[:, prefix:], hidden], dim=1), order.argsort(dim=1))
        x_BNE = torch.cat([x_BVE[:, :prefix], patches], dim=1) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            x_BNE, _ = block(x_BNE)
        return self.decoder_pred(self.decoder_norm(x_BNE)[:, prefix:])


def pixels_of(images: Float[Tensor, "b c y x"], patch: int) -> Float[Tensor, "b n pixels"]:
    """Flattened patches in MAE's order: row, column, channel."""
    h, w = grid_of((images.shape[-2], images.shape[-1]), patch)
    whole = images[..., : h * patch, : w * patch]
    return rearrange(whole, "b c (h p) (w q) -> b (h w) (p q c)", p=patch, q=patch)


def normalised(patches: Float[Tensor, "b n pixels"]) -> Float[Tensor, "b n pixels"]:
    """Each patch with mean 0 and deviation 1; the variance is unbiased, as published."""
    mean, variance = patches.mean(dim=-1, keepdim=True), patches.var(dim=-1, keepdim=True)
    return (patches - mean) / (variance + 1e-6).sqrt()


def painting_loss(
    predicted: Float[Tensor, "b n pixels"],
    images: Float[Tensor, "b c y x"],
    order: Int64[Tensor, "b n"],
    objective: MAE,
    patch: int,
) -> Float[Tensor, ""]:
    """The mean over the masked patches and their pixels of the squared difference."""
    target = pixels_of(images, patch)
    target = normalised(target) if objective.normalised else target
    masked = order[:, objective.visible(order.shape[1]) :]
    return (chosen(predicted.float(), masked) - chosen(target, masked)).square().mean()
