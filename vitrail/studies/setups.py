"""What the studies start from at the two scales that run on a CPU: one base, so that equal runs are made once.

`smoke`: the digits in the quarters of a canvas, whose classes need positions; seconds a run. `small`: half of
Tiny-ImageNet at 32 pixels with 0.6 million parameters, about a minute a run, and CIFAR-10 as the target.
"""

from vitrail.data.transforms.pipeline import Augment, PadCrop, SquareResize, WholeImage
from vitrail.jobs.pretrain import Pretrain
from vitrail.models.vit import ViTConfig
from vitrail.studies.engine.runs import FewShot
from vitrail.train.optim import Adam
from vitrail.train.schedule import Cosine

SMOKE_TARGET = FewShot("placed-digits@unseen-train", "placed-digits@unseen-test")
SMALL_TARGET = FewShot("cifar10@train", "cifar10@test", shots=(5, 10, 25))
IMAGENET = FewShot("imagenet@train", "imagenet@validation", draws=1)  # the paper's 5-shot accuracy

SMALL_REMARK = "Half of Tiny-ImageNet, 32 pixels, minutes of training: accuracies are far below the paper's."

SMOKE_VIT = ViTConfig(patch=4, width=64, depth=2, heads=4, mlp=128, resolution=(16, 16))
SMALL_VIT = ViTConfig(patch=8, width=128, depth=4, heads=4, mlp=256, resolution=(32, 32))


def smoke() -> Pretrain:
    """Digits 0 to 6 and the quarter that they lie in; the digits 7 to 9 are the target."""
    return Pretrain(
        train="placed-digits@seen-train",
        validation="placed-digits@seen-test",
        steps=250,
        batch=64,
        model=SMOKE_VIT,
        resize=SquareResize(),
        augment=Augment(crop=WholeImage(), flip=False),
        resident=True,
        optimizer=Adam(lr=1e-2, weight_decay=0.05, betas=(0.9, 0.99)),
        schedule=Cosine(warmup=25),
        log_every=25,
        evaluate_every=50,
        save_every=250,
    )


def small() -> Pretrain:
    """50,000 images of 200 classes."""
    return Pretrain(
        train="tiny-imagenet@train[:50%]",
        validation="tiny-imagenet@validation[:2000]",
        steps=1500,
        batch=128,
        model=SMALL_VIT,
        resize=SquareResize(),
        augment=Augment(crop=PadCrop(padding=4)),
        resident=True,
        optimizer=Adam(lr=2e-3, weight_decay=0.1, betas=(0.9, 0.99)),
        schedule=Cosine(warmup=150),
        evaluate_every=250,
        save_every=500,
    )
