"""A layout: the splits of what lies at a place, and what opens each; of shards and of tables."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from vitrail.core.errors import BadInput
from vitrail.core.progress import say
from vitrail.data.sources.arrow import ArrowSource, refuse_missing
from vitrail.data.sources.base import FileSource, Source, binary
from vitrail.data.sources.manifest import Manifest
from vitrail.data.sources.parquet import ParquetSource
from vitrail.data.sources.split_names import Role, choose, meaning, shards_by_split
from vitrail.data.sources.webdataset import TarSource

# What holds many images, by the ending of its name.
SHARDS = (".parquet", ".arrow", ".tar")


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


def of_manifest(place: str, file: str) -> Layout:
    manifest = Manifest(file)
    splits: tuple[str | None, ...] = manifest.splits or (None,)
    parts = {split or "": partial(manifest.open, split) for split in splits}
    return Layout(place, parts, partial(_of_role, place, parts), "no column of that name")


def _of_role(place: str, parts: Mapping[str, Callable[[], Source]]) -> Source:
    return parts["" if "" in parts else choose(place, tuple(parts), "test")]()


def of_shards(place: str, splits: dict[str, list[str]], unsplit: str = "") -> Layout:
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


def unlabelled(root: str, names: Sequence[bytes]) -> FileSource:
    """Files below a folder, without classes."""
    return FileSource(root, binary(list(names)), np.broadcast_to(np.int64(0), len(names)), ())


def by_configuration(names: list[str], start: str) -> dict[str, dict[str, list[str]]]:
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


def of_configurations(place: str, configs: dict[str, dict[str, list[str]]]) -> Layout:
    if len(configs) > 1:
        shown = ", ".join(sorted(name or "(none)" for name in configs))
        one = next(name for name in sorted(configs) if name)
        raise BadInput(f"{place} holds the configurations {shown}; name one, as in {place}/{one}")
    ((name, splits),) = configs.items()
    if name:
        say(f"{place}: read is {name}, its only configuration")
    return of_shards(place, splits)
