"""Transformers, ResNets and hybrids of comparable cost, small enough for a CPU, and the run that trains them all.

On 32 pixels: a ViT sees 16 patches of 8 or 64 of 4 pixels; a BiT ResNet with the width factor 1/2 or 1 has three
stages, or two; a hybrid reads the feature map of two stages.
"""

from dataclasses import replace

from vitrail.data.transforms.pipeline import Augment, SquareResize, WholeImage
from vitrail.jobs.pretrain import Pretrain
from vitrail.models.build import ModelConfig
from vitrail.models.resnet import BIT, ResNetConfig, Stages
from vitrail.models.vit import ViTConfig
from vitrail.studies import setups
from vitrail.train.optim import Adam
from vitrail.train.schedule import Cosine


def vit(patch: int, width: int, depth: int, side: int) -> ViTConfig:
    """A ViT with heads of 32 and an MLP of twice the width, which is faster on a CPU."""
    return ViTConfig(patch, width, depth, heads=width // 32, mlp=2 * width, resolution=(side, side))


def resnet(units: tuple[int, ...], width: int, side: int) -> ResNetConfig:
    """A BiT ResNet of so many units a stage; a width of 64 is the factor 1."""
    return ResNetConfig(replace(BIT, units=units, width=width), resolution=(side, side))


def hybrid(width: int, depth: int, side: int) -> ViTConfig:
    """A ViT on the feature map of two stages of half the width: one token for 8 pixels."""
    return replace(vit(1, width, depth, side), backbone=Stages(units=(1, 1), width=32))


WIDE_RATE = 7e-4  # at the 2e-3 of the others a width of 192 falls behind one of 64 (25 % in 10-shot against 28 %)

# name -> family, model. Millions of multiply-adds: ViT 2.4, 9, 22, 30; ResNet 4, 6, 10, 22; hybrid 7, 14, 34.
SMALL_MODELS: dict[str, tuple[str, ModelConfig]] = {
    "ViT-64/8": ("ViT", vit(8, 64, 4, 32)),
    "ViT-128/8": ("ViT", vit(8, 128, 4, 32)),
    "ViT-96/4": ("ViT", vit(4, 96, 4, 32)),
    "ViT-192/8": ("ViT", vit(8, 192, 6, 32)),
    "R8x0.5": ("ResNet", resnet((1, 1), 32, 32)),
    "R11x0.5": ("ResNet", resnet((1, 1, 1), 32, 32)),
    "R20x0.5": ("ResNet", resnet((2, 2, 2), 32, 32)),
    "R11x1": ("ResNet", resnet((1, 1, 1), 64, 32)),
    "R8x0.5+64/8": ("hybrid", hybrid(64, 4, 32)),
    "R8x0.5+128/8": ("hybrid", hybrid(128, 4, 32)),
    "R8x0.5+192/8": ("hybrid", hybrid(192, 6, 32)),
}

SMOKE_MODELS: dict[str, tuple[str, ModelConfig]] = {
    "ViT-32/4": ("ViT", vit(4, 32, 2, 24)),
    "ViT-64/4": ("ViT", vit(4, 64, 2, 24)),
    "ViT-96/4": ("ViT", vit(4, 96, 3, 24)),
    "R5x0.5": ("ResNet", resnet((1,), 32, 24)),
    "R8x0.5": ("ResNet", resnet((1, 1), 32, 24)),
    "R14x0.5": ("ResNet", resnet((2, 2), 32, 24)),
    "R5x0.5+64/4": ("hybrid", replace(vit(1, 64, 2, 24), backbone=Stages(units=(1,), width=32))),
}


def small(model: ModelConfig) -> Pretrain:
    """The common base of the studies on small photographs, with another model: the widest at a lower rate (Table 3)."""
    base = setups.small()
    rate = WIDE_RATE if isinstance(model, ViTConfig) and model.width >= 192 else base.optimizer.lr
    return replace(base, model=model, optimizer=replace(base.optimizer, lr=rate))


def smoke(model: ModelConfig) -> Pretrain:
    """Scattered digits 0 to 6, for seconds."""
    return Pretrain(
        train="scattered-digits@seen-train[:6000]",
        validation="scattered-digits@seen-test",
        steps=300,
        batch=64,
        model=model,
        resize=SquareResize(),
        augment=Augment(crop=WholeImage(), flip=False),
        resident=True,
        optimizer=Adam(lr=2e-3, weight_decay=0.1, betas=(0.9, 0.99)),
        schedule=Cosine(warmup=30),
        evaluate_every=100,
        save_every=300,
    )
