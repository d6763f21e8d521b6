"""The models and runs that the studies start from at the scales that run on a CPU; equal runs are made once.

`smoke`: digits on a canvas of 16 or 24 pixels, seconds a run. `small`: half of Tiny-ImageNet at 32 pixels with about
0.6 million parameters, about a minute a run, and CIFAR-10 as the target. `medium`: all of Tiny-ImageNet, or as many
digits as a question needs; several rates and seeds.

Models of three families cost about the same: on 32 pixels a ViT has 16 patches of 8 or 64 of 4 pixels; a BiT ResNet
with the width factor 1/2 or 1 has two stages or three; a hybrid reads the feature map of two stages.
"""

from collections.abc import Collection
from dataclasses import replace

from vitrail.data.transforms.pipeline import Augment, PadCrop, SquareResize, WholeImage
from vitrail.jobs.pretrain import Pretrain
from vitrail.models.build import ModelConfig
from vitrail.models.resnet import BIT, ResNetConfig, Stages
from vitrail.models.vit import ViTConfig
from vitrail.recipes import pretraining
from vitrail.studies.engine.runs import FewShot, Scale
from vitrail.train.optim import Adam
from vitrail.train.schedule import Cosine

PLACED_DIGITS = FewShot("placed-digits@unseen-train", "placed-digits@unseen-test")
SCATTERED_DIGITS = FewShot("scattered-digits@unseen-train", "scattered-digits@unseen-test")
CIFAR10 = FewShot("cifar10@train", "cifar10@test", shots=(5, 10, 25))
IMAGENET = FewShot("imagenet@train", "imagenet@validation", draws=1)  # the paper's 5-shot accuracy

MEDIUM_RATES = (7e-4, 2e-3)  # of Adam for models of several sizes; validation images choose one of them for each

SMALL_REMARK = "Half of Tiny-ImageNet, 32 pixels, minutes of training: accuracies are far below the paper's."


def vit(patch: int, width: int, depth: int, side: int) -> ViTConfig:
    """A ViT with heads of 32 and an MLP of twice the width, which is faster on a CPU."""
    return ViTConfig(patch, width, depth, heads=width // 32, mlp=2 * width, resolution=(side, side))


def resnet(units: tuple[int, ...], width: int, side: int) -> ResNetConfig:
    """A BiT ResNet of so many units a stage; a width of 64 is the factor 1."""
    return ResNetConfig(replace(BIT, units=units, width=width), resolution=(side, side))


def hybrid(width: int, depth: int, side: int, units: tuple[int, ...] = (1, 1)) -> ViTConfig:
    """A ViT on the feature map of ResNet stages of half the usual width; of two stages: one token for 8 pixels."""
    return replace(vit(1, width, depth, side), backbone=Stages(units=units, width=32))


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

# Five of each family, grown by one rule: a ViT and a hybrid by its depth, widths of 32 a layer; a ResNet by its units
# and its width. Millions of multiply-adds: ViT 6 to 291, ResNet 4 to 270, hybrid 9 to 294.
MEDIUM_MODELS: dict[str, tuple[str, ModelConfig]] = {
    **{f"ViT-{32 * depth}/4": ("ViT", vit(4, 32 * depth, depth, 32)) for depth in (2, 3, 4, 6, 8)},
    "R8x0.5": ("ResNet", resnet((1, 1), 32, 32)),
    "R20x0.5": ("ResNet", resnet((2, 2, 2), 32, 32)),
    "R11x1": ("ResNet", resnet((1, 1, 1), 64, 32)),
    "R20x1.5": ("ResNet", resnet((2, 2, 2), 96, 32)),
    "R41x2": ("ResNet", resnet((3, 4, 6), 128, 32)),
    **{f"R5x0.5+{32 * depth}/4": ("hybrid", hybrid(32 * depth, depth, 32, (1,))) for depth in (2, 3, 4, 6, 8)},
}

SMOKE_MODELS: dict[str, tuple[str, ModelConfig]] = {
    "ViT-32/4": ("ViT", vit(4, 32, 2, 24)),
    "ViT-64/4": ("ViT", vit(4, 64, 2, 24)),
    "ViT-96/4": ("ViT", vit(4, 96, 3, 24)),
    "R5x0.5": ("ResNet", resnet((1,), 32, 24)),
    "R8x0.5": ("ResNet", resnet((1, 1), 32, 24)),
    "R14x0.5": ("ResNet", resnet((2, 2), 32, 24)),
    "R5x0.5+64/4": ("hybrid", hybrid(64, 2, 24, units=(1,))),
}


def varied_vit(scale: Scale) -> tuple[Pretrain, FewShot, int]:
    """The ViT of which some studies vary one thing, its target, and how often each run is repeated."""
    match scale:
        case "smoke":
            return placed_digits(), PLACED_DIGITS, 2
        case "small":
            return tiny_imagenet(), CIFAR10, 2
        case "medium":
            return all_tiny_imagenet(), CIFAR10, 2
        case "paper":
            return pretraining("jft-b16"), IMAGENET, 1
        case _:
            raise ValueError(f"nothing is varied at scale {scale}")


def small_runs(scale: Scale, names: Collection[str] = ()) -> tuple[dict[str, tuple[str, Pretrain]], FewShot]:
    """The family and the run of each model of `smoke` or `small` (or of those named), and their target."""
    models = SMOKE_MODELS if scale == "smoke" else SMALL_MODELS
    base, target = (scattered_digits, SCATTERED_DIGITS) if scale == "smoke" else (tiny_imagenet, CIFAR10)
    return {name: (models[name][0], base(models[name][1])) for name in names or models}, target


def placed_digits() -> Pretrain:
    """Digits 0 to 6 and the quarter they lie in: classes that need positions. The target has the digits 7 to 9."""
    return Pretrain(
        train="placed-digits@seen-train",
        validation="placed-digits@seen-test",
        steps=250,
        batch=64,
        model=ViTConfig(patch=4, width=64, depth=2, heads=4, mlp=128, resolution=(16, 16)),
        resize=SquareResize(),
        augment=Augment(crop=WholeImage(), flip=False),
        resident=True,
        optimizer=Adam(lr=1e-2, weight_decay=0.05, betas=(0.9, 0.99)),
        schedule=Cosine(warmup=25),
        log_every=25,
        evaluate_every=50,
        save_every=250,
    )


def scattered_digits(model: ModelConfig) -> Pretrain:
    """Digits 0 to 6 anywhere on a canvas."""
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


def strewn_digits(model: ModelConfig, rate: float) -> Pretrain:
    """All digits anywhere on a canvas, as many images as are asked for; tested on digits that nothing else showed."""
    base = scattered_digits(model)
    return replace(
        base,
        train="strewn-digits@train",
        validation="strewn-digits@validation",
        test="strewn-digits@test",
        steps=6000,
        # 500 images are learned by heart to gradients below the usual eps, of which Adam makes steps that break the run
        optimizer=Adam(lr=rate, weight_decay=0.1, betas=(0.9, 0.99), eps=1e-6),
        schedule=Cosine(warmup=600),
        evaluate_every=500,
        save_every=2000,
    )


def all_tiny_imagenet() -> Pretrain:
    """The same, of all its 100,000 images, for longer."""
    run = replace(tiny_imagenet(), train="tiny-imagenet@train", steps=4000, schedule=Cosine(warmup=400))
    return replace(run, evaluate_every=500, save_every=1000)


def medium_run(model: ModelConfig, steps: int = 1500) -> Pretrain:
    """The same for fewer updates or more: what studies of several models give each of them at scale medium."""
    return replace(all_tiny_imagenet(), model=model, steps=steps, schedule=Cosine(warmup=steps // 10))


def tiny_imagenet(model: ModelConfig = vit(8, 128, 4, 32)) -> Pretrain:
    """50,000 images of 200 classes; the widest models at a lower rate, as in Table 3."""
    # at 2e-3 a width of 192 falls behind one of 64 (25 % in 10-shot against 28 %)
    rate = 7e-4 if isinstance(model, ViTConfig) and model.width >= 192 else 2e-3
    return Pretrain(
        train="tiny-imagenet@train[:50%]",
        validation="tiny-imagenet@validation[:2000]",
        steps=1500,
        batch=128,
        model=model,
        resize=SquareResize(),
        augment=Augment(crop=PadCrop(padding=4)),
        resident=True,
        optimizer=Adam(lr=rate, weight_decay=0.1, betas=(0.9, 0.99)),
        schedule=Cosine(warmup=150),
        evaluate_every=250,
        save_every=500,
    )
