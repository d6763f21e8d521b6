"""Tar shards in WebDataset's layout: `KEY.jpg` and `KEY.cls` (or `KEY.json` with a label) beside each other."""

import os
import weakref
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as compute

from vitrail.core.errors import BadInput, Unreachable
from vitrail.core.object_store import local
from vitrail.core.progress import say
from vitrail.data.decode.image import BrokenImage
from vitrail.data.sources.base import Example, Source, add_files_to
from vitrail.data.sources.class_names import class_indices, class_names
from vitrail.data.sources.skipped import Skipped
from vitrail.data.sources.split_names import meaning
from vitrail.data.sources.tar_index import index

OPEN = 64  # shards that a process keeps open


class TarSource(Source):
    """Images in tar files, read where they lie: nothing is ever unpacked. In the order of the files given.

    Labels are numbers, whose names are in a `classes.json` beside the first shard, or names. Members that are no part
    of a sample, or might be an attack, are left out and counted in `skipped`.

    Where it need not be `labelled`, labels are zeros and there are no classes, whatever the files hold.
    """

    def __init__(self, files: list[str], classes: tuple[str, ...] | None = None, labelled: bool = True):
        self.files = files
        try:
            found = [index(local(file, fresh=True)) for file in files]
        except Unreachable:
            raise
        except OSError as problem:
            raise BadInput(f"{files[0]}: {problem.strerror or problem}") from None
        skipped = self.skipped = Skipped()
        for part in found:
            skipped.update(part.skipped)
        counts = [len(part.keys) for part in found]
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        keys, labels = (pa.concat_arrays([getattr(part, name) for part in found]) for name in ("keys", "labels"))
        offsets, sizes = (
            np.concatenate([getattr(part, name).to_numpy() for part in found]) for name in ("offsets", "sizes")
        )
        wanted = compute.is_valid(labels) if labelled else pa.repeat(True, len(labels))
        self._kept = np.flatnonzero(wanted.to_numpy(zero_copy_only=False))
        missing = len(keys) - len(self._kept)
        if missing:
            first = keys[int(np.setdiff1d(np.arange(len(keys)), self._kept)[0])].as_py()
            skipped.add("an image without a label (.cls or .json)", repr(first), missing)
            keys, labels, offsets, sizes = (
                keys.take(self._kept), labels.drop_null(), offsets[self._kept], sizes[self._kept]
            )  # fmt: skip
        if not len(keys):
            why = f": {skipped}" if len(skipped) else ""
            raise BadInput(f"{files[0]} holds no image{' with a label' if labelled else ''}{why}")
        if len(skipped):
            say(f"{_shown(files)}: {len(skipped):,} members are not used: {skipped}")
        _refuse_splits(keys, files)
        self.keys, self._offsets, self._sizes = keys, offsets, sizes
        if labelled:
            self.labels, self.classes = class_indices(labels, classes or _names_beside(files[0]), _shown(files))
        else:
            self.labels, self.classes = np.broadcast_to(np.int64(0), len(keys)), ()
        self._opened: OrderedDict[int, _Descriptor] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": OrderedDict()}

    def _descriptor(self, shard: int) -> int:
        if shard in self._opened:
            self._opened.move_to_end(shard)
        else:
            self._opened[shard] = _Descriptor(local(self.files[shard]))
            if len(self._opened) > OPEN:
                self._opened.popitem(last=False)
        return self._opened[shard].number

    def __getitem__(self, index: int) -> Example:
        shard = int(np.searchsorted(self._starts, self._kept[index], side="right")) - 1
        key = f"{self.files[shard]}:{self.keys[int(index)].as_py()}"
        size = int(self._sizes[index])
        try:
            data = os.pread(self._descriptor(shard), size, int(self._offsets[index]))  # forked workers share no place
        except (OSError, BadInput) as problem:  # BadInput: the store cannot be opened any more
            raise BrokenImage(getattr(problem, "strerror", None) or str(problem), key) from None
        if len(data) < size:
            raise BrokenImage("the tar file was cut off after it had been opened", key)
        return Example(data, int(self.labels[index]), key)

    def add_images_to(self, digest: Any) -> None:
        """Names and stamps of the files."""
        add_files_to(digest, self.files)


def _refuse_splits(keys: pa.LargeStringArray, files: list[str]) -> None:
    """Raises BadInput where the folders of the members are several splits, which would be mixed."""
    tops = compute.unique(compute.list_element(compute.split_pattern(keys, "/", max_splits=1), 0)).to_pylist()
    splits = [top for top in tops if meaning(str(top))] if 1 < len(tops) < 10 else []
    if len({meaning(str(split)) for split in splits}) > 1:
        raise BadInput(f"{_shown(files)} holds the splits {', '.join(sorted(splits))} in one: make a tar file of each")


class _Descriptor:
    """An open file, closed when nobody holds it any more."""

    def __init__(self, file: Path):
        self.number = os.open(file, os.O_RDONLY)
        weakref.finalize(self, os.close, self.number)


def _shown(files: list[str]) -> str:
    return files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"


def _names_beside(file: str) -> tuple[str, ...] | None:
    """The class names in `classes.json` beside the shard, where there is one."""
    name = f"{file.rpartition('/')[0] or '.'}/classes.json"
    try:
        found = local(name, fresh=True)
    except OSError:
        return None
    return class_names(found) if found.exists() else None
