"""Recipes for small data and a CPU: minutes on two cores."""

from dataclasses import replace

from vitrail.data.transforms.pipeline import (
    Augment,
    CentreCrop,
    InceptionCrop,
    PadCrop,
    RandomResizedCrop,
    ResizeCrop,
    SquareResize,
    WholeImage,
)
from vitrail.jobs.demo import Demo
from vitrail.jobs.finetune.auto_plan import DEFAULT_BUDGET
from vitrail.jobs.finetune.finetune import Finetune
from vitrail.jobs.linear_probe import Linear
from vitrail.jobs.pretrain import Pretrain
from vitrail.jobs.pretrain_auto.config import AutoPretrain, Facts, run_of
from vitrail.models.head import AveragePool, ClassToken, PoolConfig
from vitrail.models.position import SinCos2d
from vitrail.models.vit import ViTConfig
from vitrail.train.optim import Adam, Momentum
from vitrail.train.schedule import Cosine


def _small(resolution: tuple[int, int], pool: PoolConfig) -> ViTConfig:
    """0.3 M parameters: half the parameters of an MLP ratio of 4, and 1.5 times its speed, on a CPU."""
    position = SinCos2d(learned=True)
    return ViTConfig(patch=4, width=96, depth=4, heads=3, mlp=192, resolution=resolution, pool=pool, position=position)


def digits() -> Pretrain:
    """The 8-pixel digits of scikit-learn, in seconds.

    Source: sizes and rates chosen here.
    Expected: 92.8 % (90.0 to 94.9) of the 445 test images after 400 steps; seeds 0 to 3 gave 92.4 to 95.1 %.
    Command: vitrail pretrain digits --out runs/digits
    """
    return Pretrain(
        train="digits@train",
        validation="digits@test",
        steps=400,
        batch=64,
        model=ViTConfig(patch=2, width=64, depth=3, heads=4, mlp=128, resolution=(8, 8), pool=AveragePool()),
        resize=SquareResize(),
        augment=Augment(crop=WholeImage(), flip=False),
        optimizer=Adam(lr=2e-3, weight_decay=0.05),
        schedule=Cosine(warmup=40),
        evaluate_every=100,
        save_every=200,
    )


def scattered_digits() -> Pretrain:
    """Digits 0 to 6 at random places and sizes on 24 pixels: the pre-training of the demo.

    Source: sizes and rates chosen here, on a quarter of the training digits (LOG.md).
    Expected: 95.8 % (93.0 to 97.6) of 313 test images after 850 steps; seeds 0 to 2 gave 95.8 to 97.8 %.
    Command: vitrail pretrain scattered-digits --out runs/scattered
    """
    return Pretrain(
        train="scattered-digits@seen-train",
        validation="scattered-digits@seen-test",
        steps=850,
        batch=64,
        model=_small((24, 24), ClassToken()),
        resize=SquareResize(),
        augment=Augment(crop=WholeImage(), flip=False),
        optimizer=Adam(lr=2e-3, weight_decay=0.3, betas=(0.9, 0.99)),
        schedule=Cosine(warmup=85),
        evaluate_every=170,
    )


def _by_law(train: str, test: str, validation: str | None, data: Facts, steps: int) -> Pretrain:
    """What `pretrain auto` makes of data when it has some 20 minutes on two cores: three layers of width 96."""
    made = run_of(AutoPretrain(train, test), data, depth=3, steps=steps, flip=True)
    return replace(made, validation=validation)


def cifar10() -> Pretrain:
    """CIFAR-10 from scratch, with 0.2 M parameters, in 21 minutes on two cores with bf16 units.

    Source: jobs/pretrain_auto (docs/auto.md, docs/cifar10.md, LOG.md).
    Expected: 80.4 % (79.6 to 81.2) of the 10,000 test images after 11,000 steps (28.7 epochs).
    Command: vitrail pretrain cifar10 --data-root data --out runs/cifar10
    """
    data = Facts(images=49_000, classes=10, side=32, square=True)
    return _by_law("cifar10@train[:98%]", "cifar10@test", "cifar10@train[98%:]", data, steps=11_000)


def cifar10_speedrun() -> Pretrain:
    """CIFAR-10 on two cores in 21 minutes: `cifar10` on all training images, 500 steps longer.

    Source: the recipe `cifar10` (docs/speedrun.md).
    Expected: 80.7 % (80.3 to 81.1) of the 10,000 test images after 11,500 steps (29.4 epochs), the mean of five seeds.
    Command: vitrail pretrain cifar10-speedrun --compile True --data-root data --out runs/cifar10-speedrun
    """
    data = Facts(images=50_000, classes=10, side=32, square=True)
    return _by_law("cifar10@train", "cifar10@test", None, data, steps=11_500)


def cifar100() -> Pretrain:
    """CIFAR-100 from scratch: as `cifar10`.

    Source: the recipe `cifar10`.
    Expected: not known; it has not been run yet.
    Command: vitrail pretrain cifar100 --data-root data --out runs/cifar100
    """
    data = {"train": "cifar100@train[:98%]", "validation": "cifar100@train[98%:]", "test": "cifar100@test"}
    return replace(cifar10(), **data)  # type: ignore[arg-type]


def tiny_imagenet() -> Pretrain:
    """Tiny-ImageNet from scratch, with 0.8 M parameters, in half an hour on two cores with bf16 units.

    Source: sizes and rates chosen here, for CIFAR-10 (LOG.md).
    Expected: 38.2 % (37.2 to 39.1) of the 10,000 validation images after 10,500 steps (13.7 epochs).
    Command: vitrail pretrain tiny-imagenet --data-root data --out runs/tiny-imagenet
    """
    return Pretrain(
        train="tiny-imagenet@train[:98%]",
        validation="tiny-imagenet@train[98%:]",
        test="tiny-imagenet@validation",
        steps=10_500,
        batch=128,
        model=ViTConfig(
            patch=8,
            width=128,
            depth=6,
            heads=4,
            mlp=256,
            resolution=(64, 64),
            pool=AveragePool(),
            position=SinCos2d(learned=True),
        ),
        resize=SquareResize(),
        augment=Augment(crop=PadCrop(padding=8)),
        resident=True,
        optimizer=Adam(lr=2e-3, weight_decay=0.1, betas=(0.9, 0.99)),
        schedule=Cosine(warmup=500),
        log_every=50,
        evaluate_every=1050,
        save_every=1050,
    )


def folder() -> Pretrain:
    """Your folder of images from scratch, at 64 pixels: a few thousand images, when no checkpoint is at hand.

    Source: the recipe `tiny-imagenet`, with the crops of the paper, of at least 30 % of the area.
    Expected: not known, it depends on the images; a checkpoint fine-tuned to them (`vitrail finetune folder`) is far
        better.
    Command: vitrail pretrain folder --train photos@train --test photos@test --out runs/photos
    """
    return replace(
        tiny_imagenet(),
        train="",
        validation=None,
        test=None,
        steps=3000,
        augment=Augment(crop=InceptionCrop(area=(0.3, 1.0))),
        resident=False,
        save_every=500,
    )


def finetune_digits() -> Finetune:
    """All ten scattered digits at 32 pixels, from 400 images of them: the fine-tuning of the demo.

    Source: the optimiser of Table 4; 50 steps at a rate chosen here.
    Expected: 81.8 % (77.9 to 85.1) of 445 test images after 50 steps, from `pretrain scattered-digits`; seeds 0 to 2
        gave 81.8 to 82.5 %.
    Command: vitrail finetune digits --init runs/scattered --out runs/digits-32
    """
    return Finetune(
        train="scattered-digits@train[:400]",
        validation="scattered-digits@train[400:700]",
        test="scattered-digits@test",
        resolution=32,
        steps=50,
        batch=64,
        augment=Augment(crop=WholeImage(), flip=False),
        optimizer=Momentum(lr=0.03),
        schedule=Cosine(warmup=8),
        log_every=10,
        evaluate_every=25,
    )


def finetune_cifar10() -> Finetune:
    """CIFAR-10 at its own 32 pixels, from a small model pre-trained on something else.

    Source: the optimiser of Table 4; its 10,000 steps are for large models.
    Expected: not known; it depends on MODEL and has not been run yet.
    Command: vitrail finetune cifar10 --init MODEL --data-root data --out runs/cifar10-tuned
    """
    return Finetune(
        train="cifar10@train",
        test="cifar10@test",
        resolution=32,
        steps=1000,
        batch=128,
        augment=Augment(crop=PadCrop(padding=4)),
        optimizer=Momentum(lr=0.01),
        schedule=Cosine(warmup=50),
    )


def finetune_auto() -> Finetune:
    """What `vitrail finetune` starts from when no recipe is named: see jobs/finetune/auto.py."""
    return Finetune(
        train="",
        steps=0,
        batch=0,
        augment=Augment(crop=RandomResizedCrop(area=(0.5, 1.0))),
        optimizer=Adam(lr=2e-4, weight_decay=0.05),
        budget=DEFAULT_BUDGET,
        log_every=10,
        evaluate_every=10_000,
        save_every=20,
    )


def finetune_folder() -> Finetune:
    """Your folder of images, with one sub-folder a class.

    Source: Table 4, the 500 steps of Pets and Flowers.
    Expected: depends on MODEL and the images; from an earlier `pretrain cifar10`, eight classes of Tiny-ImageNet
        with 100 images each gave 46.2 % (41.4 to 51.1) after 500 steps (docs/cifar10.md).
    Command: vitrail finetune folder --init MODEL --train photos@train --test photos@test --out runs/photos
    """
    return Finetune(
        train="",
        steps=500,
        batch=64,
        resize=CentreCrop(share=0.875),
        augment=Augment(crop=ResizeCrop(share=0.857)),
        optimizer=Momentum(lr=0.01),
        schedule=Cosine(warmup=50),
        log_every=10,
        evaluate_every=100,
        save_every=100,
    )


def _scratch(tuned: Finetune, model: ViTConfig, optimizer: Adam) -> Pretrain:
    """As many steps on the same images as a fine-tuning, its trials included, from a new model."""
    runs = 1 + len(tuned.sweep)
    return Pretrain(
        train=tuned.train,
        validation=tuned.validation,
        test=tuned.test,
        steps=runs * tuned.steps,
        batch=tuned.batch,
        model=model,
        resize=tuned.resize,
        augment=tuned.augment,
        resident=tuned.resident,
        optimizer=optimizer,
        schedule=replace(tuned.schedule, warmup=runs * tuned.schedule.warmup),
        log_every=tuned.log_every,
        evaluate_every=tuned.evaluate_every,
        save_every=tuned.save_every,
    )


def demo() -> Demo:
    """The story of `vitrail demo`: under two minutes on two cores."""
    tuned = finetune_digits()
    return Demo(
        pretrain=scattered_digits(),
        linear=Linear(
            model="",
            train="scattered-digits@unseen-train",
            test="scattered-digits@unseen-test",
            shots=(1, 5, 10),
            seeds=10,
            baselines=True,
        ),
        finetune=tuned,
        scratch=_scratch(tuned, _small((32, 32), ClassToken()), Adam(lr=1e-3, weight_decay=0.05, betas=(0.9, 0.99))),
        chapters=(
            "pre-training on the digits 0 to 6, thrown onto a canvas",
            "few shots of the digits 7 to 9, which it has never seen",
            "fine-tuning to all ten digits at a higher resolution",
            "the same steps from scratch",
        ),
    )


def transfer_demo() -> Demo:
    """The same story on photographs: Tiny-ImageNet to CIFAR-10 (docs/transfer.md)."""
    tuned = replace(
        finetune_cifar10(),
        resolution=64,
        augment=Augment(crop=PadCrop(padding=8)),
        resident=True,
        steps=600,
        schedule=Cosine(warmup=50),
        sweep=(0.01, 0.03, 0.1),
        log_every=20,
    )
    pretrain = tiny_imagenet()
    return Demo(
        pretrain=pretrain,
        linear=Linear(
            model="", train="cifar10@train", test="cifar10@test", shots=(1, 5, 10, 25, 100), seeds=5, baselines=True
        ),
        finetune=tuned,
        scratch=_scratch(tuned, pretrain.model, pretrain.optimizer),  # type: ignore[arg-type]
        chapters=(
            "pre-training on the 200 classes of Tiny-ImageNet",
            "few shots of the ten classes of CIFAR-10",
            "fine-tuning to all of CIFAR-10, at a rate chosen on 2 % of it",
            "as many steps from scratch",
        ),
    )


DEMOS = {"digits": demo, "photographs": transfer_demo}
