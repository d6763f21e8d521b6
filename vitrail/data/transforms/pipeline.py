"""The two views of an image: the training view, which is random, and the evaluation view, which is not."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from vitrail.core.errors import BadInput
from vitrail.data.decode.image import BrokenImage, Picture, Pixels, part_of, size_of, to_pixels, whole
from vitrail.data.sources.base import Example, Source, add_to
from vitrail.data.transforms import crops
from vitrail.data.transforms.crops import Interpolation
from vitrail.data.transforms.randaugment import RandAugment, rand_augment
from vitrail.data.transforms.random_erasing import RandomErasing, erase


@dataclass(frozen=True)
class SquareResize:
    """Both sides to the resolution, whatever the aspect: the test view of the official fine-tuning.

    With a `share` below 1 both sides to resolution / `share`, then the middle (timm's "squash", transformers' DeiT).
    """

    share: float = 1.0


@dataclass(frozen=True)
class CentreCrop:
    """The shorter side to resolution / `share`, then the middle: 224 of 256 while pre-training."""

    share: float = 0.875


Resize = SquareResize | CentreCrop


@dataclass(frozen=True)
class Preprocess:
    """The evaluation view, and the scale of the numbers; it travels with the model."""

    resolution: tuple[int, int] = (224, 224)  # height, width
    resize: Resize = CentreCrop()
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)  # of pixels in [0, 1], for each channel: the official range is [-1, 1]
    std: tuple[float, ...] = (0.5, 0.5, 0.5)  # one number each: the model reads grey images
    interpolation: Interpolation = "bilinear"


@dataclass(frozen=True)
class InceptionCrop:
    """A random box of `area` of the image, as TensorFlow draws it, resized. The paper's: 5 to 100 %."""

    area: tuple[float, float] = (0.05, 1.0)


@dataclass(frozen=True)
class RandomResizedCrop:
    """The same as torchvision draws it, with its defaults: larger boxes, as the area is uniform."""

    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)  # width over height


@dataclass(frozen=True)
class PadCrop:
    """The image at its resolution, shifted by up to `padding` pixels: for small images."""

    padding: int = 4


@dataclass(frozen=True)
class ResizeCrop:
    """The whole image resized to resolution / `share`, then a random crop (BiT's fine-tuning: 384 of 448)."""

    share: float = 0.857


@dataclass(frozen=True)
class SimpleRandomCrop:
    """The image resized to cover the resolution, padded by reflection, and a random window of it (DeiT III)."""

    padding: int = 4


@dataclass(frozen=True)
class WholeImage:
    """The evaluation view, also for training."""


Crop = InceptionCrop | RandomResizedCrop | PadCrop | ResizeCrop | SimpleRandomCrop | WholeImage


@dataclass(frozen=True)
class ColourJitter:
    """Brightness, contrast and saturation, each times a factor from 1 - strength to 1 + strength (DeiT III: 0.3)."""

    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.3


@dataclass(frozen=True)
class Augment:
    """What makes training views differ from each other, in the order in which it is done."""

    crop: Crop = InceptionCrop()
    flip: bool = True  # half of the views
    three_augment: bool = False  # DeiT III's: grey, solarised or blurred
    jitter: ColourJitter | None = None
    randaugment: RandAugment | None = None
    erasing: RandomErasing | None = None

    def check(self) -> None:
        """Raises BadInput for numbers that mean nothing."""
        if isinstance(self.crop, (PadCrop, SimpleRandomCrop)) and self.crop.padding < 0:
            raise BadInput(f"padding is {self.crop.padding} pixels, expected 0 or more")
        if (
            isinstance(self.crop, (InceptionCrop, RandomResizedCrop))
            and not 0 < self.crop.area[0] <= self.crop.area[1] <= 1
        ):
            raise BadInput(f"the area of a crop is {self.crop.area}, expected two shares, as 0.05 and 1.0")
        if isinstance(self.crop, RandomResizedCrop) and not 0 < self.crop.aspect[0] <= self.crop.aspect[1]:
            raise BadInput(f"the aspect of a crop is {self.crop.aspect}, expected two numbers, as 0.75 and 1.33")
        if self.jitter and min(self.jitter.brightness, self.jitter.contrast, self.jitter.saturation) < 0:
            raise BadInput(f"the strengths of colour jitter are 0 or more: {self.jitter}")
        if self.randaugment:
            self.randaugment.check()
        if self.erasing:
            self.erasing.check()


def eval_transform(pixels: Pixels, preprocess: Preprocess) -> Pixels:
    """The image as a model is meant to see it: uint8 [H, W, 3] at the resolution."""
    size = preprocess.resolution
    match preprocess.resize:
        case SquareResize(share):
            larger = (round(size[0] / share), round(size[1] / share))
            return crops.centre_crop(crops.resize(pixels, larger, interpolation=preprocess.interpolation), size)
        case CentreCrop(share):
            return crops.centre_crop(crops.cover(pixels, size, share, preprocess.interpolation), size)


def train_transform(picture: Picture, config: Augment, preprocess: Preprocess, rng: np.random.Generator) -> Pixels:
    """One random view: uint8 [H, W, 3] at the resolution; a function of the picture and the generator alone.

    Of a JPEG that is still to be decoded, what a crop does not show is left out, and what it shows is decoded no larger
    than it has to be: the boxes are the same, and pixels differ a little where the box has twice the resolution.

    Raises:
        BrokenImage: a JPEG cannot be decoded.
    """
    size = preprocess.resolution
    match config.crop:
        case InceptionCrop(area):
            view = crops.inception_crop(picture, size, area, rng)
        case RandomResizedCrop(area, aspect):
            view = crops.random_resized_crop(picture, size, area, aspect, rng)
        case PadCrop(padding):
            view = crops.pad_crop(eval_transform(whole(picture), preprocess), padding, rng)
        case ResizeCrop(share):
            larger = (round(size[0] / share), round(size[1] / share))
            height, width = size_of(picture)
            pixels, box = part_of(picture, (0, 0, width, height), larger)
            view = crops.random_crop(crops.resize(pixels, larger, box), size, rng)
        case SimpleRandomCrop(padding):
            covering = crops.cover(whole(picture), size, 1.0, preprocess.interpolation)
            view = crops.pad_crop(covering, padding, rng, size)
        case WholeImage():
            view = eval_transform(whole(picture), preprocess)
    if config.flip and rng.random() < 0.5:
        view = crops.flip(view)
    if config.three_augment:
        view = crops.three_augment(view, rng)
    if config.jitter:
        jitter = config.jitter
        view = crops.colour_jitter(view, (jitter.brightness, jitter.contrast, jitter.saturation), rng)
    if config.randaugment:
        view = rand_augment(view, config.randaugment, rng, preprocess.mean)
    if config.erasing:
        view = erase(view, config.erasing, rng)
    return view


SHARE = 0.875  # 224 of 256


class Squared(Source):
    """Pixels [H, W, 3] of one `size`: both sides resized, the aspect not kept."""

    def __init__(self, source: Source, size: tuple[int, int]):
        self.source, self.size = source, size
        self.classes, self.labels, self.several = source.classes, source.labels, source.several
        self.skipped = source.skipped

    def valid_labels(self, key: str) -> tuple[int, ...]:
        """All labels that are right for the image of that name."""
        return self.source.valid_labels(key)

    def __getitem__(self, index: int) -> Example:
        example = self.source[index]
        try:
            pixels = crops.resize(to_pixels(example.image), self.size)
        except BrokenImage as problem:
            problem.key = example.key
            raise
        return Example(pixels, example.label, example.key)

    def add_images_to(self, digest: Any) -> None:
        """The source, and the size."""
        add_to(digest, self.source.content_hash(), list(self.size))


class View(NamedTuple):
    """Sources as they are to be looked at, and by which evaluation view."""

    sources: tuple[Source, ...]
    preprocess: Preprocess


def official_few_shot_view(sources: tuple[Source, ...], preprocess: Preprocess) -> View:
    """big_vision's few-shot evaluator: both sides to 256, bilinear, then the middle 224 (or as much of another size).

    A model's own view keeps the aspect, or has no border that is cut off.
    """
    size = (round(preprocess.resolution[0] / SHARE), round(preprocess.resolution[1] / SHARE))
    squared = tuple(Squared(source, size) for source in sources)
    return View(squared, replace(preprocess, resize=CentreCrop(SHARE)))
