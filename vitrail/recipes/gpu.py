"""Recipes for small data and one GPU, in minutes. None was run yet: there was no GPU to run them on."""

from collections.abc import Callable
from dataclasses import replace

from vitrail.data.transforms.mixup import Mixing
from vitrail.data.transforms.pipeline import Augment, CentreCrop, InceptionCrop, PadCrop, SquareResize
from vitrail.data.transforms.randaugment import RandAugment
from vitrail.data.transforms.random_erasing import RandomErasing
from vitrail.jobs.finetune.finetune import Finetune
from vitrail.jobs.pretrain import Pretrain
from vitrail.models.head import AveragePool
from vitrail.models.position import SinCos2d
from vitrail.models.variants import variant
from vitrail.models.vit import ViTConfig
from vitrail.recipes.small import finetune_folder
from vitrail.train.loss import Softmax
from vitrail.train.optim import Adam
from vitrail.train.schedule import Cosine

_ON_64_TOKENS = ViTConfig(pool=AveragePool(), position=SinCos2d(learned=True), drop_path=0.1)


def cifar10() -> Pretrain:
    """CIFAR-10 from scratch, 200 epochs of a ViT of 8 M parameters, meant for ten minutes on one H100.

    Source: DeiT's mixing, erasing and smoothing (2012.12877), with crops and sizes for 32 pixels chosen here.
    Expected: not known; it is meant to reach 92 % after 19,100 steps and has not been run yet.
    Command: vitrail pretrain cifar10-gpu --data-root data --out runs/cifar10
    """
    return Pretrain(
        train="cifar10@train[:98%]",
        validation="cifar10@train[98%:]",
        test="cifar10@test",
        steps=19_100,
        batch=512,
        model=replace(_ON_64_TOKENS, patch=4, width=320, depth=8, heads=5, mlp=960, resolution=(32, 32)),
        resize=SquareResize(),
        augment=Augment(crop=PadCrop(padding=4), erasing=RandomErasing(probability=0.25)),
        mixing=Mixing(mixup=0.8, cutmix=1.0, probability=0.8),
        resident=True,
        optimizer=Adam(lr=1e-3, weight_decay=0.1),
        schedule=Cosine(warmup=1000),
        loss=Softmax(smoothing=0.1),
        average=0.999,
        log_every=95,
        evaluate_every=1910,
        save_every=1910,
    )


def cifar10_minute() -> Pretrain:
    """CIFAR-10 from scratch in 40 epochs: `cifar10-gpu` with a fifth of its steps, without mixing, for a speedrun.

    Source: the recipe `cifar10-gpu`; so few epochs are spent on whole images.
    Expected: not known; it is meant for the track of 90 % in a minute on one H100 and has not been run yet.
    Command: vitrail pretrain cifar10-gpu-minute --data-root data --out runs/cifar10
    """
    return replace(
        cifar10(),
        steps=3820,
        mixing=Mixing(),
        schedule=Cosine(warmup=200),
        average=0.995,
        evaluate_every=382,
        save_every=3820,
    )


def cifar100() -> Pretrain:
    """CIFAR-100 from scratch: as `cifar10-gpu`.

    Source: the recipe `cifar10-gpu`.
    Expected: not known; it has not been run yet.
    Command: vitrail pretrain cifar100-gpu --data-root data --out runs/cifar100
    """
    data = {"train": "cifar100@train[:98%]", "validation": "cifar100@train[98%:]", "test": "cifar100@test"}
    return replace(cifar10(), **data)  # type: ignore[arg-type]


def tiny_imagenet() -> Pretrain:
    """Tiny-ImageNet from scratch, 150 epochs of a ViT of 16 M parameters, meant for 15 minutes on one H100.

    Source: as `cifar10-gpu`, with Inception's crops of at least 30 % of the area.
    Expected: not known; it is meant to reach 55 % after 28,700 steps and has not been run yet.
    Command: vitrail pretrain tiny-imagenet-gpu --data-root data --out runs/tiny-imagenet
    """
    return replace(
        cifar10(),
        train="tiny-imagenet@train[:98%]",
        validation="tiny-imagenet@train[98%:]",
        test="tiny-imagenet@validation",
        steps=28_700,
        model=replace(_ON_64_TOKENS, patch=8, width=384, depth=9, heads=6, mlp=1536, resolution=(64, 64)),
        augment=Augment(crop=InceptionCrop(area=(0.3, 1.0)), erasing=RandomErasing(probability=0.25)),
        log_every=143,
        evaluate_every=2870,
        save_every=2870,
    )


def folder() -> Pretrain:
    """Your folder of images from scratch with S/16 at 224 pixels: tens of thousands of images and more.

    Source: better plain ViT (2205.01580), its augmentation and rates, at a quarter of its batch.
    Expected: not known, it depends on the images; it has not been run yet.
    Command: vitrail pretrain folder-gpu --train photos@train --test photos@test --out runs/photos
    """
    model = variant("S/16")
    assert isinstance(model, ViTConfig)
    return Pretrain(
        train="",
        steps=20_000,
        batch=256,
        model=replace(model, pool=AveragePool(), position=SinCos2d()),
        resize=CentreCrop(),
        augment=Augment(randaugment=RandAugment(2, 10.0)),
        mixing=Mixing(mixup=0.2),
        optimizer=Adam(lr=5e-4, weight_decay=0.1),
        schedule=Cosine(warmup=1000),
        log_every=100,
        evaluate_every=2000,
        save_every=1000,
    )


def finetune_to_folder() -> Finetune:
    """Your folder of images, 2,500 steps of 512 at 384 pixels, from a published checkpoint.

    Source: Table 4, its batch and resolution, and the steps of VTAB.
    Expected: depends on MODEL and the images; it has not been run yet.
    Command: vitrail finetune folder-gpu --init MODEL --train photos@train --test photos@test --out runs/photos
    """
    return replace(
        finetune_folder(),
        steps=2500,
        batch=512,
        resolution=384,
        schedule=Cosine(warmup=100),
        evaluate_every=250,
        save_every=250,
    )


PRETRAINING: dict[str, Callable[[], Pretrain]] = {
    "cifar10-gpu": cifar10,
    "cifar10-gpu-minute": cifar10_minute,
    "cifar100-gpu": cifar100,
    "tiny-imagenet-gpu": tiny_imagenet,
    "folder-gpu": folder,
}

FINETUNING: dict[str, Callable[[], Finetune]] = {"folder-gpu": finetune_to_folder}
