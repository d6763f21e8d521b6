"""A filtered view: a JSON file that names DATA and which of its images are left out. The file is DATA too."""

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitrail.core.errors import BadInput
from vitrail.core.files import read_json, write_json
from vitrail.data.catalog.catalog import NAMED
from vitrail.data.sources.base import Source
from vitrail.data.sources.split_names import DataName
from vitrail.data.sources.subset import Subset

FORMAT = 1


@dataclass(frozen=True)
class FilteredData:
    """What the file says."""

    path: Path
    data: str  # as it is named everywhere; where it has several splits and names none, that for training
    count: int  # images of the data
    labels: int  # their checksum
    left_out: np.ndarray  # int64, places in the data

    def of(self, source: Source) -> Subset:
        """The images of `source` that are kept, in its order.

        Raises:
            BadInput: the data are not those that the view was made of.
        """
        if len(source) != self.count or checksum(source) != self.labels:
            raise BadInput(
                f"{self.path} is a view of {self.count:,} images of {self.data}, which has changed since "
                f"(now {len(source):,} images); make the view again"
            )
        kept = np.ones(len(source), bool)
        kept[self.left_out] = False
        if not kept.any():
            raise BadInput(f"{self.path} leaves out all {self.count:,} images of {self.data}")
        return Subset(source, np.flatnonzero(kept))


def write_filtered(path: Path, data: str, source: Source, left_out: np.ndarray) -> None:
    """Writes the view of `source`, named `data`, without the images at the places `left_out`.

    The path of a folder or file is written in full, so that the view can be opened from anywhere.
    """
    content = {
        "format": FORMAT,
        "kind": "view",
        "data": in_full(data),
        "count": len(source),
        "labels": checksum(source),
        "left_out": np.unique(left_out).astype(np.int64).tolist(),
    }
    write_json(path, content)


def read_filtered(path: Path) -> FilteredData:
    """The content of a view's file; raises BadInput where it is none."""
    content = read_json(path)
    if not isinstance(content, dict) or content.get("kind") != "view":
        raise BadInput(
            f"{path} is no filtered view, as `vitrail data duplicates` writes it; tables are read as "
            "JSON lines (.jsonl, an object a line), CSV or parquet"
        )
    if content.get("format") != FORMAT:
        raise BadInput(f"{path} is a view of format {content.get('format')!r}; this vitrail reads {FORMAT}")
    data, count, labels, left_out = (content.get(name) for name in ("data", "count", "labels", "left_out"))
    whole = isinstance(left_out, list) and all(isinstance(place, int) for place in left_out)
    if not (isinstance(data, str) and isinstance(count, int) and isinstance(labels, int) and whole):
        raise BadInput(f"{path}: expected data (text), count and labels (numbers), left_out (a list of places)")
    places = np.array(left_out, dtype=np.int64)
    if len(places) and (places.min() < 0 or places.max() >= count):
        raise BadInput(f"{path} leaves out the images {places.min()} to {places.max()} of {count:,}")
    return FilteredData(path, data, count, labels, places)


def checksum(source: Source) -> int:
    """Of the labels and the class names: other data are noticed without reading an image."""
    names = "\0".join(source.classes).encode()
    return zlib.crc32(np.ascontiguousarray(source.labels, np.int64).tobytes(), zlib.crc32(names))


def in_full(data: str) -> str:
    """A path in DATA made absolute; names and addresses stay."""
    name = DataName.parse(data).place
    if name in NAMED or "://" in name or not (os.sep in name or any(c in name for c in "*?{") or Path(name).exists()):
        return data
    return f"{os.path.abspath(name)}{data[len(name) :]}"  # noqa: PTH100 - a pattern is no path, and links stay
