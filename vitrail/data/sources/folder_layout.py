"""What lies in a folder: shards, a table beside images, or images by class; each of them by split or not."""

import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path

from vitrail.core.errors import BadInput
from vitrail.core.progress import say
from vitrail.data.decode import image
from vitrail.data.sources.base import Source
from vitrail.data.sources.data_card import configurations
from vitrail.data.sources.image_folder import FolderSource, classes_in, images_below
from vitrail.data.sources.junk import is_junk
from vitrail.data.sources.layout import SHARDS, Layout, by_configuration, of_configurations, of_manifest, unlabelled
from vitrail.data.sources.manifest import METADATA, Manifest
from vitrail.data.sources.skipped import Skipped
from vitrail.data.sources.split_names import meaning

_PEEKED = 50  # entries of a folder that are looked at to know what it is


_FEW = 20  # folders of classes that are compared


_VISITED = 300  # folders that are looked at in search of shards


def detect_folder(path: Path, split: str | None = None) -> Layout:
    """A folder: shards, a table beside images, or images by class; each of them by split or not."""
    if not any(path.iterdir()):
        raise BadInput(f"{path} holds no images: it is empty; expected one folder of images for each class")
    for configs in (configurations(path), by_configuration(_shards_below(path), f"{path}/")):
        if configs:
            return of_configurations(str(path), configs)
    table = next((path / name for name in METADATA if (path / name).is_file()), None)
    if table is not None:
        return of_manifest(str(path), str(table))
    splits = _split_folders(path, split)
    inner = _only_folder(path)
    if not splits and inner != path:
        say(f"{path}: read is {inner}, the only folder in it")
        return detect_folder(inner, split)
    train = next((path / folder for name, folder in splits.items() if meaning(name) == "train"), None)
    parts: dict[str, Callable[[], Source]] = {
        name: partial(_open_images, path / folder, None if meaning(name) == "train" else train)
        for name, folder in splits.items()
    }
    bare = {name: partial(_every_image, path / folder) for name, folder in splits.items()}
    parts = parts or {"": partial(_open_images, path, None)}
    return Layout(str(path), parts, partial(_every_image, path), bare=bare)


def _open_images(path: Path, train: Path | None) -> Source:
    """Images by class, or with a table beside them; the folder of the training split says which classes there are."""
    table = next((name for name in METADATA if (path / name).is_file()), None)
    if table is None:
        path = _only_folder(path)
        _compare_levels(path)
        return FolderSource(path, classes_in(_only_folder(train)) if train else None)
    classes = Manifest(str(train / table)).classes() if train and (train / table).is_file() else None
    return Manifest(str(path / table)).open(classes=classes)


def _only_folder(path: Path) -> Path:
    """The folder in which the classes lie: what unpacks to `animals/animals/cat/1.jpg` has folders around them.

    A folder that holds one folder alone, in which there are folders of images and no images.
    """
    while True:
        folders = _shown_folders(path)
        if len(folders) != 1 or _peek(path) or _peek(folders[0]) or not any(map(_peek, _below(folders[0]))):
            return path
        path = folders[0]


def _below(path: Path) -> list[Path]:
    """The folders in a folder, and in those."""
    first = _folders_in(path)
    return first + [inner for folder in first[:_FEW] for inner in _folders_in(folder)]


def _compare_levels(path: Path) -> None:
    """Where every class holds the same folders, the other level may be the classes.

    Raises:
        BadInput: these folders are called like splits, as in `cat/train/1.jpg`: their images would be mixed.
    """
    folders = _shown_folders(path)[:_FEW]
    inside = [{p.name for p in _shown_folders(folder)} for folder in folders]
    if (
        len(folders) < 2
        or len(inside[0]) < 2
        or any(names != inside[0] for names in inside)
        or any(map(_peek, folders))
    ):
        return
    names, shown = sorted(inside[0]), f"{path} has the same folders {', '.join(sorted(inside[0])[:3])} in each of its"
    if len({meaning(name) for name in names if meaning(name)}) > 1:
        raise BadInput(
            f"{shown} classes ({', '.join(f.name for f in folders[:3])}), which are called like splits: make it "
            f"{names[0]}/{folders[0].name}, or a table with a column split"
        )
    say(
        f"{shown} folders; the classes are {', '.join(f.name for f in folders[:3])}; if it is the other way round, "
        f"name {folders[0]}"
    )


def _shown_folders(path: Path) -> list[Path]:
    return [p for p in sorted(path.iterdir()) if p.is_dir() and not is_junk(os.fsencode(p.name))]


def _every_image(path: Path) -> Source:
    skipped = Skipped()
    names = images_below(os.fsencode(path), b"", [], skipped)
    if not names:
        why = f": {skipped}" if len(skipped) else f" (looked for {', '.join(sorted(image.SUFFIXES))})"
        raise BadInput(f"{path} holds no images{why}")
    if len(skipped):
        say(f"{path}: {len(skipped):,} files and links are not used: {skipped}")
    return unlabelled(str(path), names)


def _split_folders(path: Path, split: str | None) -> dict[str, str]:
    """The sub-folders that are splits, by the names of the splits; none where all are classes.

    A folder `train` in which images lie is a class where others are beside it. One in which there are folders may be
    either: it is a split where one for testing is beside it, or where it is asked for.
    """
    folders = _shown_folders(path)
    splits = [p.name for p in folders if meaning(p.name)]
    if not splits and (begun := _splits_with_a_beginning([p.name for p in folders if not _peek(p)])):
        left = [p.name for p in folders if p.name not in begun.values()]
        say(
            f"{path}: read are the splits {', '.join(begun.values())}"
            + (f"; left out are the folders {', '.join(left)}" if left else "")
        )
        return begun
    others = [p.name for p in folders if not meaning(p.name)]
    others = (
        [name for name in others if _peek(path / name) or any(map(_peek, _folders_in(path / name)))] if splits else []
    )
    if not others:
        return {name: name for name in splits}
    nested = [name for name in splits if not _peek(path / name)]
    if not nested:
        return {}
    if split in nested or len({meaning(name) for name in nested}) > 1:
        left = [name for name in (*others, *splits) if name not in nested]
        say(f"{path}: read are the splits {', '.join(nested)}; left out are the folders {', '.join(left)}")
        return {name: name for name in nested}
    raise BadInput(
        f"{path} has the folder {nested[0]}, which may be a split or a class, beside {', '.join(others[:3])}: name "
        f"{path}@{nested[0]} for the images in it, or give the class another name"
    )


def _splits_with_a_beginning(names: list[str]) -> dict[str, str]:
    """`seg_train`, `seg_test` as train and test: several words for splits, one for training, after one beginning."""
    groups: dict[str, dict[str, str]] = {}
    for name in names:
        start, _, word = name.rpartition("_" if "_" in name else "-")
        if start and (kind := meaning(word)):
            groups.setdefault(start, {})[kind] = name
    found = [group for group in groups.values() if len(group) > 1 and "train" in group]
    return found[0] if len(found) == 1 else {}


def _folders_in(path: Path) -> list[Path]:
    return [p for p in islice(sorted(path.iterdir()), _PEEKED) if p.is_dir()]


def _peek(path: Path) -> bool:
    """Whether images lie in the folder itself, by its first entries."""
    return any(
        p.is_file() and not is_junk(os.fsencode(p.name)) and _is_image(p) for p in islice(path.iterdir(), _PEEKED)
    )


def _is_image(path: Path) -> bool:
    if path.suffix.lower() in image.SUFFIXES:
        return True
    with suppress(OSError), open(path, "rb", buffering=0) as file:
        return bool(image.kind_of(file.read(image.HEAD)))
    return False


def _shards_below(path: Path) -> list[str]:
    """The shards in a folder, relative to it: at the top and in `data`, or else in folders below."""
    top = _shards_in(path) + [
        f"data/{name}" for name in (_shards_in(path / "data") if (path / "data").is_dir() else [])
    ]
    if top:
        return top
    found: list[str] = []
    waiting, visited = [path], 0
    while waiting and visited < _VISITED:
        folder = waiting.pop(0)
        visited += 1
        shards = _shards_in(folder)
        found += [f"{folder.relative_to(path)}/{name}" for name in shards]
        if not shards and len(folder.relative_to(path).parts) < 3 and not (folder != path and _peek(folder)):
            waiting += [p for p in _folders_in(folder) if not p.name.startswith(".")]
    return found


def _shards_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.suffix in SHARDS and p.is_file() and not p.name.startswith("."))
