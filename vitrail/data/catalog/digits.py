"""scikit-learn's 1,797 real handwritten digits: as they are, thrown onto a canvas, placed in its quarters."""

from functools import lru_cache

import numpy as np
from PIL import Image

from vitrail.core.errors import unknown
from vitrail.core.seeds import Keyed, generator
from vitrail.data.sources.base import ArraySource, Example, Source

NAMES = tuple(str(d) for d in range(10))
UNSEEN = (7, 8, 9)  # what `scattered-digits` keeps away from pre-training

# How `scattered-digits` throws a digit: canvas and the range of sizes in pixels, placements of a training digit.
CANVAS = 24
SIZES = (10, 20)
PLACEMENTS = 24


@lru_cache(maxsize=1)
def _halves() -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The digits 8x8 in 0…255 with labels and numbers, split 3 : 1 class by class, always the same way."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    rng = generator(0, "digits")
    test = np.zeros(len(images), dtype=bool)
    for label in range(10):
        members = rng.permutation(np.flatnonzero(digits.target == label))
        test[members[: len(members) // 4]] = True
    parts = {"train": np.flatnonzero(~test), "test": np.flatnonzero(test)}
    return {name: (images[part], digits.target[part], part) for name, part in parts.items()}


def digits(split: str) -> Source:
    """The digits at 8x8 pixels: `train` (1,352) or `test` (445)."""
    if split not in _halves():
        raise unknown("split of digits", split, _halves())
    images, labels, numbers = _halves()[split]
    rgb = np.repeat(images[..., None], 3, axis=-1)
    return ArraySource(rgb, labels, NAMES, [f"digit-{n}" for n in numbers])


class ScatteredDigits(Source):
    """Each digit at a random place and size on a black canvas; drawn when asked for, the same for the same index.

    `images` uint8 [N, 8, 8], `labels` and `numbers` [N]; example i is placement i // N of digit i % N.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, numbers: np.ndarray, placements: int):
        self.images, self.numbers = images, numbers
        self._random = Keyed(0, "scatter")
        present = np.unique(labels)
        self.classes = tuple(NAMES[label] for label in present)
        self.labels = np.tile(np.searchsorted(present, labels), placements).astype(np.int64)

    def __getitem__(self, index: int) -> Example:
        placement, which = divmod(int(index), len(self.images))
        number = int(self.numbers[which])
        rng = self._random.at(number, placement)
        size = int(rng.integers(SIZES[0], SIZES[1] + 1))
        top, left = int(rng.integers(CANVAS - size + 1)), int(rng.integers(CANVAS - size + 1))
        canvas = np.zeros((CANVAS, CANVAS), dtype=np.uint8)
        digit = Image.fromarray(self.images[which]).resize((size, size), Image.Resampling.BILINEAR)
        canvas[top : top + size, left : left + size] = np.asarray(digit)
        pixels = np.broadcast_to(canvas[..., None], (CANVAS, CANVAS, 3))
        return Example(pixels, int(self.labels[index]), f"digit-{number}-placement-{placement}")


def scattered_digits(split: str) -> Source:
    """`train` and `test`, and each of them for the digits 0 to 6 (`seen-`) and 7 to 9 (`unseen-`) alone.

    Training digits are placed PLACEMENTS times, a test digit once: the places of one digit are not independent, and
    an accuracy over several of them would have too narrow an interval.
    """
    placements = PLACEMENTS if split.endswith("train") else 1
    return ScatteredDigits(*_part("scattered-digits", split), placements)


def _part(name: str, split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, labels and numbers of `train`, `seen-test`, ...; raises BadInput for a split that there is not."""
    names = [f"{kind}{part}" for kind in ("", "seen-", "unseen-") for part in _halves()]
    if split not in names:
        raise unknown(f"split of {name}", split, names)
    images, labels, numbers = _halves()[split.removeprefix("unseen-").removeprefix("seen-")]
    keep = np.ones(len(labels), dtype=bool)
    if split.startswith("unseen-"):
        keep = np.isin(labels, UNSEEN)
    elif split.startswith("seen-"):
        keep = ~np.isin(labels, UNSEEN)
    return images[keep], labels[keep], numbers[keep]


# Of `strewn-digits`: placements of a training digit, 1,352 of them, and of one that is held out.
STREWN = {"train": 370, "validation": 16, "test": 16}


def strewn_digits(split: str) -> Source:
    """All ten digits scattered as often as makes half a million images; those held out are of other digits.

    `train` (500,240) of the training digits of `digits`, `validation` (3,568) and `test` (3,552) of every other test
    digit. Several images show one digit, so an interval of one accuracy is too narrow, by up to 4 times: compare
    runs by their seeds.
    """
    if split not in STREWN:
        raise unknown("split of strewn-digits", split, STREWN)
    images, labels, numbers = _halves()["train" if split == "train" else "test"]
    part = {"train": slice(None), "validation": slice(0, None, 2), "test": slice(1, None, 2)}[split]
    return ScatteredDigits(images[part], labels[part], numbers[part], STREWN[split])


PLACES = ("top left", "top right", "bottom left", "bottom right")


class PlacedDigits(Source):
    """Each digit in one quarter of a black canvas of 16 pixels; the class is the digit and the quarter.

    A bag of patches cannot tell the four classes of a digit apart: what is above a quarter of right answers needs
    positions. `images` uint8 [N, 8, 8], `labels` and `numbers` [N], `places` [N] of PLACES.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, numbers: np.ndarray, places: np.ndarray):
        self.images, self.numbers, self.places = images, numbers, places
        present = np.unique(labels)
        self.classes = tuple(f"{NAMES[label]} {place}" for label in present for place in PLACES)
        self.labels = (len(PLACES) * np.searchsorted(present, labels) + places).astype(np.int64)

    def __getitem__(self, index: int) -> Example:
        place, side = int(self.places[index]), self.images.shape[1]
        canvas = np.zeros((2 * side, 2 * side), dtype=np.uint8)
        top, left = side * (place // 2), side * (place % 2)
        canvas[top : top + side, left : left + side] = self.images[index]
        pixels = np.broadcast_to(canvas[..., None], (*canvas.shape, 3))
        return Example(
            pixels, int(self.labels[index]), f"digit-{self.numbers[index]}-{PLACES[place].replace(' ', '-')}"
        )


def placed_digits(split: str) -> Source:
    """The splits of `scattered-digits`. A training digit is placed in all quarters, a test digit in one."""
    images, labels, numbers = _part("placed-digits", split)
    if not split.endswith("train"):
        return PlacedDigits(images, labels, numbers, np.arange(len(labels)) % len(PLACES))
    places = np.repeat(np.arange(len(PLACES)), len(labels))
    again = np.tile(np.arange(len(labels)), len(PLACES))
    return PlacedDigits(images[again], labels[again], numbers[again], places)
