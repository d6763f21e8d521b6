"""What `pretrain auto` is asked, and the run that it makes of a depth: sizes and rate in proportion, as in its law."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vitrail.core.errors import BadInput
from vitrail.data.decode.image import BrokenImage, size_of, to_picture
from vitrail.data.sources.base import Source
from vitrail.data.transforms.mixup import Mixing
from vitrail.data.transforms.pipeline import Augment, CentreCrop, Crop, InceptionCrop, PadCrop, Resize, SquareResize
from vitrail.jobs.finetune.schedule_rule import seconds_of
from vitrail.jobs.pretrain import Pretrain
from vitrail.models.head import AveragePool
from vitrail.models.position import SinCos2d
from vitrail.models.vit import ViTConfig
from vitrail.train.optim import Muon
from vitrail.train.schedule import Cosine

DEPTHS = (2, 24)
WIDTH = 32  # a layer, and of a head
BATCH = 128
RATE = 8e-3  # over the depth: Adam's, of all but the matrices of the layers
MUON_RATE = 0.01  # of these, at every width
SIDE = 8  # patches along a side, as in the law
LARGEST = 64  # pixels of a side: of larger images
LOOKED_AT = 64  # images, whose sizes are taken
MANY_EPOCHS = 30.0  # from which on images are mixed as well
MIXUP = 0.2
RESIDENT = 2e9  # bytes that a set decoded once may take


@dataclass(frozen=True)
class AutoPretrain:
    """One of budget, flops and depth; all else is decided."""

    train: str  # the images to learn from
    test: str | None = None  # judged once, at the end; without it nothing is
    budget: str | None = None  # time for all of it, pilot and evaluation included: 25m, 8h
    flops: float | None = None  # of training, the pilot's included
    depth: int | None = None  # layers, and the compute of which that many are the best
    seed: int = 0

    def check(self) -> None:
        """Raises BadInput for none or several of the three, or a number that means nothing."""
        given = [name for name in ("budget", "flops", "depth") if getattr(self, name) is not None]
        if len(given) != 1:
            said = "one of --budget, --flops and --depth" + (f", not {' and '.join(given)}" if given else "")
            raise BadInput(f"pretrain auto is told how much to spend: give {said}, such as --budget 25m")
        if not self.train:
            raise BadInput("pretrain auto needs images to learn from: --train DATA, such as cifar10@train")
        if self.budget is not None:
            seconds_of(self.budget)
        if self.flops is not None and not 0 < self.flops < float("inf"):
            raise BadInput(f"flops is {self.flops:g}, expected above 0, such as 1e15")
        if self.depth is not None and not DEPTHS[0] <= self.depth <= DEPTHS[1]:
            raise BadInput(f"depth is {self.depth}, expected {DEPTHS[0]} to {DEPTHS[1]} layers")


class Facts(NamedTuple):
    """What the data are."""

    images: int
    classes: int
    side: int  # pixels: the median of the shorter sides of LOOKED_AT images
    square: bool  # whether all of these have equal sides


def look_at(source: Source) -> Facts:
    """The facts of a source.

    Raises:
        BadInput: several classes an image, or not one image that can be read.
    """
    if source.multi_label:
        raise BadInput(
            "pretrain auto foretells accuracy, which is of one class an image: name a recipe, such as folder"
        )
    places = np.unique(np.linspace(0, len(source) - 1, LOOKED_AT).astype(int))
    sizes = []
    for place in places:
        try:
            sizes.append(size_of(to_picture(source[int(place)].image)))
        except BrokenImage:
            continue
    if not sizes:
        raise BadInput(f"none of {len(places)} images can be read")
    shorter = [min(size) for size in sizes]
    return Facts(len(source), len(source.classes), int(np.median(shorter)), all(h == w for h, w in sizes))


def vit_of(depth: int, facts: Facts) -> ViTConfig:
    """The ViT of a depth: SIDE x SIDE patches of images as large as they are, up to LARGEST pixels a side."""
    patch = max(1, round(min(facts.side, LARGEST) / SIDE))
    return ViTConfig(
        patch=patch,
        width=WIDTH * depth,
        depth=depth,
        heads=depth,
        mlp=2 * WIDTH * depth,
        resolution=(SIDE * patch, SIDE * patch),
        pool=AveragePool(),
        position=SinCos2d(learned=True),
        mimetic=True,
    )


def run_of(asked: AutoPretrain, facts: Facts, depth: int, steps: int, flip: bool) -> Pretrain:
    """The run of so many steps with a depth. `flip`: images are mirrored, every other time."""
    model = vit_of(depth, facts)
    side = model.resolution[0]
    resize: Resize = SquareResize() if facts.square else CentreCrop()
    crop: Crop = PadCrop(padding=side // SIDE) if facts.square else InceptionCrop(area=(0.3, 1.0))
    epochs = steps * BATCH / facts.images
    often = max(1, steps // 10)
    return Pretrain(
        train=asked.train,
        test=asked.test,
        steps=steps,
        batch=BATCH,
        seed=asked.seed,
        model=model,
        resize=resize,
        augment=Augment(crop=crop, flip=flip),
        mixing=Mixing(mixup=MIXUP) if epochs >= MANY_EPOCHS else Mixing(),
        resident=facts.images * 3 * side**2 <= RESIDENT,
        optimizer=Muon(
            lr=MUON_RATE, adam_lr=float(f"{RATE / depth:.3g}"), adam_weight_decay=0.1, adam_betas=(0.9, 0.99)
        ),
        schedule=Cosine(warmup=max(1, steps // 20)),
        log_every=max(1, min(50, often)),
        evaluate_every=often,
        save_every=often,
    )
