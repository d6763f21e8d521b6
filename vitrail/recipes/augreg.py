"""Recipes after and beside the paper: AugReg (2106.10270), better plain ViT (2205.01580), BiT (1912.11370).

None was run here: they take hundreds of accelerator-hours and more.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Literal, NamedTuple, get_args

from vitrail.data.transforms.mixup import Mixing
from vitrail.data.transforms.pipeline import Augment, CentreCrop
from vitrail.data.transforms.randaugment import RandAugment
from vitrail.jobs.pretrain import Pretrain
from vitrail.models.head import AveragePool
from vitrail.models.position import SinCos2d
from vitrail.models.resnet import ResNetConfig
from vitrail.models.variants import variant
from vitrail.models.vit import ViTConfig
from vitrail.recipes.docstring import About
from vitrail.recipes.pretraining import steps_of
from vitrail.train.loss import Sigmoid, Softmax
from vitrail.train.optim import Adam, Momentum
from vitrail.train.schedule import Cosine, Steps

Data = Literal["imagenet21k", "imagenet"]


class Augmentation(NamedTuple):
    """RandAugment's layers and magnitude, and mixup's parameter."""

    layers: int
    magnitude: float
    mixup: float


# fmt: off
#                          layers  magnitude  mixup
AUGREG = {
    "none":    Augmentation(0,  0.0, 0.0),
    "light1":  Augmentation(2,  0.0, 0.0),
    "light2":  Augmentation(2, 10.0, 0.2),
    "medium1": Augmentation(2, 15.0, 0.2),
    "medium2": Augmentation(2, 15.0, 0.5),
    "strong1": Augmentation(2, 20.0, 0.5),
    "strong2": Augmentation(2, 20.0, 0.8),
}
# fmt: on


def augreg(
    model: str, data: Data, augmentation: str, decay: float, regularised: bool = False, epochs: int = 300
) -> Pretrain:
    """A cell of AugReg's grid: an augmentation, decay 0.1 or 0.03, with dropout and stochastic depth or without."""
    layers, magnitude, mixup = AUGREG[augmentation]
    config = variant(model)
    assert isinstance(config, ViTConfig)
    rate = 0.1 if regularised else 0.0
    return Pretrain(
        train=f"{data}@train",
        steps=steps_of(data, epochs),
        batch=4096,
        model=replace(config, dropout=rate, drop_path=rate),
        optimizer=Adam(lr=1e-3, weight_decay=decay),
        schedule=Cosine(10_000),
        loss=Sigmoid(),
        clip=1.0,
        augment=Augment(randaugment=RandAugment(layers, magnitude) if layers else None),
        mixing=Mixing(mixup=mixup),
        log_every=100,
        evaluate_every=5000,
        save_every=1000,
    )


class Recommended(NamedTuple):
    """A published checkpoint's settings, and its accuracy on ImageNet after fine-tuning at 384 pixels."""

    model: str
    augmentation: str
    decay: float
    regularised: bool
    imagenet: float


# fmt: off
RECOMMENDED = (
    Recommended("L/16",     "strong1", 0.10, False, 85.59),
    Recommended("B/16",     "medium1", 0.10, False, 85.49),
    Recommended("S/16",     "light1",  0.03, False, 83.73),
    Recommended("R50+L/32", "medium1", 0.10, True,  85.99),
    Recommended("R26+S/32", "light1",  0.10, False, 83.85),
    Recommended("Ti/16",    "none",    0.03, False, 78.22),
    Recommended("B/32",     "light1",  0.10, False, 83.59),
    Recommended("S/32",     "none",    0.10, False, 79.58),
    Recommended("R+Ti/16",  "none",    0.03, False, 75.40),
)
# fmt: on


def better_plain(epochs: int) -> Pretrain:
    """S/16 on ImageNet: average pooling, sines and cosines, a hidden layer, RandAugment, mixup, batch 1024."""
    model = variant("S/16")
    assert isinstance(model, ViTConfig)
    return Pretrain(
        train="imagenet@train[:99%]",
        validation="imagenet@train[99%:]",
        test="imagenet@validation",
        steps=round(0.99 * 1_281_167 / 1024 * epochs),
        batch=1024,
        model=replace(model, pool=AveragePool(), position=SinCos2d(), hidden=model.width),
        resize=CentreCrop(),
        optimizer=Adam(lr=1e-3, weight_decay=0.1),
        schedule=Cosine(10_000),
        loss=Softmax(),
        clip=1.0,
        augment=Augment(randaugment=RandAugment(2, 10.0)),
        mixing=Mixing(mixup=0.2),
        log_every=100,
        evaluate_every=5000,
        save_every=1000,
    )


def bit(model: str, data: Data) -> Pretrain:
    """BiT upstream: SGD, rate 0.03 for 256 images, 90 epochs, a tenth at 30, 60 and 80 of them."""
    config = variant(model)
    assert isinstance(config, ResNetConfig)
    return Pretrain(
        train=f"{data}@train",
        steps=steps_of(data, 90),
        batch=4096,
        model=config,
        optimizer=Momentum(lr=0.03 * 4096 / 256, momentum=0.9, weight_decay=1e-4, coupled=True),
        schedule=Steps(warmup=5000, at=(30 / 90, 60 / 90, 80 / 90)),
        loss=Sigmoid() if data == "imagenet21k" else Softmax(),
        clip=None,
        log_every=100,
        evaluate_every=5000,
        save_every=1000,
    )


def _named(about: About, made: Callable[..., Pretrain], *arguments: object) -> Callable[[], Pretrain]:
    recipe = partial(made, *arguments)
    recipe.__doc__ = about.docstring()
    return recipe


def short(model: str) -> str:
    """ "b16", "r50-l32": a model in the name of a recipe."""
    return model.lower().replace("/", "").replace("+", "-")


REACHED = {90: 76.5, 150: 78.5, 300: 80.0}  # top-1 on ImageNet's validation images, of the authors' better plain S/16
# top-1 on ImageNet of the authors' largest BiTs, fine-tuned their way
TUNED = {("R152x4", "imagenet"): 81.30, ("R152x4", "imagenet21k"): 85.39}


def _augreg(r: Recommended) -> About:
    name = f"augreg-imagenet21k-{short(r.model)}"
    regularised = ", dropout and stochastic depth 0.1" if r.regularised else ""
    return About(
        f"{r.model} on ImageNet-21k with augmentation {r.augmentation}, decay {r.decay:g}{regularised}, 300 epochs.",
        "AugReg (arXiv 2106.10270), the authors' recommended checkpoint of this model.",
        f"theirs gave {r.imagenet} % on ImageNet, fine-tuned at 384 pixels, after"
        f" {steps_of('imagenet21k', 300):,} steps (300 epochs). Not run here.",
        f"vitrail pretrain {name} --train IMAGENET21K@train --out runs/{name}",
    )


def _plain(epochs: int) -> About:
    name = f"better-plain-s16-{epochs}"
    return About(
        f"S/16 on ImageNet, {epochs} epochs, as plain as it can be.",
        "Better plain ViT baselines (arXiv 2205.01580).",
        f"theirs gave {REACHED[epochs]} % of ImageNet's validation images after {better_plain(epochs).steps:,} steps"
        f" ({epochs} epochs). Not run here.",
        f"vitrail pretrain {name} --train IMAGENET@train[:99%] --validation IMAGENET@train[99%:]"
        f" --test IMAGENET@validation --out runs/{name}",
    )


def _bit(model: str, data: Data) -> About:
    name = f"bit-{data}-{short(model)}"
    tuned = TUNED.get((model, data))
    at = f"after {steps_of(data, 90):,} steps (90 epochs)"
    theirs = f"theirs gave {tuned} % on ImageNet, fine-tuned, {at}" if tuned else f"not known {at}"
    return About(
        f"{model} on {data}, 90 epochs of SGD.",
        "BiT (arXiv 1912.11370), section 3.3.",
        f"{theirs}. Not run here.",
        f"vitrail pretrain {name} --train {data.upper()}@train --out runs/{name}",
    )


RECIPES: dict[str, Callable[[], Pretrain]] = {
    **{
        f"augreg-imagenet21k-{short(r.model)}": _named(
            _augreg(r), augreg, r.model, "imagenet21k", r.augmentation, r.decay, r.regularised
        )
        for r in RECOMMENDED
    },
    **{f"better-plain-s16-{epochs}": _named(_plain(epochs), better_plain, epochs) for epochs in REACHED},
    **{
        f"bit-{data}-{short(model)}": _named(_bit(model, data), bit, model, data)
        for data in get_args(Data)
        for model in ("R50x1", "R50x3", "R101x1", "R101x3", "R152x2", "R152x4")
    },
}


DATA = ("imagenet", "imagenet21k")
DECAYS = (0.1, 0.03)
NAMES = "augreg-DATA-MODEL-AUGMENTATION-DECAY[-regularised]"

# After 300 epochs of ImageNet alone, at 224 pixels: the best of the 28 of each model, as published.
GRID_REACHED = {
    "L/16": 75.72, "B/16": 79.84, "S/16": 79.00, "R50+L/32": 76.84, "R26+S/32": 79.61, "Ti/16": 72.59, "B/32": 74.42,
    "S/32": 72.07, "R+Ti/16": 70.13,
}  # fmt: skip


def cells() -> dict[str, tuple[str, str, str, float, bool]]:
    """The arguments of `augreg` for every name: model, data, augmentation, decay, regularised."""
    models = [row.model for row in RECOMMENDED]
    found = {}
    for data, model, augmentation, decay, regularised in product(DATA, models, AUGREG, DECAYS, (False, True)):
        name = f"augreg-{data}-{short(model)}-{augmentation}-{decay:g}" + ("-regularised" if regularised else "")
        found[name] = (model, data, augmentation, decay, regularised)
    return found


def cell(name: str) -> Callable[[], Pretrain] | None:
    """The recipe of that name, or None where the grid has no such cell."""
    arguments = cells().get(name)
    if arguments is None:
        return None
    model, data, augmentation, decay, regularised = arguments
    made = partial(augreg, model, data, augmentation, decay, regularised)  # type: ignore[arg-type]
    best = f"the best of the 28 reached {GRID_REACHED[model]} % after 300 epochs" if data == "imagenet" else "not known"
    made.__doc__ = About(
        f"{model} on {data}, {augmentation}, decay {decay:g}{', dropout and stochastic depth' if regularised else ''}.",
        "AugReg (2106.10270), a cell of its grid.",
        f"{best}; it was not run here.",
        f"vitrail pretrain {name} --train {data}@train --out runs/{name}",
    ).docstring()
    return made


class WithGrid(dict[str, Callable[[], Pretrain]]):
    """Recipes by name; the cells of the grid are among them, though no list names them all."""

    def __missing__(self, name: str) -> Callable[[], Pretrain]:
        found = cell(name)
        if found is None:
            raise KeyError(name)
        return found

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and cell(name) is not None)
