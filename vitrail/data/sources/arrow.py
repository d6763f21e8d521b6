"""Prepared folders: Arrow IPC files with the columns `image`, `label` and `key`, mapped into memory."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vitrail.core.errors import BadInput, Unreachable
from vitrail.core.files import read_json
from vitrail.core.object_store import is_remote, local
from vitrail.data.decode.image import BrokenImage
from vitrail.data.sources.base import Example, Source, add_files_to

COLUMNS = {"image": pa.large_binary(), "label": pa.int32(), "key": pa.string()}
_OF = re.compile(r"-of-(\d+)\.arrow$")


class ArrowSource(Source):
    """What `vitrail data prepare` writes, in the order of the shards. An image is read when it is asked for."""

    def __init__(self, files: list[str]):
        self.files = files
        _refuse_other_sizes(files)
        labels, sizes, classes = [], [], None
        self._opened: dict[int, pa.ipc.RecordBatchFileReader] = {}
        for shard, file in enumerate(files):
            opened = _open(file, fresh=True)
            names = _classes(opened.schema, file)
            if classes is not None and names != classes:
                raise BadInput(f"{file} has other classes than {files[0]}")
            classes = names
            self._opened[shard] = opened
            for number in range(opened.num_record_batches):
                try:
                    column = opened.get_batch(number).column("label")
                    column.validate(full=True)
                except (pa.ArrowException, OSError) as problem:
                    raise BadInput(f"{file} is damaged: batch {number}: {problem}") from None
                labels.append(column.fill_null(-1).to_numpy(zero_copy_only=False))
                sizes.append((shard, number, len(column)))
        self.classes = classes or ()
        self.labels = np.concatenate(labels).astype(np.int64) if labels else np.array([], dtype=np.int64)
        if not len(self.labels):
            raise BadInput(f"{files[0]} holds no image")
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= len(self.classes):
            raise BadInput(f"{files[0]} holds the labels {low} to {high}, but names {len(self.classes)} classes")
        self._starts = np.concatenate([[0], np.cumsum([n for _, _, n in sizes])[:-1]])
        self._places = [(shard, number) for shard, number, _ in sizes]
        self._batches: dict[int, tuple[pa.Array, pa.Array]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": {}, "_batches": {}}

    def _batch(self, which: int) -> tuple[pa.Array, pa.Array]:
        """The images and keys of a record batch: views of the file."""
        if which not in self._batches:
            shard, number = self._places[which]
            if shard not in self._opened:
                self._opened[shard] = _open(self.files[shard])
            batch = self._opened[shard].get_batch(number)
            batch.validate(full=True)  # a damaged offset would read outside of the file
            self._batches[which] = batch.column("image"), batch.column("key")
        return self._batches[which]

    def __getitem__(self, index: int) -> Example:
        index = int(index)
        which = int(np.searchsorted(self._starts, index, side="right")) - 1
        row = index - int(self._starts[which])
        try:
            images, keys = self._batch(which)
        except (pa.ArrowException, OSError, BadInput) as problem:
            name = f"{self.files[self._places[which][0]]}:{index}"
            raise BrokenImage(f"unreadable: {str(problem).split(chr(10))[0]}", name) from None
        data, key = images[row].as_py(), keys[row].as_py() or f"{self.files[self._places[which][0]]}:{index}"
        if data is None:
            raise BrokenImage("no image bytes", key)
        return Example(data, int(self.labels[index]), key)

    def add_images_to(self, digest: Any) -> None:
        """Names and stamps of the files."""
        add_files_to(digest, self.files)


def _open(file: str, fresh: bool = False) -> pa.ipc.RecordBatchFileReader:
    try:
        opened = pa.ipc.open_file(pa.memory_map(str(local(file, fresh))))
        _ = opened.schema.names  # fails where a name is no UTF-8
        return opened
    except Unreachable:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as problem:
        raise BadInput(
            f"{file} is not a readable Arrow file: {str(problem).split(chr(10))[0]}; vitrail reads what `vitrail data "
            "prepare` writes"
        ) from None


def _classes(schema: pa.Schema, file: str) -> tuple[str, ...]:
    for name, kind in COLUMNS.items():
        if name not in schema.names or schema.field(name).type != kind:
            found = schema.field(name).type if name in schema.names else "missing"
            raise BadInput(
                f"{file}: column {name!r} is {found}, expected {kind}; vitrail reads what `vitrail data prepare` writes"
            )
    try:
        about = json.loads((schema.metadata or {})[b"vitrail"])
        if about["format"] != 1:
            raise BadInput(f"{file} has format {about['format']}, this version of vitrail reads format 1")
        return tuple(str(name) for name in about["classes"])
    except (KeyError, TypeError, ValueError) as problem:
        if isinstance(problem, BadInput):
            raise
        raise BadInput(f"{file} does not name its classes; vitrail reads what `vitrail data prepare` writes") from None


def refuse_missing(folder: str, files: list[str]) -> None:
    """Raises BadInput when a folder lacks shards, as the names of the others tell."""
    stated = [int(match[1]) for file in files if (match := _OF.search(file))]
    if stated and not all(count == len(files) for count in stated):
        raise BadInput(
            f"{folder} holds {len(files)} shards of {max(stated)}: `vitrail data prepare` did not end there; the same "
            "command goes on"
        )


def _refuse_other_sizes(files: list[str]) -> None:
    """Raises BadInput when a file has another length than `prepared.json` beside it says."""
    stated: dict[Path, dict[str, int]] = {}
    for file in files:
        about = Path(file).parent / "prepared.json"
        if is_remote(file):
            continue
        try:
            if about not in stated:
                rows = read_json(about)["shards"] if about.exists() else []
                stated[about] = {str(row["file"]): int(row["bytes"]) for row in rows}
        except (KeyError, TypeError):
            raise BadInput(f"{about} is not what `vitrail data prepare` writes") from None
        size = Path(file).stat().st_size
        expected = stated[about].get(Path(file).name, size)
        if size != expected:
            raise BadInput(f"{file} has {size:,} bytes, and {about} says {expected:,}: it is damaged")
