"""`hf://owner/name[/config]`: a data set of the Hugging Face hub, through the `datasets` library."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vitrail.core.errors import BadInput
from vitrail.data.decode.image import BrokenImage, read
from vitrail.data.sources.base import Example, Source
from vitrail.data.sources.label_sets import multi_hot

PREFIX = "hf://"


class HubSource(Source):
    """A split of a data set as `datasets` opens it: one column of images, and one of class labels."""

    def __init__(self, name: str, data: Any):
        from datasets import ClassLabel, Image

        self.name = name
        inner = {column: getattr(feature, "feature", feature) for column, feature in data.features.items()}  # of lists
        kinds = {
            kind: [column for column, feature in inner.items() if isinstance(feature, kind)]
            for kind in (Image, ClassLabel)
        }
        if len(kinds[Image]) < 1 or not kinds[ClassLabel]:
            columns = ", ".join(f"{column} ({type(kind).__name__})" for column, kind in data.features.items())
            raise BadInput(f"{name} has the columns {columns}; expected one of images and one of class labels")
        self.image_column = kinds[Image][0]
        self.label_column = next(
            (c for c in ("label", "labels", "fine_label") if c in kinds[ClassLabel]), kinds[ClassLabel][0]
        )
        self.classes = tuple(str(name) for name in inner[self.label_column].names)
        self.data = data.select_columns([self.image_column]).cast_column(self.image_column, Image(decode=False))
        labels = data.with_format("arrow").select_columns([self.label_column])[:][self.label_column]
        labels = labels.combine_chunks()
        if pa.types.is_list(labels.type) or pa.types.is_large_list(labels.type):
            sets = labels.cast(pa.large_list(pa.int64()))
            self.labels = multi_hot(sets, sets.flatten().to_numpy(), len(self.classes), name)
        else:
            self.labels = labels.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        if not len(self.labels):
            raise BadInput(f"{name} has no rows")
        if not self.multi_label and self.labels.min() < 0:
            raise BadInput(f"{name} has {int((self.labels < 0).sum()):,} rows without a label; choose another split")

    def __getitem__(self, index: int) -> Example:
        stored = self.data[int(index)][self.image_column]
        key = f"{self.name}:{int(index)}" + (f":{stored['path']}" if stored and stored.get("path") else "")
        data = stored.get("bytes") if stored else None
        if data is None and stored and stored.get("path"):  # a data set of files refers to them
            data = read(Path(stored["path"]))
        if not isinstance(data, bytes):
            raise BrokenImage("no image bytes", key)
        return Example(data, self.label(index), key)


def open_hub(address: str, split: str) -> Source:
    """A split of the data set that `hf://owner/name`, or `hf://owner/name/config`, names; kept in the hub's own cache.

    The hub's environment variables hold: HF_HOME, HF_HUB_OFFLINE, HF_ENDPOINT, HF_TOKEN.

    Raises:
        BadInput: `datasets` is missing, no such data set, or no network and nothing in the cache.
    """
    return HubSource(f"{address}@{split}", _asked(address, "load_dataset", split=split))


def hub_splits(address: str) -> tuple[str, ...]:
    """The splits of a data set of the hub; raises BadInput as `open_hub`."""
    return tuple(str(split) for split in _asked(address, "get_dataset_split_names"))


def _asked(address: str, question: str, **options: str) -> Any:
    """What a function of `datasets` says of an address."""
    parts = address.removeprefix(PREFIX).split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise BadInput(f"{address!r} is no data set of the hub: expected hf://owner/name or hf://owner/name/config")
    name, config = "/".join(parts[:2]), parts[2] if len(parts) == 3 else None
    try:
        import datasets
    except ImportError:
        raise BadInput(f"{address} needs the library `datasets`: pip install 'vitrail[hub]'") from None
    try:
        return getattr(datasets, question)(name, config, **options)
    except Exception as problem:  # of `datasets`, the hub, the network or a damaged file
        raise BadInput(
            f"{address} cannot be opened: {type(problem).__name__}: {str(problem).split(chr(10))[0][:300].rstrip('.')}"
            "; without a network only what the hub's cache holds can be read"
        ) from None
