"""How data are named everywhere: `SOURCE[@SPLIT[SLICE]]`, as in `cifar10`, `photos@train[:90%]`, `shards/*.parquet`."""

import re
from pathlib import Path

from vitrail.core import object_store
from vitrail.core.errors import BadInput, nearest
from vitrail.core.object_store import is_remote
from vitrail.data.catalog.catalog import NAMED
from vitrail.data.open.filtered import read_filtered
from vitrail.data.sources.base import Source
from vitrail.data.sources.huggingface import PREFIX, open_hub
from vitrail.data.sources.layouts import open_place, parquet_splits, shards_by_split
from vitrail.data.sources.manifest import SUFFIXES, Manifest
from vitrail.data.sources.parquet import has_images, read_schema
from vitrail.data.sources.split_names import ROLES, SPLITS, Role, choose, parts_of
from vitrail.data.sources.subset import slice_of

__all__ = ["ROLES", "Role", "open_data", "require_classes", "splits_of"]

_SPLIT = re.compile(r"^(?P<split>[A-Za-z][\w-]*)?(\[(?P<start>(-?\d+%?)?):(?P<stop>(-?\d+%?)?)\])?$")


def open_data(text: str, role: Role = "train") -> Source:
    """The source that `text` names; where it names no split, the one for `role`.

    SOURCE is the name of a data set, a folder of images (`class/file`, or `train|val|test/class/file`), a manifest
    (`.csv`, `.tsv`, `.parquet`), a folder, file or pattern of parquet, tar or Arrow shards
    (`shards-{000000..000009}.tar`), any of these in an object store (`s3://bucket/photos`), `hf://owner/name`, or a
    filtered view of any of these (`kept.json`, which `vitrail data duplicates` writes).

    Raises:
        BadInput: nothing there, no such split, nothing in it, or a slice that does not parse.
    """
    name, split, places = parts_of(text)
    rest = (split or "") + places
    match = _SPLIT.match(rest)
    if match is None:
        raise BadInput(f"{text!r}: cannot read {rest!r}; expected SOURCE@SPLIT[START:STOP], as in cifar10@train[:90%]")
    source = _open_split(name, match["split"], role)
    if match["start"] is None:
        return source
    return slice_of(source, match["start"], match["stop"])


def require_classes(source: Source, text: str) -> None:
    """Refuses data that nothing can be learned from: fewer than two classes."""
    if len(source.classes) < 2:
        only = f" ({source.classes[0]!r})" if source.classes else ""
        raise BadInput(f"{text} has one class{only}; a classifier needs at least two folders of images")


def _open_split(name: str, split: str | None, role: Role) -> Source:
    if name in NAMED:
        return NAMED[name].open(split or choose(name, NAMED[name].splits, role))
    if name.startswith(PREFIX):
        return open_hub(name, split, role)
    if is_remote(name) or any(c in name for c in "*?{"):
        return open_place(name, split, role)
    if name.endswith(".json") and Path(name).is_file():
        return _open_view(Path(name), split)
    if not name or not Path(name).exists():
        hint = nearest(name, NAMED) if "/" not in name else ""
        raise BadInput(f"no such data: {name!r} is neither a folder nor a named data set{hint}")
    return open_place(name, split, role)


def _open_view(file: Path, split: str | None) -> Source:
    if split is not None:
        raise BadInput(f"{file} is a view of one source and has no splits; leave out @{split}")
    view = read_filtered(file)
    return view.of(open_data(view.data, "train"))


def splits_of(text: str) -> tuple[str, ...]:
    """The splits that data have, the one for training first; none where they have none or `text` names one already.

    What cannot be opened has none: opening it says why.
    """
    name, split, _ = parts_of(text)
    found = () if split else _splits(name)
    return tuple(sorted(found, key=lambda s: (s != "train", s)))


def _splits(name: str) -> tuple[str, ...]:
    if name in NAMED:
        return NAMED[name].splits
    if name.startswith(PREFIX):
        return _of_hub(name)
    path = Path(name)
    if object_store.is_remote(name) or any(c in name for c in "*?{"):
        return ()  # one source, by its role
    if path.is_file():
        suffix = path.suffix.lower()
        manifest = suffix in SUFFIXES or (suffix == ".parquet" and not has_images(read_schema(name)))
        return tuple(Manifest(name).splits) if manifest else ()
    if not path.is_dir():
        return ()
    shards = parquet_splits(path) or shards_by_split(path)
    if shards:
        return () if "" in shards else tuple(shards)
    return tuple(p.name for p in path.iterdir() if p.is_dir() and p.name in SPLITS)


def _of_hub(address: str) -> tuple[str, ...]:
    try:
        import datasets

        owner, name, *config = address.removeprefix(PREFIX).split("/")
        return tuple(str(split) for split in datasets.get_dataset_split_names(f"{owner}/{name}", *config))
    except Exception:  # no library, no network, no such data set
        return ()
