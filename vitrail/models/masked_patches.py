"""Masked patch prediction (section 4.6, B.1.2): some patch embeddings are corrupted, and what was there is predicted.

B batch · C = 3 colours · N patches · M corrupted ones · P patch side · D width · Q numbers that are predicted for each
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Float64, Int64, UInt8
from torch import Tensor, nn

from vitrail.core.errors import BadInput
from vitrail.models.head import ClassToken, TokenAndAverage
from vitrail.models.initialise import lecun_normal_, uninitialised
from vitrail.models.patches import patchify
from vitrail.models.vit import AveragePool, ViT, ViTConfig, chosen

BITS = 3  # of a colour channel
LEVELS = 2**BITS
COLOURS = LEVELS**3
SMALL = 4  # a side of the downsized patch

# What is asked of a corrupted patch: its mean colour (512 classes), the colours of it downsized to 4 x 4 (16 times 512)
# or all its pixels from -1 to 1 (the mean of squared differences).
Target = Literal["colour", "small-colours", "pixels"]


@dataclass(frozen=True)
class MaskedPatches:
    """Of the patch embeddings a share is corrupted: [mask], another patch's, or left as it is; all are predicted."""

    share: float = 0.5  # of the patches; BERT's 0.15 was slightly worse
    target: Target = "colour"
    masked: float = 0.8  # of the corrupted ones: a learned embedding
    foreign: float = 0.1  # of the corrupted ones: the embedding of another patch of the image; the rest is kept

    def check(self, config: ViTConfig) -> None:
        """Raises BadInput for numbers that mean nothing, and for models that the objective is not made for."""
        patches = config.grid[0] * config.grid[1]
        fits = self.masked >= 0 and self.foreign >= 0 and self.masked + self.foreign <= 1
        if not 0 < self.share <= 1 or not fits:  # no number at all, too
            raise BadInput(f"share, masked and foreign are shares of 1, and masked + foreign at most 1: {self}")
        check_encoder(config, "masked-patches")
        if config.channels != 3:
            raise BadInput(
                f"masked-patches predicts colours of 3 channels, this model reads {config.channels}; mae fits"
            )
        if patches < 2:
            raise BadInput("masked-patches needs at least 2 patches: take a smaller patch or a larger resolution")
        if self.target == "small-colours" and config.patch % SMALL:
            raise BadInput(
                f"small-colours needs a patch that is a multiple of {SMALL}, not {config.patch}; colour fits"
            )

    def corrupted(self, patches: int) -> int:
        """How many of so many patches: exactly these in every image."""
        return max(1, round(self.share * patches))

    def outputs(self, patch: int) -> int:
        """The numbers that are predicted for a patch."""
        return {"colour": COLOURS, "small-colours": SMALL**2 * COLOURS, "pixels": 3 * patch**2}[self.target]


def check_encoder(config: object, objective: str) -> None:
    """Raises BadInput for a model whose patches cannot be hidden, or parts of it that would learn nothing."""
    if not isinstance(config, ViTConfig) or config.backbone:
        raise BadInput(f"{objective} hides patches of pixels, which only a plain ViT has: take a model such as B/16")
    pool = config.pool
    fits = isinstance(pool, ClassToken | TokenAndAverage) or (isinstance(pool, AveragePool) and not pool.norm_after)
    if not fits:
        raise BadInput(f"{objective} trains no pooling: take --model.pool token or average, and change it in finetune")


class Corruption(NamedTuple):
    """Which patches of each image are predicted, and what the encoder sees in the place of every patch."""

    places: Int64[Tensor, "b m"]  # in rising order
    masked: Bool[Tensor, "b n"]  # [mask] is seen
    source: Int64[Tensor, "b n"]  # whose embedding is seen where not [mask] is: mostly its own


def draw_corruption(objective: MaskedPatches, numbers: Float64[Tensor, "b three_n"]) -> Corruption:
    """The corruption that random numbers of 0 to 1 say: N for which, N for what becomes of it, N for the other."""
    which_BN, kind_BN, other_BN = numbers.chunk(3, dim=1)
    count = which_BN.shape[1]
    places = which_BN.argsort(dim=1, stable=True)[:, : objective.corrupted(count)].sort(dim=1).values
    corrupted = torch.zeros_like(which_BN, dtype=torch.bool).scatter_(1, places, True)
    masked = corrupted & (kind_BN < objective.masked)
    foreign = corrupted & ~masked & (kind_BN < objective.masked + objective.foreign)
    own = torch.arange(count, device=numbers.device).expand_as(masked)
    further = 1 + (other_BN * (count - 1)).long()  # 1 to N - 1 places on, around: any patch but itself
    return Corruption(places, masked, torch.where(foreign, (own + further) % count, own))


def corrupt(
    patches: Float[Tensor, "b n d"], mask: Float[Tensor, "1 1 d"], corruption: Corruption
) -> Float[Tensor, "b n d"]:
    """The embeddings as the encoder sees them, before their positions."""
    return torch.where(corruption.masked[:, :, None], mask.to(patches.dtype), chosen(patches, corruption.source))


class PatchPredictor(nn.Module):
    """A ViT that is trained by masked patch prediction: `encoder`, the [mask] embedding, and the head."""

    def __init__(self, encoder: ViT, objective: MaskedPatches):
        super().__init__()
        objective.check(encoder.config)
        self.encoder, self.objective = encoder, objective
        width = encoder.config.width
        self.mask_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.head = uninitialised(nn.Linear, width, objective.outputs(encoder.config.patch))
        lecun_normal_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @property
    def config(self) -> ViTConfig:
        """The encoder's."""
        return self.encoder.config

    def forward(
        self,
        images: Float[Tensor, "b c y x"],
        places: Int64[Tensor, "b m"],
        masked: Bool[Tensor, "b n"],
        source: Int64[Tensor, "b n"],
    ) -> Float[Tensor, "b m q"]:
        """What is predicted for the corrupted patches, from their own outputs."""
        seen = corrupt(self.encoder.patch_embed(images), self.mask_token, Corruption(places, masked, source))
        tokens = self.encoder.encode(lambda: seen).tokens
        return self.head(chosen(tokens, places + self.config.num_prefix_tokens))


# Targets, from pixels of 0 to 255 that nothing has normalised. Sums of integers, so that every device agrees.


def mean_colours(pixels: UInt8[Tensor, "b 3 y x"], patch: int) -> Int64[Tensor, "b n"]:
    """The class of each patch's mean colour: 3 bits a channel, red + 8 green + 64 blue; 0 to 511."""
    return _classes(_sums(pixels, patch), patch**2)


def _sums(pixels: UInt8[Tensor, "b 3 y x"], patch: int) -> Int64[Tensor, "b n 3"]:
    return patchify(pixels, patch).unflatten(2, (3, patch**2)).sum(dim=3, dtype=torch.int64)


def small_colours(pixels: UInt8[Tensor, "b 3 y x"], patch: int) -> Int64[Tensor, "b n 16"]:
    """The same of the 4 x 4 blocks of each patch, in raster order."""
    blocks = rearrange(
        patchify(pixels, patch), "b n (c h p w q) -> b n (h w) c (p q)", c=3, h=SMALL, w=SMALL, p=patch // SMALL
    )
    return _classes(blocks.sum(dim=4, dtype=torch.int64), (patch // SMALL) ** 2)


def _classes(sums: Int64[Tensor, "*n 3"], count: int) -> Int64[Tensor, "*n"]:
    levels = sums * LEVELS // (256 * count)
    return levels[..., 0] + LEVELS * levels[..., 1] + LEVELS**2 * levels[..., 2]


def colour_of(classes: Int64[Tensor, "*n"]) -> UInt8[Tensor, "*n 3"]:
    """The middle of the colours of a class."""
    levels = torch.stack([classes >> BITS * c & LEVELS - 1 for c in range(3)], dim=-1)
    return (levels * (256 // LEVELS) + 128 // LEVELS).to(torch.uint8)


def flat_pixels(pixels: UInt8[Tensor, "b 3 y x"], patch: int) -> Float[Tensor, "b n q"]:
    """All pixels of each patch from -1 to 1, channels first."""
    return patchify(pixels, patch).float() / 127.5 - 1


def neighbours_colour(pixels: UInt8[Tensor, "b 3 y x"], patch: int, seen: Bool[Tensor, "b n"]) -> Int64[Tensor, "b n"]:
    """What the neighbours let expect: the class of the mean colour of those of a patch's eight that are `seen`.

    Where none of them is, the mean of all that are seen.
    """
    h, w = pixels.shape[2] // patch, pixels.shape[3] // patch
    sums = _sums(pixels, patch)
    known = torch.cat([sums, torch.ones_like(sums[..., :1])], dim=2) * seen[..., None]
    padded = nn.functional.pad(rearrange(known, "b (h w) c -> b h w c", h=h), (0, 0, 1, 1, 1, 1))
    around = sum(padded[:, y : y + h, x : x + w] for y in range(3) for x in range(3) if (y, x) != (1, 1))
    assert isinstance(around, Tensor)
    near = around.flatten(1, 2)
    mean = torch.where(near[..., 3:] > 0, near, known.sum(dim=1, keepdim=True))
    levels = mean[..., :3] * LEVELS // (256 * patch**2 * mean[..., 3:].clamp(min=1))
    return levels[..., 0] + LEVELS * levels[..., 1] + LEVELS**2 * levels[..., 2]
