"""VTAB's 19 tasks (arXiv 1910.04867): their splits, their slices of 800 and 200 examples, and how to provide them.

The slices are the first 800 examples of the training split and the first 200 of the validation split, in the order in
which a set lies here; where that is class by class, shuffled first, always the same way. VTAB takes the first in the
order of TensorFlow Datasets, which the published files do not tell: sizes and splits are the same, the draws are not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from vitrail.core.errors import BadInput, unknown
from vitrail.data.sources.base import Source
from vitrail.data.sources.subset import ConcatSource, slice_of

Group = Literal["Natural", "Specialized", "Structured"]
GROUPS: tuple[Group, ...] = ("Natural", "Specialized", "Structured")
SPLITS = ("train", "train800", "train800val200", "val200", "validation", "test")
FEW_TRAIN, FEW_VALIDATION = 800, 200

Part = tuple[str, str, str]  # a split of the base and the ends of a slice of it, empty for all


@dataclass(frozen=True)
class VtabTask:
    """A task: a set that has a name of its own (`base`) cut into splits, or a folder that the user provides."""

    name: str
    group: Group
    about: str
    classes: int
    sizes: tuple[int, int, int]  # images to train on, to validate on, to test on
    base: str = ""  # the named set that it is cut from; empty: a folder called as the task
    train: Part = ("train", "", "")
    validation: Part = ("validation", "", "")
    test: Part = ("test", "", "")
    answer: str = ""  # what a class is, where the user makes the folders
    published: str = ""  # the folder of its files as the authors publish them, where these are read
    flip: bool = True  # whether images may be mirrored while training (BiT's supplement F)
    crop: bool = True  # whether they may be cut

    @property
    def place(self) -> str:
        """The folder in VITRAIL_DATA."""
        return self.base or f"vtab-{self.name}"

    @property
    def layout(self) -> str:
        """How a user provides the data."""
        if self.base:
            splits = "|".join(dict.fromkeys(part[0] for part in (self.train, self.validation, self.test)))
            return f"{self.base}/{splits}/CLASS/FILE, or shards of each split ({self.classes} classes)"
        count = f"{self.classes} classes: {self.answer}" if self.answer else f"{self.classes} classes"
        files = f"{self.published} as published, or " if self.published else ""
        return f"{files}{self.place}/train|validation|test/CLASS/FILE, or shards of each split ({count})"


_NINE, _TENTH = ("train", "", "90%"), ("train", "90%", "")  # where there is no validation split
_SIX, _TWO, _LAST = ("train", "", "60%"), ("train", "60%", "80%"), ("train", "80%", "")  # where there is one split

# fmt: off
TASKS: tuple[VtabTask, ...] = (
    VtabTask("caltech101", "Natural", "photographs, with background", 102, (2_754, 306, 6_084),
             "caltech101", _NINE, _TENTH),
    VtabTask("cifar100", "Natural", "photographs", 100, (45_000, 5_000, 10_000), "cifar100", _NINE, _TENTH),
    VtabTask("dtd", "Natural", "textures", 47, (1_880, 1_880, 1_880), "dtd"),
    VtabTask("flowers", "Natural", "flowers", 102, (1_020, 1_020, 6_149), "flowers"),
    VtabTask("pets", "Natural", "cats and dogs", 37, (2_944, 736, 3_669),
             "pets", ("train", "", "80%"), ("train", "80%", "")),
    VtabTask("sun397", "Natural", "scenes", 397, (76_128, 10_875, 21_750), "sun397"),
    VtabTask("svhn", "Natural", "house numbers", 10, (65_931, 7_326, 26_032), "svhn", _NINE, _TENTH),
    VtabTask("camelyon", "Specialized", "tissue", 2, (262_144, 32_768, 32_768),
             answer="whether the middle 32 pixels hold tumour tissue (PatchCamelyon)"),
    VtabTask("eurosat", "Specialized", "satellite images", 10, (16_200, 5_400, 5_400), "eurosat", _SIX, _TWO, _LAST),
    VtabTask("resisc45", "Specialized", "satellite images", 45, (18_900, 6_300, 6_300),
             "resisc45", _SIX, _TWO, _LAST),
    VtabTask("retinopathy", "Specialized", "retinas", 5, (35_126, 10_906, 42_670),
             answer="the grade 0 to 4 (Kaggle 2015), images cut to a radius of 300 pixels"),
    VtabTask("clevr-count", "Structured", "rendered objects", 8, (63_000, 7_000, 15_000),
             answer="the number of objects, 3 to 10; the official validation images are the test",
             published="clevr/CLEVR_v1.0", crop=False),
    VtabTask("clevr-distance", "Structured", "rendered objects", 6, (63_000, 7_000, 15_000),
             answer="the depth of the nearest object, cut at 8, 8.5, 9, 9.5 and 10",
             published="clevr/CLEVR_v1.0", crop=False),
    VtabTask("dmlab", "Structured", "a maze", 6, (65_550, 22_628, 22_735),
             answer="close, far or very far from an object of positive or negative reward", crop=False),
    VtabTask("dsprites-location", "Structured", "drawn shapes", 16, (589_824, 73_728, 73_728),
             answer="the horizontal place, 32 of them in 16 bins", flip=False, crop=False),
    VtabTask("dsprites-orientation", "Structured", "drawn shapes", 16, (589_824, 73_728, 73_728),
             answer="the orientation, 40 of them in 16 bins", flip=False),
    VtabTask("kitti-distance", "Structured", "streets", 4, (6_347, 423, 711),
             answer="the depth of the nearest car, van or truck: below 8 m, below 20, beyond, none", crop=False),
    VtabTask("smallnorb-azimuth", "Structured", "toys", 18, (24_300, 12_150, 12_150),
             answer="the azimuth; the first half of the official test images is for validation", flip=False),
    VtabTask("smallnorb-elevation", "Structured", "toys", 9, (24_300, 12_150, 12_150),
             answer="the elevation; the first half of the official test images is for validation"),
)
# fmt: on


def open_task(task: VtabTask, open_split: Callable[[str], Source], split: str) -> Source:
    """A split of a task, given what opens a split of its base or folder.

    Raises:
        BadInput: no such split, no data, or fewer than 800 or 200 images.
    """

    def part(of: Part) -> Source:
        name, start, stop = of
        source = open_split(name)
        return slice_of(source, start, stop) if start or stop else source

    def few(of: Part, count: int) -> Source:
        source = part(of)
        if len(source) < count:
            raise BadInput(
                f"vtab-{task.name} has {len(source):,} images in {of[0]}[{of[1]}:{of[2]}], fewer than the {count} that "
                f"VTAB-1k takes; the whole set has {task.sizes[0]:,} to train on"
            )
        return slice_of(source, "", str(count))

    match split:
        case "train":
            return part(task.train)
        case "validation":
            return part(task.validation)
        case "test":
            return part(task.test)
        case "train800":
            return few(task.train, FEW_TRAIN)
        case "val200":
            return few(task.validation, FEW_VALIDATION)
        case "train800val200":
            return ConcatSource([few(task.train, FEW_TRAIN), few(task.validation, FEW_VALIDATION)])
    raise unknown(f"split of vtab-{task.name}", split, SPLITS)
