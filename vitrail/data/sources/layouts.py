"""What lies in a folder, a pattern or an object store, and the source that reads it."""

import glob
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vitrail.core import object_store
from vitrail.core.errors import BadInput, nearest, unknown
from vitrail.data.decode import image
from vitrail.data.sources.arrow import ArrowSource, refuse_missing
from vitrail.data.sources.base import FileSource, Source, binary
from vitrail.data.sources.image_folder import FolderSource, classes_in
from vitrail.data.sources.manifest import SUFFIXES, Manifest
from vitrail.data.sources.parquet import ParquetSource, has_images, read_schema
from vitrail.data.sources.split_names import SPLITS, VALIDATION, Role, choose
from vitrail.data.sources.webdataset import TarSource

# What holds many images, by the ending of its name.
SHARDS: dict[str, Callable[[list[str]], Source]] = {".parquet": ParquetSource, ".arrow": ArrowSource, ".tar": TarSource}
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST = 1_000_000  # files that braces may stand for


def open_place(name: str, split: str | None, role: Role) -> Source:
    """The source that a path, an address or a pattern names.

    Raises:
        BadInput: nothing there, no such split, several kinds of files, or nothing in it.
    """
    if any(c in name for c in "*?{"):
        return _open_pattern(name, split, role)
    if object_store.is_remote(name):
        return _open_file(name, split, role) if object_store.is_file(name) else _open_remote(name, split, role)
    path = Path(name)
    return _open_file(name, split, role) if path.is_file() else open_folder(path, split, role)


def _open_pattern(pattern: str, split: str | None, role: Role) -> Source:
    files: list[str] = []
    for part in expand(pattern):
        if not any(c in part for c in "*?"):
            found = [part] if object_store.is_remote(part) or Path(part).exists() else []
            if not found and part != pattern:
                raise BadInput(f"{part} does not exist, which {pattern!r} names")
        elif object_store.is_remote(part):
            found = object_store.matching(part)
        else:
            found = sorted(glob.glob(part, recursive=True))  # noqa: PTH207 - absolute patterns too
        files += found
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
    if split is not None:
        raise BadInput(f"{pattern!r} is a pattern and has no splits; leave out @{split}")
    return SHARDS[Path(files[0]).suffix](files)


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


def _open_file(name: str, split: str | None, role: Role) -> Source:
    suffix = Path(name).suffix.lower()
    if suffix in SUFFIXES or (suffix == ".parquet" and not has_images(read_schema(name))):
        manifest = Manifest(name)
        if manifest.splits:
            return manifest.open(_known(name, split, role, manifest.splits))
        source: Source = manifest.open()
    elif suffix in SHARDS:
        source = SHARDS[suffix]([name])
    else:
        kinds = ", ".join([*SUFFIXES, *SHARDS])
        raise BadInput(f"{name} is a file; expected a folder of images, or a file that ends in {kinds}")
    if split is not None:
        raise BadInput(f"{name} has no splits (no column of that name); leave out @{split}")
    return source


def open_folder(path: Path, split: str | None, role: Role) -> Source:
    """The source in a folder: parquet, Arrow or tar shards, or images by class; each of them by split or not."""
    names = sorted(path.iterdir())
    if not names:
        raise BadInput(f"{path} is empty; expected one folder of images for each class")
    parquets = parquet_splits(path)
    if parquets:
        return ParquetSource([str(f) for f in parquets[_known(str(path), split, role, tuple(parquets))]])
    by_split = shards_by_split(path)
    if by_split:
        if "" in by_split:
            _refuse_split(path, split)
            return _open_shards(str(path), by_split[""])
        chosen = _known(str(path), split, role, tuple(by_split))
        return _open_shards(f"{path}/{chosen}", by_split[chosen])
    splits = tuple(p.name for p in names if p.is_dir() and p.name in SPLITS)
    if splits:
        chosen = _known(str(path), split, role, splits)
        train = path / "train"
        # the training split says which classes there are and in which order
        classes = classes_in(train) if chosen != "train" and train.is_dir() else None
        return FolderSource(path / chosen, classes)
    _refuse_split(path, split)
    return FolderSource(path)


def _refuse_split(path: Path | str, split: str | None) -> None:
    if split is not None:
        raise BadInput(f"{path} has no splits (no folder named train, test or validation); leave out @{split}")


def _known(name: str, split: str | None, role: Role, splits: tuple[str, ...]) -> str:
    chosen = split or choose(name, splits, role)
    if chosen in splits:
        return chosen
    for other in VALIDATION if chosen in VALIDATION else ():
        if other in splits:
            return other
    raise unknown(f"split of {name}", chosen, splits)


def _open_shards(name: str, files: list[str]) -> Source:
    kinds = {Path(file).suffix for file in files}
    if len(kinds) > 1:
        raise BadInput(f"{name} holds both {' and '.join(sorted(kinds))} files; name one kind, as in '{name}/*.tar'")
    (suffix,) = kinds
    if suffix == ".arrow":
        refuse_missing(name, files)
    return SHARDS[suffix](files)


def parquet_splits(folder: Path) -> dict[str, list[Path]]:
    """The parquet files of a folder (or of `data/` in it) by split: `train-00000-of-00004.parquet` is of `train`."""
    splits: dict[str, list[Path]] = {}
    for file in sorted([*folder.glob("*.parquet"), *folder.glob("data/*.parquet")]):
        splits.setdefault(file.stem.split("-")[0], []).append(file)
    return splits


def shards_by_split(path: Path) -> dict[str, list[str]]:
    """The Arrow and tar files of a folder by split: of sub-folders, or of names that begin with one; "" is no split."""
    found = sorted(str(f) for f in path.iterdir() if f.suffix in (".arrow", ".tar") and f.is_file())
    if found:
        return _by_beginning(found)
    inside = {p.name: p for p in sorted(path.iterdir()) if p.is_dir() and not p.name.startswith(".")}
    by_split = {
        name: sorted(str(f) for f in p.iterdir() if f.suffix in (".arrow", ".tar") and f.is_file())
        for name, p in inside.items()
        if name in SPLITS or (p / "prepared.json").exists() or (p / "classes.json").exists()
    }
    return {name: files for name, files in by_split.items() if files}


def _by_beginning(files: list[str]) -> dict[str, list[str]]:
    splits: dict[str, list[str]] = {}
    for file in files:
        splits.setdefault(re.split(r"[-_.\d]", Path(file).name)[0], []).append(file)
    return splits if splits.keys() <= SPLITS else {"": files}


def _open_remote(address: str, split: str | None, role: Role) -> Source:
    """A folder of an object store: shards of one kind or images by class, at the top or in one folder a split."""
    address = address.rstrip("/")
    names = object_store.below(address)
    if not names:
        raise BadInput(f"{address} holds no files")
    for suffix, source in SHARDS.items():
        shards = [name for name in names if name.endswith(suffix)]
        if not shards:
            continue
        by_split: dict[str, list[str]] = {}
        for name in shards:
            folder, _, base = name.rpartition("/")
            key = re.split(r"[-_.\d]", base)[0] if folder in ("", "data") else folder
            by_split.setdefault(key, []).append(f"{address}/{name}")
        if not by_split.keys() <= SPLITS:
            _refuse_split(address, split)
            return source([f"{address}/{name}" for name in shards])
        return source(by_split[_known(address, split, role, tuple(by_split))])
    images = [name for name in names if Path(name).suffix.lower() in image.SUFFIXES and "/" in name]
    tops = {name.split("/")[0] for name in images}
    if tops & SPLITS:
        chosen = _known(address, split, role, tuple(sorted(tops & SPLITS)))
        classes = _folders(images, "train/") if chosen != "train" and "train" in tops else None
        return _remote_images(address, f"{chosen}/", images, classes)
    _refuse_split(address, split)
    return _remote_images(address, "", images, None)


def _folders(images: list[str], start: str) -> tuple[str, ...]:
    inside = (name.removeprefix(start) for name in images if name.startswith(start))
    return tuple(sorted({name.split("/")[0] for name in inside if "/" in name}))


def _remote_images(address: str, start: str, images: list[str], classes: tuple[str, ...] | None) -> Source:
    place = {name: label for label, name in enumerate(classes or _folders(images, start))}
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
