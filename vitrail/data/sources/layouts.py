"""What lies at a place: a folder, a file, a pattern, an object store; its splits, and the source of each."""

import glob
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from vitrail.core import object_store
from vitrail.core.errors import BadInput, nearest
from vitrail.core.progress import say
from vitrail.data.decode import image
from vitrail.data.sources.arrow import ArrowSource, refuse_missing
from vitrail.data.sources.base import FileSource, Source, binary
from vitrail.data.sources.data_card import configurations
from vitrail.data.sources.image_folder import FolderSource, classes_in, images_below
from vitrail.data.sources.junk import is_junk
from vitrail.data.sources.manifest import METADATA, SUFFIXES, Manifest
from vitrail.data.sources.parquet import ParquetSource, has_images, read_schema
from vitrail.data.sources.skipped import Skipped
from vitrail.data.sources.split_names import Role, choose, meaning, shards_by_split
from vitrail.data.sources.webdataset import TarSource

# What holds many images, by the ending of its name.
SHARDS = (".parquet", ".arrow", ".tar")
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST = 1_000_000  # files that braces may stand for
_PEEKED = 50  # entries of a folder that are looked at to know what it is
_FEW = 20  # folders of classes that are compared
_VISITED = 300  # folders that are looked at in search of shards


@dataclass(frozen=True)
class Layout:
    """What lies at a place: what opens each split, "" where there are none; and every image, without labels."""

    place: str
    parts: Mapping[str, Callable[[], Source]]
    images: Callable[[], Source]
    unsplit: str = "no folder named train, test or validation"  # why there are no splits
    bare: Mapping[str, Callable[[], Source]] = field(default_factory=dict)  # what opens a split without its labels

    def splits(self) -> tuple[str, ...]:
        """The splits, the one for training first; none where there are none."""
        return tuple(sorted((s for s in self.parts if s), key=lambda s: (meaning(s) != "train", s)))

    def open(self, split: str | None, role: Role, labelled: bool = True) -> Source:
        """A split, whatever its spelling; where none is named, the one for a role. Raises BadInput.

        `labelled=False`: labels need not be there.
        """
        parts = self.parts if labelled else {**self.parts, **self.bare}
        if "" not in parts:
            return parts[choose(self.place, self.splits(), role, split)]()
        if split is not None:
            raise BadInput(f"{self.place} has no splits ({self.unsplit}); leave out @{split}")
        return parts[""]() if labelled else self.images()


def detect_path(name: str, split: str | None = None) -> Layout:
    """What a path, a pattern or an address stands for; `split` is the one that is asked for, where one is.

    Raises:
        BadInput: nothing there, several kinds of files, or folders that may be splits or classes.
    """
    path = Path(name)
    if path.is_dir():
        return detect_folder(path, split)
    if path.is_file():
        return _file(name)
    if is_pattern(name):
        return _pattern(name)
    if object_store.is_remote(name):
        return _file(name) if object_store.is_file(name) else _remote(name.rstrip("/"))
    raise BadInput(f"{name} does not exist")


def is_pattern(name: str) -> bool:
    """Whether a name stands for several files; one that exists stands for itself."""
    return any(c in name for c in "*?{") and not Path(name).exists()


# ---- Files and patterns of shards


def _file(name: str) -> Layout:
    suffix = Path(name).suffix.lower()
    if suffix in SUFFIXES or (suffix == ".parquet" and not has_images(read_schema(name))):
        return _manifest(name, name)
    if suffix in SHARDS:
        return _shards(name, {"": [name]}, "a file has none")
    if suffix in (".zip", ".7z", ".rar"):
        raise BadInput(f"{name} is an archive, which allows no random access: unpack it once, and name the folder")
    if name.lower().endswith((".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")):
        raise BadInput(f"{name} is compressed, which allows no random access; unpack it to a .tar once, as with gunzip")
    kinds = ", ".join([*SUFFIXES, *SHARDS])
    raise BadInput(f"{name} is a file; expected a folder of images, or a file that ends in {kinds}")


def _manifest(place: str, file: str) -> Layout:
    manifest = Manifest(file)
    splits: tuple[str | None, ...] = manifest.splits or (None,)
    parts = {split or "": partial(manifest.open, split) for split in splits}
    return Layout(place, parts, partial(_of_role, place, parts), "no column of that name")


def _of_role(place: str, parts: Mapping[str, Callable[[], Source]]) -> Source:
    return parts["" if "" in parts else choose(place, tuple(parts), "test")]()


def _shards(place: str, splits: dict[str, list[str]], unsplit: str = "") -> Layout:
    """`unsplit`: why these files have no splits; empty for a folder, in which no shard may be missing."""
    parts = {
        split: partial(open_shards, f"{place}/{split}" if split else place, files, whole=not unsplit)
        for split, files in splits.items()
    }
    images = {split: partial(part, labelled=False) for split, part in parts.items()}
    unsplit = unsplit or "no split in the names of its files"
    return Layout(place, parts, partial(_of_role, place, images), unsplit, images)


def open_shards(name: str, files: list[str], labelled: bool = True, whole: bool = False) -> Source:
    """The source in files of one kind; raises BadInput for several kinds."""
    kinds = {Path(file).suffix for file in files}
    if len(kinds) > 1:
        raise BadInput(f"{name} holds both {' and '.join(sorted(kinds))} files; name one kind, as in '{name}/*.tar'")
    match kinds.pop():
        case ".arrow":
            if whole:
                refuse_missing(name, files)
            return ArrowSource(files)
        case ".tar":
            return TarSource(files, labelled=labelled)
        case _:
            return ParquetSource(files, labelled=labelled)


def _pattern(pattern: str) -> Layout:
    files = matching(pattern)
    if not files:
        raise BadInput(f"no file matches {pattern!r}")
    kinds = {Path(file).suffix: file for file in reversed(files)}
    for suffix, file in kinds.items():
        if suffix not in SHARDS:
            raise BadInput(f"{pattern!r} matches {file}; a pattern must match {', '.join(SHARDS)} files only")
    if len(kinds) > 1:
        raise BadInput(
            f"{pattern!r} matches several kinds of files, such as {' and '.join(sorted(kinds.values()))}; name one"
        )
    return _shards(pattern, {"": files}, "a pattern has none")


def matching(pattern: str) -> list[str]:
    """The files that a pattern stands for; raises BadInput for one of braces that is missing."""
    files: list[str] = []
    for part in expand(pattern):
        if Path(part).exists() or not any(c in part for c in "*?["):
            found = [part] if object_store.is_remote(part) or Path(part).exists() else []
            if not found and part != pattern:
                raise BadInput(f"{part} does not exist, which {pattern!r} names")
        elif object_store.is_remote(part):
            found = object_store.matching(part)
        else:
            found = sorted(glob.glob(part, recursive=True))  # noqa: PTH207 - absolute patterns too
        files += found
    return files


def expand(pattern: str) -> list[str]:
    """`shard-{000..002}.tar` -> three names; several braces make all combinations."""
    match = _BRACES.search(pattern)
    if match is None:
        if "{" in pattern and not Path(pattern).exists():
            raise BadInput(
                f"{pattern!r}: cannot read the braces; expected two numbers, as in shard-{{000000..000009}}.tar"
            )
        return [pattern]
    first, last = int(match[1]), int(match[2])
    if not first <= last < first + _MOST:
        raise BadInput(f"{pattern!r}: {match[0]} names no files; expected two numbers, the smaller first")
    width = len(match[1]) if match[1].startswith("0") or len(match[1]) == len(match[2]) else 0
    names = [f"{pattern[: match.start()]}{n:0{width}d}{pattern[match.end() :]}" for n in range(first, last + 1)]
    return [name for part in names for name in expand(part)]


# ---- Folders


def detect_folder(path: Path, split: str | None = None) -> Layout:
    """A folder: shards, a table beside images, or images by class; each of them by split or not."""
    if not any(path.iterdir()):
        raise BadInput(f"{path} holds no images: it is empty; expected one folder of images for each class")
    for configs in (configurations(path), _configurations(str(path), _shards_below(path), f"{path}/")):
        if configs:
            return _of_configurations(str(path), configs)
    table = next((path / name for name in METADATA if (path / name).is_file()), None)
    if table is not None:
        return _manifest(str(path), str(table))
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


def unlabelled(root: str, names: Sequence[bytes]) -> FileSource:
    """Files below a folder, without classes."""
    return FileSource(root, binary(list(names)), np.broadcast_to(np.int64(0), len(names)), ())


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


# ---- Folders of shards


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


def _configurations(place: str, names: list[str], start: str) -> dict[str, dict[str, list[str]]]:
    """Shards by configuration and split: `fine/train/0000.parquet`, `data/train-00000-of-00001.parquet`."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name in names:
        folders = [part for part in name.split("/")[:-1] if part != "data"]
        split = folders.pop() if folders and meaning(folders[-1]) else ""
        groups.setdefault(("/".join(folders), split), []).append(start + name)
    configs: dict[str, dict[str, list[str]]] = {}
    for (config, split), files in groups.items():
        configs.setdefault(config, {}).update({split: files} if split else shards_by_split(files))
    unsplit = {config: files[""] for config, files in configs.items() if config and list(files) == [""]}
    if unsplit and len(unsplit) == len(configs) - ("" in configs):  # folders with names of their own are splits
        return {"": {**configs.get("", {}), **unsplit}}
    return configs


def _of_configurations(place: str, configs: dict[str, dict[str, list[str]]]) -> Layout:
    if len(configs) > 1:
        shown = ", ".join(sorted(name or "(none)" for name in configs))
        one = next(name for name in sorted(configs) if name)
        raise BadInput(f"{place} holds the configurations {shown}; name one, as in {place}/{one}")
    ((name, splits),) = configs.items()
    if name:
        say(f"{place}: read is {name}, its only configuration")
    return _shards(place, splits)


# ---- Object stores


def _remote(address: str) -> Layout:
    """A folder of an object store: shards of one kind or images by class, by split or not."""
    names = object_store.below(address)
    if not names:
        raise BadInput(f"{address} holds no files")
    for suffix in SHARDS:
        shards = [name for name in names if name.endswith(suffix)]
        if shards:
            return _of_configurations(address, _configurations(address, shards, f"{address}/"))
    images = [name for name in names if Path(name).suffix.lower() in image.SUFFIXES]
    every = partial(_remote_images, address, images)
    images = [name for name in images if "/" in name]
    splits = sorted({top for name in images if meaning(top := name.split("/")[0])})
    train = next((split for split in splits if meaning(split) == "train"), None)
    parts = {
        split: partial(_remote_classes, address, split + "/", images, f"{train}/" if train and split != train else None)
        for split in splits
    }
    return Layout(address, parts or {"": partial(_remote_classes, address, "", images, None)}, every)


def _remote_images(address: str, images: list[str]) -> Source:
    if not images:
        raise BadInput(f"{address} holds no images")
    return unlabelled(address, [name.encode() for name in images])


def _folders(images: list[str], start: str) -> tuple[str, ...]:
    inside = (name.removeprefix(start) for name in images if name.startswith(start))
    return tuple(sorted({name.split("/")[0] for name in inside if "/" in name}))


def _remote_classes(address: str, start: str, images: list[str], train: str | None) -> Source:
    place = {name: label for label, name in enumerate(_folders(images, train or start))}
    chosen = [n for n in images if n.startswith(start) and "/" in n[len(start) :]]
    chosen.sort(key=lambda name: name.split("/"))
    if not chosen:
        raise BadInput(f"{address}/{start} holds no images in sub-folders; expected one for each class")
    labels = []
    for name in chosen:
        label = name[len(start) :].split("/")[0]
        if label not in place:
            raise BadInput(f"{address} has the class {label!r}, which train lacks{nearest(label, place)}")
        labels.append(place[label])
    return FileSource(address, binary([name.encode() for name in chosen]), np.array(labels), tuple(place))
