"""The two views of an image: the training view, which is random, and the evaluation view, which is not."""

from dataclasses import dataclass

import numpy as np

from vitrail.data import augment
from vitrail.data.augment import Interpolation
from vitrail.data.image import Pixels


@dataclass(frozen=True)
class SquareResize:
    """Both sides to the resolution, whatever the aspect: the test view of the official fine-tuning."""


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
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)  # of pixels in [0, 1]: the official range is [-1, 1]
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    interpolation: Interpolation = "bilinear"


@dataclass(frozen=True)
class InceptionCrop:
    """A random box of `area` of the image, resized to the resolution. The paper's: 5 to 100 %."""

    area: tuple[float, float] = (0.05, 1.0)


@dataclass(frozen=True)
class PadCrop:
    """The image at its resolution, shifted by up to `padding` pixels: for small images."""

    padding: int = 4


@dataclass(frozen=True)
class ResizeCrop:
    """The whole image resized to resolution / `share`, then a random crop (BiT's fine-tuning: 384 of 448)."""

    share: float = 0.857


@dataclass(frozen=True)
class WholeImage:
    """The evaluation view, also for training."""


Crop = InceptionCrop | PadCrop | ResizeCrop | WholeImage


@dataclass(frozen=True)
class Augment:
    """What makes training views differ from each other."""

    crop: Crop = InceptionCrop()
    flip: bool = True


def evaluation_view(pixels: Pixels, preprocess: Preprocess) -> Pixels:
    """The image as a model is meant to see it: uint8 [H, W, 3] at the resolution."""
    height, width = size = preprocess.resolution
    match preprocess.resize:
        case SquareResize():
            return augment.resize(pixels, size, interpolation=preprocess.interpolation)
        case CentreCrop(share):
            # the smallest size of the same aspect that covers the resolution / share in both directions
            scale = max(height / share / pixels.shape[0], width / share / pixels.shape[1])
            larger = (max(height, round(pixels.shape[0] * scale)), max(width, round(pixels.shape[1] * scale)))
            return augment.centre_crop(augment.resize(pixels, larger, interpolation=preprocess.interpolation), size)


def training_view(pixels: Pixels, config: Augment, preprocess: Preprocess, rng: np.random.Generator) -> Pixels:
    """One random view: uint8 [H, W, 3] at the resolution; a function of the generator alone."""
    size = preprocess.resolution
    match config.crop:
        case InceptionCrop(area):
            view = augment.inception_crop(pixels, size, area, rng)
        case PadCrop(padding):
            view = augment.pad_crop(evaluation_view(pixels, preprocess), padding, rng)
        case ResizeCrop(share):
            larger = (round(size[0] / share), round(size[1] / share))
            view = augment.random_crop(augment.resize(pixels, larger), size, rng)
        case WholeImage():
            view = evaluation_view(pixels, preprocess)
    if config.flip and rng.random() < 0.5:
        view = augment.flip(view)
    return view
