"""Data sets by name: their splits, and where they come from."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vitrail.core.errors import BadInput, unknown
from vitrail.data.digits import digits, scattered_digits
from vitrail.data.sources import ParquetSource, Source


@dataclass(frozen=True)
class Named:
    """A data set with a name."""

    about: str
    splits: tuple[str, ...]
    open: Callable[[str], Source]


def data_root() -> Path | None:
    """The folder with one sub-folder for each named data set: VITRAIL_DATA (the command line's --data-root)."""
    root = os.environ.get("VITRAIL_DATA")
    return Path(root) if root else None


def _parquet(name: str) -> Callable[[str], Source]:
    def opened(split: str) -> Source:
        root = data_root()
        if root is None:
            raise BadInput(
                f"{name} is not on this machine: set VITRAIL_DATA (or --data-root) to a folder that holds "
                f"{name}/{split}-*.parquet, or name its folder instead, as in ./{name}@{split}"
            )
        files = parquet_splits(root / name)
        if not files:
            raise BadInput(f"{root / name} holds no parquet files; VITRAIL_DATA is {root}")
        if split not in files:
            raise unknown(f"split of {root / name}", split, files)
        return ParquetSource(files[split])

    return opened


def parquet_splits(folder: Path) -> dict[str, list[Path]]:
    """The parquet files of a folder (or of `data/` in it) by split: `train-00000-of-00004.parquet` is of `train`."""
    splits: dict[str, list[Path]] = {}
    for file in sorted([*folder.glob("*.parquet"), *folder.glob("data/*.parquet")]):
        splits.setdefault(file.stem.split("-")[0], []).append(file)
    return splits


NAMED = {
    "digits": Named("1,797 real handwritten digits, 8 px, 10 classes (with scikit-learn)", ("train", "test"), digits),
    "scattered-digits": Named(
        "the same digits at a random place and size on 24 px; seen- (0 to 6) and unseen- (7 to 9) splits",
        ("train", "test", "seen-train", "seen-test", "unseen-train", "unseen-test"),
        scattered_digits,
    ),
    "cifar10": Named("60,000 photographs, 32 px, 10 classes", ("train", "test"), _parquet("cifar10")),
    "cifar100": Named("60,000 photographs, 32 px, 100 classes", ("train", "test"), _parquet("cifar100")),
    "tiny-imagenet": Named(
        "110,000 photographs, 64 px, 200 classes", ("train", "validation"), _parquet("tiny-imagenet")
    ),
}
