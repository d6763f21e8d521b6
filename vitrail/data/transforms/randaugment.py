"""RandAugment (arXiv 1909.13719) as two libraries define it: a few operations, drawn at random, at one magnitude.

`big_vision` trained AugReg (section 3.3: layers and magnitude 2 and 0, 10, 15 or 20) and "Better plain ViT baselines"
(2 and 10); `timm` trained DeiT (`rand-m9-mstd0.5-inc1`). The level is the magnitude / 10.
"""

from dataclasses import dataclass
from math import cos, radians, sin
from typing import Literal

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from vitrail.core.errors import BadInput
from vitrail.data.decode.image import Pixels

Colour = tuple[int, int, int]
Matrix = tuple[float, float, float, float, float, float]  # a b c d e f: what lies at x, y was at ax+by+c, dx+ey+f

BIG_VISION = (
    "AutoContrast Equalize Invert Rotate Posterize Solarize Color Contrast Brightness Sharpness ShearX ShearY "
    "TranslateX TranslateY Cutout SolarizeAdd"
).split()
TIMM = [name for name in BIG_VISION if name != "Cutout"]

GREY: Colour = (128, 128, 128)
SIDE = 224  # pixels: what big_vision's lengths are meant for
LEVELS = np.arange(256, dtype=np.uint8)
# 1/13 of a 3 x 3 box that counts its middle five times; Pillow rounds, TensorFlow truncates: hence the offset
SMOOTH = ImageFilter.Kernel((3, 3), (1, 1, 1, 1, 5, 1, 1, 1, 1), scale=13, offset=1 / 26 - 1 / 2)


@dataclass(frozen=True)
class RandAugment:
    """`layers` operations, each drawn from the 16 of big_vision or the 15 of timm, all alike at one magnitude."""

    layers: int = 2
    magnitude: float = 10.0  # big_vision goes on above 10, timm stops there
    kind: Literal["big_vision", "timm"] = "big_vision"
    magnitude_std: float = 0.0  # timm: each magnitude is drawn around the given one; above 100, uniformly from 0 to it
    probability: float = 0.5  # timm: that an operation which was drawn is applied
    increasing: bool = False  # timm's `inc1`: a larger magnitude changes more, for every operation

    def check(self) -> None:
        """Raises BadInput for numbers that mean nothing, or nothing to this kind."""
        if self.layers < 0 or self.magnitude < 0 or self.magnitude_std < 0 or not 0 <= self.probability <= 1:
            raise BadInput(f"layers, magnitude and deviation are at least 0, the probability is a share: {self}")
        if self.kind == "big_vision" and (self.magnitude_std, self.probability, self.increasing) != (0.0, 0.5, False):
            raise BadInput(f"magnitude_std, probability and increasing are timm's, not big_vision's: {self}")


def rand_augment(
    pixels: Pixels,
    config: RandAugment,
    rng: np.random.Generator,
    mean: tuple[float, ...] = (0.5, 0.5, 0.5),
) -> Pixels:
    """RandAugment: uint8 [H, W, 3] -> the same; timm fills what comes into view with `mean`, in [0, 1]."""
    match config.kind:
        case "big_vision":
            for i in rng.integers(len(BIG_VISION), size=config.layers):
                pixels = big_vision_operation(BIG_VISION[i], pixels, config.magnitude / 10, rng)
        case "timm":
            red, green, blue = (min(255, max(0, round(255 * channel))) for channel in (mean * 3)[:3])
            for i in rng.integers(len(TIMM), size=config.layers):
                if rng.random() < config.probability:
                    level = _timm_level(config, rng)
                    pixels = timm_operation(
                        TIMM[i], pixels, level, rng, (red, green, blue), increasing=config.increasing
                    )
    return pixels


def big_vision_operation(name: str, pixels: Pixels, level: float, rng: np.random.Generator) -> Pixels:
    """One operation as the official code of AugReg computes it with TensorFlow: nearest pixels, grey 128 around them.

    Three things there look like mistakes; they are kept, because all published models were trained with them:
    Contrast blends with the grey H·W/256 (196 at 224 pixels) where the mean belongs; Solarize's threshold is 256·level
    in 8 bits, so that level 1 (and 2) is 0 and inverts the image; Posterize keeps the more bits the larger the level.

    An image below 224 pixels is treated as if it had 224: translations and the cut-out square shrink with its sides,
    and Contrast's grey stays. The official lengths, 100 and 40 pixels, would leave nothing of one with 32 pixels.
    """
    height, width = pixels.shape[:2]
    match name:
        case "AutoContrast" | "Equalize" | "Invert":
            return _same_at_all_levels(name, pixels)
        case "Rotate":
            return _nearest(pixels, _turn(height, width, _signed(30 * level, rng)))
        case "Posterize":
            return _posterize(pixels, max(1, int(4 * level)))  # TensorFlow shifts by 7 bits at most
        case "Solarize":
            return _solarize(pixels, int(256 * level) % 256)
        case "SolarizeAdd":
            return _solarize_add(pixels, int(110 * level))
        case "Color" | "Contrast" | "Brightness" | "Sharpness":
            image = Image.fromarray(pixels)
            return np.asarray(Image.blend(_degenerate(name, image), image, 1.8 * level + 0.1))
        case "ShearX":
            return _nearest(pixels, (1.0, _signed(0.3 * level, rng), 0.0, 0.0, 1.0, 0.0))
        case "ShearY":
            return _nearest(pixels, (1.0, 0.0, 0.0, _signed(0.3 * level, rng), 1.0, 0.0))
        case "TranslateX":
            shift = _signed(100 * level, rng) * min(1, width / SIDE)
            return _nearest(pixels, (1.0, 0.0, shift, 0.0, 1.0, 0.0))
        case "TranslateY":
            shift = _signed(100 * level, rng) * min(1, height / SIDE)
            return _nearest(pixels, (1.0, 0.0, 0.0, 0.0, 1.0, shift))
        case "Cutout":
            return _cutout(pixels, int(40 * level), rng)
        case _:
            raise ValueError(f"{name!r} is no operation of big_vision's RandAugment")


def timm_operation(
    name: str, pixels: Pixels, level: float, rng: np.random.Generator, fill: Colour, *, increasing: bool
) -> Pixels:
    """One operation as timm computes it with Pillow, at a level from 0 to 1.

    Rotations, shears and translations (up to 45 % of a side) interpolate, bilinear or bicubic at random. Where the
    magnitude is not `increasing`, a larger one leaves more bits, inverts fewer pixels, and enhances from 0.1 to 1.9.
    """
    match name:
        case "AutoContrast" | "Equalize" | "Invert":
            return _same_at_all_levels(name, pixels)
        case "Rotate":
            angle = _signed(30 * level, rng)
            return np.asarray(Image.fromarray(pixels).rotate(angle, _smooth_filter(rng), fillcolor=fill))
        case "Posterize":
            return _posterize(pixels, 4 - int(4 * level) if increasing else int(4 * level))
        case "Solarize":
            return _solarize(pixels, 256 - int(256 * level) if increasing else int(256 * level))
        case "SolarizeAdd":
            return _solarize_add(pixels, int(110 * level))
        case "Color" | "Contrast" | "Brightness" | "Sharpness":
            factor = 1 + _signed(0.9 * level, rng) if increasing else 1.8 * level + 0.1
            return np.asarray(getattr(ImageEnhance, name)(Image.fromarray(pixels)).enhance(factor))
        case "ShearX":
            return _affine(pixels, (1.0, _signed(0.3 * level, rng), 0.0, 0.0, 1.0, 0.0), fill, _smooth_filter(rng))
        case "ShearY":
            return _affine(pixels, (1.0, 0.0, 0.0, _signed(0.3 * level, rng), 1.0, 0.0), fill, _smooth_filter(rng))
        case "TranslateX":
            shift = _signed(0.45 * level, rng) * pixels.shape[1]
            return _affine(pixels, (1.0, 0.0, shift, 0.0, 1.0, 0.0), fill, _smooth_filter(rng))
        case "TranslateY":
            shift = _signed(0.45 * level, rng) * pixels.shape[0]
            return _affine(pixels, (1.0, 0.0, 0.0, 0.0, 1.0, shift), fill, _smooth_filter(rng))
        case _:
            raise ValueError(f"{name!r} is no operation of timm's RandAugment")


def _timm_level(config: RandAugment, rng: np.random.Generator) -> float:
    """The magnitude / 10 of one operation, from 0 to 1."""
    magnitude = config.magnitude
    if config.magnitude_std > 100:
        magnitude = rng.uniform(0, magnitude)
    elif config.magnitude_std > 0:
        magnitude = rng.normal(magnitude, config.magnitude_std)
    return min(max(magnitude, 0.0), 10.0) / 10


def _signed(number: float, rng: np.random.Generator) -> float:
    return number if rng.random() < 0.5 else -number


def _same_at_all_levels(name: str, pixels: Pixels) -> Pixels:
    match name:
        case "AutoContrast":
            return np.asarray(ImageOps.autocontrast(Image.fromarray(pixels)))
        case "Equalize":
            return np.asarray(ImageOps.equalize(Image.fromarray(pixels)))
        case _:
            return 255 - pixels


def _posterize(pixels: Pixels, bits: int) -> Pixels:
    """Keeps the first bits of every value, none up to all 8."""
    return pixels & np.uint8(256 - 2 ** max(0, 8 - bits))


def _solarize(pixels: Pixels, threshold: int) -> Pixels:
    """Inverts all values from the threshold (0 to 256) on."""
    return np.where(threshold <= LEVELS, 255 - LEVELS, LEVELS).take(pixels)


def _solarize_add(pixels: Pixels, amount: int) -> Pixels:
    """Adds an amount to all values below 128, up to 255."""
    brighter = np.minimum(LEVELS.astype(int) + amount, 255).astype(np.uint8)
    return np.where(LEVELS >= 128, LEVELS, brighter).take(pixels)


def _degenerate(name: str, image: Image.Image) -> Image.Image:
    """What big_vision's enhancing operations start from: degenerate + factor · (image - degenerate), truncated."""
    match name:
        case "Color":
            # TensorFlow's weights, and its 255.5 against truncation
            red, green, blue = (weight * 255.5 / 255 for weight in (0.2989, 0.5870, 0.1140))
            return image.convert("L", matrix=(red, green, blue, -0.5)).convert("RGB")  # Pillow adds 0.5, truncates
        case "Contrast":
            mean = min(255, max(image.height, SIDE) * max(image.width, SIDE) // 256)
            return Image.new("RGB", image.size, (mean, mean, mean))
        case "Brightness":
            return Image.new("RGB", image.size)
        case _:
            return image.filter(SMOOTH)


def _cutout(pixels: Pixels, half: int, rng: np.random.Generator) -> Pixels:
    """Greys a square of twice `half` pixels about a random pixel, as far as it lies inside."""
    height, width = pixels.shape[:2]
    y, x = int(rng.integers(height)), int(rng.integers(width))
    half_y, half_x = (round(half * min(1, side / SIDE)) for side in (height, width))
    cut = pixels.copy()
    cut[max(0, y - half_y) : y + half_y, max(0, x - half_x) : x + half_x] = 128
    return cut


def _turn(height: int, width: int, degrees: float) -> Matrix:
    """A rotation about the middle of an image whose pixels lie at whole numbers."""
    x, y = (width - 1) / 2, (height - 1) / 2
    c, s = cos(radians(degrees)), sin(radians(degrees))
    return c, -s, x - c * x + s * y, s, c, y - s * x - c * y


def _nearest(pixels: Pixels, matrix: Matrix) -> Pixels:
    """An affine map of pixels at whole numbers, as TensorFlow has them, to the nearest pixel; grey around the image."""
    a, b, c, d, e, f = matrix
    up = 1 / 512  # what lies halfway goes up; in Pillow's fixed point it may lie just below
    shifted = (a, b, c + (1 - a - b) / 2 + up, d, e, f + (1 - d - e) / 2 + up)  # Pillow's first pixel lies at 0.5
    return _affine(pixels, shifted, GREY, Image.Resampling.NEAREST)


def _affine(pixels: Pixels, matrix: Matrix, fill: Colour, resampling: Image.Resampling) -> Pixels:
    image = Image.fromarray(pixels)
    return np.asarray(image.transform(image.size, Image.Transform.AFFINE, matrix, resampling, fillcolor=fill))


def _smooth_filter(rng: np.random.Generator) -> Image.Resampling:
    return Image.Resampling.BILINEAR if rng.random() < 0.5 else Image.Resampling.BICUBIC
