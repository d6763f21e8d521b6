"""Data sets by name: their splits, and where they come from."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vitrail.core.cache import cache_folder
from vitrail.core.errors import BadInput
from vitrail.data.catalog import original_files
from vitrail.data.catalog.digits import digits, placed_digits, scattered_digits, strewn_digits
from vitrail.data.catalog.downloads import Archive, fetch, offline
from vitrail.data.catalog.imagenet_real import open_real
from vitrail.data.catalog.original_files import Reader
from vitrail.data.catalog.vtab import SPLITS as VTAB_SPLITS
from vitrail.data.catalog.vtab import TASKS as VTAB_TASKS
from vitrail.data.catalog.vtab import VtabTask, open_task
from vitrail.data.sources.base import Source
from vitrail.data.sources.folder_layout import detect_folder


@dataclass(frozen=True)
class NamedDataset:
    """A data set with a name."""

    about: str
    splits: tuple[str, ...]
    open: Callable[[str], Source]
    fetched: bool = False  # whether it can be downloaded


@dataclass(frozen=True)
class Downloadable:
    """Where a set is published, and how it is read as it lies there. `marks` are files that only this layout has."""

    archives: tuple[Archive, ...]
    read: Reader
    marks: tuple[str, ...]


def data_root() -> Path | None:
    """The folder with one sub-folder for each named data set: VITRAIL_DATA (the command line's --data-root)."""
    root = os.environ.get("VITRAIL_DATA")
    return Path(root) if root else None


def _open(name: str, published: Downloadable | None, hint: str, split: str) -> Source:
    """From VITRAIL_DATA, in any layout or the official one; otherwise from the official place, kept there."""
    root = data_root()
    here = (root or cache_folder() / "data") / name
    if not here.is_dir() and published is not None and not offline():
        try:
            fetch(published.archives, here)
        except BadInput as problem:
            raise BadInput(f"{_absent(name, split, root)}; {problem}") from None
    if not here.is_dir():
        raise BadInput(f"{_absent(name, split, root)}{hint}")
    if published is not None and all((here / mark).exists() for mark in published.marks):
        return published.read(here, split)
    return detect_folder(here, split).open(split, "train")


def _open_real(split: str) -> Source:
    """ReaL's labels lie beside ImageNet, as `imagenet/real.json`."""
    images = _open("imagenet", None, _BY_HAND, split)
    return open_real(images, (data_root() or cache_folder() / "data") / "imagenet/real.json")


def _absent(name: str, split: str, root: Path | None) -> str:
    if root is None:
        return (
            f"{name} is not on this machine: set VITRAIL_DATA (or --data-root) to a folder that holds "
            f"{name}/{split}-*.parquet, images as {name}/{split}/CLASS/FILE or what `vitrail data prepare` writes, or "
            f"name its folder instead, as in ./{name}@{split}"
        )
    return f"{name} is not on this machine: {root / name} does not exist (VITRAIL_DATA is {root})"


def _named(
    name: str, about: str, splits: tuple[str, ...], published: Downloadable | None = None, hint: str = ""
) -> tuple[str, NamedDataset]:
    return name, NamedDataset(about, splits, partial(_open, name, published, hint), published is not None)


_TORONTO = "https://www.cs.toronto.edu/~kriz/"
_OXFORD = "https://www.robots.ox.ac.uk/~vgg/data/"
_HOUSES = "http://ufldl.stanford.edu/housenumbers/"
_BY_HAND = "; its authors give it only by hand (a registration, a form or a shared drive)"

# MD5 sums are those of the authors' pages, or of the libraries that have read these files for years (torchvision).
CIFAR10 = Downloadable(
    (Archive(_TORONTO + "cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),),
    original_files.cifar10,
    ("cifar-10-batches-bin/batches.meta.txt",),
)
CIFAR100 = Downloadable(
    (Archive(_TORONTO + "cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8"),),
    original_files.cifar100,
    ("cifar-100-binary/fine_label_names.txt",),
)
TINY_IMAGENET = Downloadable(
    (Archive("http://cs231n.stanford.edu/tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de"),),
    original_files.tiny_imagenet,
    ("tiny-imagenet-200/wnids.txt",),
)
PETS = Downloadable(
    (
        Archive(_OXFORD + "pets/data/images.tar.gz", "5c4f3ee8e5d25df40f4fd59a7f44e54c"),
        Archive(_OXFORD + "pets/data/annotations.tar.gz", "95a8c909bbe2e81eed6a22bccdf3f68f"),
    ),
    original_files.pets,
    ("annotations/trainval.txt", "images"),
)
FLOWERS = Downloadable(
    (
        Archive(_OXFORD + "flowers/102/102flowers.tgz", "52808999861908f626f3c1f4e79d11fa"),
        Archive(_OXFORD + "flowers/102/imagelabels.mat", "e0620be6f572b9609742df49c70aed4d"),
        Archive(_OXFORD + "flowers/102/setid.mat", "a5357ecc9cb78c4bef273ce3793fc85c"),
    ),
    original_files.flowers,
    ("setid.mat", "imagelabels.mat", "jpg"),
)
TEXTURES = Downloadable(
    (Archive(_OXFORD + "dtd/download/dtd-r1.0.1.tar.gz", "fff73e5086ae6bdbea199a49dfb8a4c1"),),
    original_files.textures,
    ("dtd/labels/train1.txt",),
)
SVHN = Downloadable(
    (
        Archive(_HOUSES + "train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373"),
        Archive(_HOUSES + "test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3"),
    ),
    original_files.svhn,
    ("train_32x32.mat",),
)
EUROSAT = Downloadable(
    (Archive("https://madm.dfki.de/files/sentinel/EuroSAT.zip", "c8fa014336c82ac7804f0398fcb19387"),),
    original_files.eurosat,
    ("2750",),
)

# fmt: off
NAMED: dict[str, NamedDataset] = {
    "digits": NamedDataset("1,797 handwritten digits, 8 px, 10 classes (with scikit-learn)", ("train", "test"), digits),
    "scattered-digits": NamedDataset(
        "the same digits at a random place and size on 24 px; seen- (0 to 6) and unseen- (7 to 9) splits",
        ("train", "test", "seen-train", "seen-test", "unseen-train", "unseen-test"),
        scattered_digits,
    ),
    "strewn-digits": NamedDataset(
        "half a million images of the digits at random places and sizes on 24 px; held-out ones of other digits",
        ("train", "validation", "test"),
        strewn_digits,
    ),
    "placed-digits": NamedDataset(
        "the same digits in a quarter of 16 px, the class is digit and quarter; splits as scattered-digits",
        ("train", "test", "seen-train", "seen-test", "unseen-train", "unseen-test"),
        placed_digits,
    ),
    **dict((
        _named("cifar10", "60,000 photographs, 32 px, 10 classes", ("train", "test"), CIFAR10),
        _named("cifar100", "60,000 photographs, 32 px, 100 classes", ("train", "test"), CIFAR100),
        _named("tiny-imagenet", "110,000 photographs, 64 px, 200 classes", ("train", "validation"), TINY_IMAGENET),
        _named("pets", "7,349 photographs of cats and dogs, 37 breeds", ("train", "test"), PETS),
        _named("flowers", "8,189 photographs, 102 flowers", ("train", "validation", "test"), FLOWERS),
        _named("imagenet", "1,331,167 photographs, 1,000 classes", ("train", "validation"), None, _BY_HAND),
        ("imagenet-real", NamedDataset(
            "46,837 of ImageNet's validation images with all their right labels (imagenet/real.json)",
            ("validation",), _open_real,
        )),
        # of VTAB, what are plain images
        _named("caltech101", "9,144 photographs, 102 classes", ("train", "test"), None, _BY_HAND),
        _named("dtd", "5,640 textures, 47 classes", ("train", "validation", "test"), TEXTURES),
        _named("svhn", "99,289 house numbers, 32 px, 10 classes", ("train", "test"), SVHN),
        _named("sun397", "108,753 photographs, 397 scenes", ("train", "validation", "test"), None, _BY_HAND),
        _named("eurosat", "27,000 satellite images, 64 px, 10 classes", ("train",), EUROSAT),
        _named("resisc45", "31,500 satellite images, 256 px, 45 classes", ("train",), None, _BY_HAND),
    )),
}
# fmt: on


def _open_vtab(task: VtabTask, split: str) -> Source:
    """A split of a task that is no part of another set: as published where that is read, or in a folder of its own."""
    root = data_root() or cache_folder() / "data"
    if task.published and (root / task.published / "scenes").is_dir():
        return original_files.clevr(root / "clevr", split, task.name.removeprefix("clevr-"))
    return _open(task.place, None, f"; it is {task.layout}", split)


def _vtab(task: VtabTask) -> NamedDataset:
    base = NAMED[task.base].open if task.base else partial(_open_vtab, task)
    about = f"VTAB-1k, {task.group}: {task.about}, {task.classes} classes"
    return NamedDataset(
        about, VTAB_SPLITS, partial(open_task, task, base), bool(task.base) and NAMED[task.base].fetched
    )


NAMED |= {f"vtab-{task.name}": _vtab(task) for task in VTAB_TASKS}
VTAB = tuple(f"vtab-{task.name}" for task in VTAB_TASKS)


def register_data(
    name: str, function: Callable[[str], Source], splits: tuple[str, ...] = ("train", "test"), about: str = ""
) -> None:
    """Gives data of one's own a name, for DATA (`name@train[:90%]`) in the processes that have registered it.

    Args:
        function: returns the source of a split.
        splits: that there are.
        about: a line for people.

    Raises:
        BadInput: the name is taken, or cannot be told from a path, a split or a pattern; or there are no splits.
    """
    if name in NAMED:
        raise BadInput(f"the data {name!r} exist already; register them by another name")
    if not re.fullmatch(r"[\w-]+", name):
        raise BadInput(f"the name {name!r} of data may have letters, digits, - and _")
    if not splits:
        raise BadInput(f"the data {name!r} need a split, such as 'train'")

    def opened(split: str) -> Source:
        source = function(split)
        if not isinstance(source, Source):
            raise BadInput(f"the data {name!r} were registered with a function that returns {source!r}, not a Source")
        return source

    NAMED[name] = NamedDataset(about, splits, opened)


def place_of(name: str) -> Path:
    """The folder in which a named set lies, or will lie; of a task of VTAB that of the set that it is cut from."""
    task = next((task for task in VTAB_TASKS if f"vtab-{task.name}" == name), None)
    folder = {"imagenet-real": "imagenet"}.get(name, name) if task is None else task.place
    return (data_root() or cache_folder() / "data") / folder


def to_be_fetched(name: str) -> bool:
    """Whether opening a set of that name begins with a download."""
    return name in NAMED and NAMED[name].fetched and not offline() and not place_of(name).is_dir()
