"""A folder as it is at one moment, while others write to it: hard links of its files, in another folder."""

import os
import shutil
from pathlib import Path

from vitrail.core.files import link_or_copy, make_folder
from vitrail.core.temporary import remove

TRIES = 100


def files_of(folder: Path) -> dict[str, int]:
    """The names of all files below, without hidden ones, and the inode of each."""
    found = {}
    for path, folders, names in os.walk(folder):
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        for name in sorted(names):
            file = Path(path, name)
            if not name.startswith(".") and file.is_file():
                found[file.relative_to(folder).as_posix()] = file.stat().st_ino
    return found


def take_snapshot(folder: Path, place: Path) -> None:
    """Makes `place` hold the files that `folder` has at one moment.

    Files are taken to be replaced whole, by others of their name; where that happens meanwhile all is done again. Those
    that grow (metrics.jsonl, TensorBoard's files) are as long as they were at some time of it; so all that is not
    weights, and small, is copied.

    Raises:
        OSError: the folder does not keep still, or the disk fails.
    """
    for _ in range(TRIES):
        remove(place)
        make_folder(place)
        try:
            before = files_of(folder)
            for name in before:
                _take(folder / name, place / name)
            if files_of(folder) == before:
                return
        except FileNotFoundError:  # replaced or removed meanwhile
            continue
    raise OSError(f"{folder} changes all the time")


def _take(file: Path, to: Path) -> None:
    make_folder(to.parent)
    if file.suffix == ".safetensors":
        link_or_copy(file, to)
    else:
        shutil.copyfile(file, to)
