"""How data are named everywhere: `SOURCE[@SPLIT[SLICE]]`, as in `cifar10`, `photos@train[:90%]`, `shards/*.parquet`."""

import glob
import re
from pathlib import Path
from typing import Literal

from vitrail.core.errors import BadInput, nearest, unknown
from vitrail.data.named import NAMED, parquet_splits
from vitrail.data.sources import FolderSource, ParquetSource, Source
from vitrail.data.subsets import slice_of

Role = Literal["train", "test"]

# The splits that serve a role when none is named, the best first.
ROLES: dict[Role, tuple[str, ...]] = {"train": ("train",), "test": ("test", "validation", "val", "valid")}

_SPLIT = re.compile(r"^(?P<split>[A-Za-z][\w-]*)?(\[(?P<start>(-?\d+%?)?):(?P<stop>(-?\d+%?)?)\])?$")


def open_data(text: str, role: Role = "train") -> Source:
    """The source that `text` names; where it names no split, the one for `role`.

    Raises:
        BadInput: nothing there, no such split, nothing in it, or a slice that does not parse.
    """
    name, _, rest = text.rpartition("@") if "@" in text else (text, "", "")
    match = _SPLIT.match(rest)
    if match is None:
        raise BadInput(f"{text!r}: cannot read {rest!r}; expected SOURCE@SPLIT[START:STOP], as in cifar10@train[:90%]")
    source = _open_split(name, match["split"], role)
    if match["start"] is None:
        return source
    return slice_of(source, match["start"], match["stop"])


def splits_of(text: str) -> tuple[str, ...]:
    """The splits that a source has, training first; none where it has none, or where `text` names one already.

    Raises:
        BadInput: nothing there.
    """
    name, _, rest = text.rpartition("@") if "@" in text else (text, "", "")
    if rest and not rest.startswith("["):
        return ()
    if name in NAMED:
        return NAMED[name].splits
    path = Path(name)
    if not path.is_dir():
        return ()
    known = [split for names in ROLES.values() for split in names]
    found = parquet_splits(path) or [p.name for p in path.iterdir() if p.is_dir() and p.name in known]
    return tuple(sorted(found, key=lambda split: (known.index(split) if split in known else len(known), split)))


def require_classes(source: Source, text: str) -> None:
    """Refuses data that nothing can be learned from: fewer than two classes."""
    if len(source.classes) < 2:
        only = f" ({source.classes[0]!r})" if source.classes else ""
        raise BadInput(f"{text} has one class{only}; a classifier needs at least two folders of images")


def _open_split(name: str, split: str | None, role: Role) -> Source:
    if name in NAMED:
        return NAMED[name].open(split or _choose(name, NAMED[name].splits, role))
    if any(c in name for c in "*?"):
        return _open_glob(name, split)
    path = Path(name)
    if not name or not path.exists():
        hint = nearest(name, NAMED) if "/" not in name else ""
        raise BadInput(f"no such data: {name!r} is neither a folder nor a named data set{hint}")
    if path.is_file():
        if path.suffix == ".parquet":
            return ParquetSource([path])
        raise BadInput(f"{name} is a file; expected a folder of images, a folder of parquet files, or a .parquet file")
    return _open_folder(path, split, role)


def _open_glob(name: str, split: str | None) -> Source:
    files = sorted(Path(f) for f in glob.glob(name, recursive=True))  # noqa: PTH207 - absolute patterns too
    if not files:
        raise BadInput(f"no file matches {name!r}")
    others = [f for f in files if f.suffix != ".parquet"]
    if others:
        raise BadInput(f"{name!r} matches {others[0]}; a pattern must match parquet files only")
    if split is not None:
        raise BadInput(f"{name!r} is a pattern and has no splits; leave out @{split}")
    return ParquetSource(files)


def _open_folder(path: Path, split: str | None, role: Role) -> Source:
    if not any(path.iterdir()):
        raise BadInput(f"{path} is empty; expected one folder of images for each class")
    parquets = parquet_splits(path)
    if parquets:
        chosen = split or _choose(str(path), tuple(parquets), role)
        if chosen not in parquets:
            raise unknown(f"split of {path}", chosen, parquets)
        return ParquetSource(parquets[chosen])
    known = {s for names in ROLES.values() for s in names}
    splits = tuple(sorted(p.name for p in path.iterdir() if p.is_dir() and p.name in known))
    if splits:
        chosen = split or _choose(str(path), splits, role)
        if chosen not in splits:
            raise unknown(f"split of {path}", chosen, splits)
        train = path / "train"
        # the training split says which classes there are and in which order
        classes = FolderSource(train).classes if chosen != "train" and train.is_dir() else None
        if classes is not None:
            _refuse_unknown_folders(path / chosen, classes)
        return FolderSource(path / chosen, classes)
    if split is not None:
        raise BadInput(f"{path} has no splits (no folder named train, test or validation); leave out @{split}")
    return FolderSource(path)


def _refuse_unknown_folders(folder: Path, classes: tuple[str, ...]) -> None:
    extra = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name not in classes)
    if extra:
        raise BadInput(f"{folder} has the class {extra[0]!r}, which train lacks{nearest(extra[0], classes)}")


def _choose(name: str, splits: tuple[str, ...], role: Role) -> str:
    for split in ROLES[role]:
        if split in splits:
            return split
    raise BadInput(f"{name} has no split for {role}; it has {', '.join(splits)}: name one, as in {name}@{splits[0]}")
