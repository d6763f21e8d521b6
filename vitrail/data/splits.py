"""Which splits a DATA has, for what takes all of them."""

from pathlib import Path

from vitrail.data import remote
from vitrail.data.hub import PREFIX
from vitrail.data.layouts import SPLITS, parquet_splits, shards_by_split
from vitrail.data.manifest import SUFFIXES, Manifest
from vitrail.data.named import NAMED
from vitrail.data.parquet import has_images, read_schema


def parts_of(text: str) -> tuple[str, str | None, str]:
    """`photos@train[:90%]` as ("photos", "train", "[:90%]"); the split is None and the slice empty where not named."""
    name, _, rest = text.rpartition("@") if "@" in text else (text, "", "")
    if "/" in rest or (rest and Path(text).exists() and not Path(name).exists()):  # the sign is part of a path
        return text, None, ""
    split, bracket, places = rest.partition("[")
    return name, split or None, bracket + places


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
    if remote.is_remote(name) or any(c in name for c in "*?{"):
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
