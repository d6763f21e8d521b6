"""Data sets as their authors publish them: which files say what, and the sources that read them as they lie."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np

from vitrail.core.errors import BadInput
from vitrail.core.files import read_json
from vitrail.data.sources.base import ArraySource, FileSource, Source, binary
from vitrail.data.sources.image_folder import FolderSource

Reader = Callable[[Path, str], Source]  # of the unpacked folder and a split


def cifar(folder: Path, split: str, files: Mapping[str, tuple[str, ...]], names: str, labels: int) -> Source:
    """The binary version: a record is `labels` bytes, of which the last is the class, and 3 x 32 x 32 pixels."""
    records = []
    for name in files[split]:
        data = np.fromfile(_file(folder, name), dtype=np.uint8)
        if len(data) % (labels + 3072):
            raise BadInput(f"{folder / name} has {len(data):,} bytes, which is no number of records")
        records.append(data.reshape(-1, labels + 3072))
    rows = np.concatenate(records)
    images = np.ascontiguousarray(rows[:, labels:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    classes = tuple(_file(folder, names).read_text().split())
    return ArraySource(images, rows[:, labels - 1], classes, [f"{split}-{i}" for i in range(len(rows))])


def cifar10(folder: Path, split: str) -> Source:
    """`cifar-10-batches-bin/`."""
    train = tuple(f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6))
    files = {"train": train, "test": ("cifar-10-batches-bin/test_batch.bin",)}
    return cifar(folder, split, files, "cifar-10-batches-bin/batches.meta.txt", labels=1)


def cifar100(folder: Path, split: str) -> Source:
    """`cifar-100-binary/`: the coarse label, then the fine one."""
    files = {"train": ("cifar-100-binary/train.bin",), "test": ("cifar-100-binary/test.bin",)}
    return cifar(folder, split, files, "cifar-100-binary/fine_label_names.txt", labels=2)


def tiny_imagenet(folder: Path, split: str) -> Source:
    """`tiny-imagenet-200/`: training images by class, validation images by a list. Classes are WordNet's numbers."""
    root = folder / "tiny-imagenet-200"
    classes = tuple(sorted(_file(root, "wnids.txt").read_text().split()))
    if split == "train":
        return FolderSource(root / "train", classes)
    rows = [line.split("\t")[:2] for line in _file(root, "val/val_annotations.txt").read_text().splitlines()]
    return _listed(root / "val/images", rows, classes)


def pets(folder: Path, split: str) -> Source:
    """`images/`, `annotations/trainval.txt` and `test.txt`: a name, its class from 1 to 37, and two more numbers."""
    lists = {"train": "annotations/trainval.txt", "test": "annotations/test.txt"}
    every = [line.split()[:2] for name in lists.values() for line in _file(folder, name).read_text().splitlines()]
    names = {number: stem.rpartition("_")[0] for stem, number in every}
    classes = tuple(names[number] for number in sorted(names, key=int))
    rows = [line.split()[:2] for line in _file(folder, lists[split]).read_text().splitlines()]
    return _listed(folder / "images", [[f"{stem}.jpg", names[number]] for stem, number in rows], classes)


def flowers(folder: Path, split: str) -> Source:
    """`jpg/`, and MATLAB files of labels from 1 to 102 and of the images of each split, from 1 to 8,189."""
    from scipy.io import loadmat

    labels = loadmat(_file(folder, "imagelabels.mat"))["labels"].ravel().astype(np.int64) - 1
    ids = {"train": "trnid", "validation": "valid", "test": "tstid"}
    numbers = loadmat(_file(folder, "setid.mat"))[ids[split]].ravel().astype(np.int64)
    names = [f"image_{number:05d}.jpg".encode() for number in numbers]
    classes = tuple(f"flower-{i:03d}" for i in range(1, 103))  # their names are not in the files
    return FileSource(str(folder / "jpg"), binary(names), labels[numbers - 1], classes)


def textures(folder: Path, split: str) -> Source:
    """`dtd/images/class/file`, and the first of ten official splits, which VTAB takes."""
    lists = {"train": "train1.txt", "validation": "val1.txt", "test": "test1.txt"}
    root = folder / "dtd"
    names = _file(root, f"labels/{lists[split]}").read_text().split()
    classes = tuple(sorted(p.name for p in (root / "images").iterdir() if p.is_dir()))
    return _listed(root / "images", [[name, name.split("/")[0]] for name in names], classes)


def svhn(folder: Path, split: str) -> Source:
    """MATLAB files with `X` [32, 32, 3, N] and `y`, in which 10 stands for the digit 0."""
    from scipy.io import loadmat

    found = loadmat(_file(folder, f"{split}_32x32.mat"))
    images = np.ascontiguousarray(found["X"].transpose(3, 0, 1, 2))
    labels = found["y"].ravel().astype(np.int64) % 10
    return ArraySource(images, labels, tuple("0123456789"), [f"{split}-{i}" for i in range(len(labels))])


def eurosat(folder: Path, split: str) -> Source:
    """`2750/class/file`: there is one split; VTAB takes 60, 20 and 20 % of it, as `@train[:60%]`."""
    return FolderSource(folder / "2750")


def clevr(folder: Path, split: str, answer: str) -> Source:
    """`CLEVR_v1.0/images` and `scenes`, as VTAB asks: how many objects there are, or how far the nearest is.

    The official validation images are the test, the last tenth of the training images the validation.
    """
    part = "val" if split == "test" else "train"
    root = folder / "CLEVR_v1.0"
    scenes = read_json(_file(root, f"scenes/CLEVR_{part}_scenes.json"))["scenes"]
    if answer == "count":
        classes = tuple(f"{n} objects" for n in range(3, 11))
        labels = np.array([len(scene["objects"]) - 3 for scene in scenes])
    else:
        ends = np.array([0, 8, 8.5, 9, 9.5, 10, 100])
        classes = tuple(f"from {low:g} to {high:g}" for low, high in pairwise(ends))
        nearest = np.array([min(thing["pixel_coords"][2] for thing in scene["objects"]) for scene in scenes])
        labels = np.searchsorted(ends, nearest) - 1  # the last end that is below
    names = [scene["image_filename"].encode() for scene in scenes]
    cut = len(names) if part == "val" else round(0.9 * len(names))
    chosen = slice(cut, None) if split == "validation" else slice(cut)
    return FileSource(str(root / "images" / part), binary(names[chosen]), labels[chosen], classes)


def _listed(root: Path, rows: list[list[str]], classes: tuple[str, ...]) -> Source:
    place = {name: label for label, name in enumerate(classes)}
    return FileSource(
        str(root), binary([row[0].encode() for row in rows]), np.array([place[row[1]] for row in rows]), classes
    )


def _file(folder: Path, name: str) -> Path:
    if not (folder / name).exists():
        raise BadInput(f"{folder} lacks {name}; remove the folder to fetch it again, or complete it")
    return folder / name
