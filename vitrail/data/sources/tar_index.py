"""Where everything lies in a tar file, kept beside it: the samples of a tar that did not change are read once."""

import json
import os
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pyarrow as pa

from vitrail.core.cache import cache_folder
from vitrail.core.files import atomic_path
from vitrail.data.sources.skipped import Skipped
from vitrail.data.sources.tar_samples import TarSamples, samples


def index(file: Path) -> TarSamples:
    """The samples of a tar file, from the index beside it; made where there is none, or where the tar has changed.

    The index is `FILE.index`, or lies in the cache folder where the tar's own cannot be written.
    """
    facts = file.stat()
    stamp = _stamp(facts)
    beside = file.with_name(file.name + ".index")
    elsewhere = cache_folder() / "tars" / f"{facts.st_dev:x}-{facts.st_ino:x}.index"
    for place in (beside, elsewhere):
        known = _read(place, stamp)
        if known is not None:
            return known
    made = samples(file)
    try:
        _write(beside, made, stamp)
    except OSError:
        with suppress(OSError):
            _write(elsewhere, made, stamp)
    return made


def _stamp(facts: os.stat_result) -> dict[str, int]:
    """By which an index is known to be of this state of the tar."""
    return {"format": 3, "bytes": facts.st_size, "mtime_ns": facts.st_mtime_ns}


def _write(place: Path, made: TarSamples, stamp: dict[str, int]) -> None:
    about = {**stamp, "skipped": [made.skipped.counts, made.skipped.first], "sha256": _digest(made)}
    columns = {"key": made.keys, "offset": made.offsets, "size": made.sizes, "label": made.labels}
    table = pa.table(columns).replace_schema_metadata({b"vitrail": json.dumps(about).encode()})
    with atomic_path(place) as temporary, pa.ipc.new_file(str(temporary), table.schema) as writer:
        writer.write_table(table)


def _read(place: Path, stamp: dict[str, int]) -> TarSamples | None:
    """What was written, or None where it is missing, unreadable, or of another state of the tar."""
    try:
        with open(place, "rb") as file, pa.ipc.open_file(file) as opened:
            about = json.loads(opened.schema.metadata[b"vitrail"])
            if {key: about.get(key) for key in stamp} != stamp:
                return None
            table = opened.read_all().combine_chunks()
            table.validate(full=True)
            skipped = Skipped()
            skipped.counts, skipped.first = about["skipped"]
            keys, labels = (_one(table[name].cast(pa.large_string())) for name in ("key", "label"))
            offsets, sizes = (_one(table[name].cast(pa.int64())) for name in ("offset", "size"))
            known = TarSamples(keys, offsets, sizes, labels, skipped)
            if about["sha256"] != _digest(known):
                return None
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None
    return known


def _digest(made: TarSamples) -> str:
    """By which an index in which a bit has changed is made again."""
    texts = [made.keys.to_pylist(), made.labels.to_pylist(), made.skipped.counts, made.skipped.first]
    found = sha256(json.dumps(texts).encode())
    for numbers in (made.offsets, made.sizes):
        found.update(numbers.to_numpy().astype("<i8").tobytes())
    return found.hexdigest()


def _one(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], type=column.type)
