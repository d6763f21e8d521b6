"""Models of a millisecond, every kind of position and of pooling, and pictures for them."""

from dataclasses import replace

import torch
from torch import Tensor

from vitrail.models.build import Model, ModelConfig, build
from vitrail.models.head import AttentionPool, AveragePool, ClassToken, PoolConfig, TokenAndAverage
from vitrail.models.patches import patchify
from vitrail.models.position import Learned1d, Learned2d, NoPosition, PositionConfig, Relative, SinCos2d
from vitrail.models.vit import ViTConfig

# 3 x 4 patches: nothing that confuses rows and columns goes unnoticed
SMALL = ViTConfig(patch=4, width=24, depth=3, heads=3, mlp=48, resolution=(12, 16), num_classes=5)
GRID = (3, 4)

POSITIONS: dict[str, PositionConfig] = {
    "none": NoPosition(),
    "1-D": Learned1d(),
    "1-D, patches only": Learned1d(class_entry=False),
    "1-D, layers": Learned1d("layers"),
    "1-D, shared": Learned1d("shared"),
    "2-D": Learned2d(),
    "2-D, patches only": Learned2d("layers", class_entry=False),
    "2-D, layers": Learned2d("layers"),
    "2-D, shared": Learned2d("shared"),
    "relative": Relative(),
    "relative, shared": Relative(shared=True),
    "sin-cos": SinCos2d(),
    "sin-cos, learned": SinCos2d(learned=True),
}

POOLS: dict[str, PoolConfig] = {
    "class token": ClassToken(),
    "average": AveragePool(),
    "average beside a class token": AveragePool(class_token=True),
    "norm after the average": AveragePool(norm_after=True),
    "norm after, class token": AveragePool(class_token=True, norm_after=True),
    "attention": AttentionPool(),
    "class token and average": TokenAndAverage(),
}


def vit(**changes: object) -> ViTConfig:
    """SMALL with something else."""
    return replace(SMALL, **changes)


def lively(config: ModelConfig, seed: int = 0) -> Model:
    """A model without a zero anywhere, so that everything matters; in evaluation mode."""
    torch.manual_seed(seed)
    model = build(config)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    return model.eval()


def pictures(count: int = 2, size: tuple[int, int] = (12, 16)) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(1))


def shuffled_patches(images: Tensor, order: list[int]) -> Tensor:
    """Images of SMALL's size with their patches in another order."""
    patches = patchify(images, 4)[:, order]
    return patches.unflatten(2, (3, 4, 4)).unflatten(1, GRID).permute(0, 3, 1, 4, 2, 5).reshape(images.shape)
