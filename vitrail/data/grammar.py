"""How data are named everywhere: `SOURCE[@SPLIT[SLICE]]`, as in `cifar10`, `photos@train[:90%]`, `shards/*.parquet`."""

import re
from pathlib import Path

from vitrail.core.errors import BadInput, nearest
from vitrail.data.hub import PREFIX, open_hub
from vitrail.data.layouts import ROLES, Role, choose, open_place
from vitrail.data.named import NAMED
from vitrail.data.remote import is_remote
from vitrail.data.sources import Source
from vitrail.data.splits import parts_of, splits_of
from vitrail.data.subsets import slice_of
from vitrail.data.view import read_view

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
    view = read_view(file)
    return view.of(open_data(view.data, "train"))
