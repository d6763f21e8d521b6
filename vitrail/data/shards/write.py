"""Shards of prepared images, Arrow or tar: which rows make one; the file is a pure function of (source, rows, form)."""

import hashlib
import io
import json
import re
import tarfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path, PurePath

import numpy as np
import pyarrow as pa

from vitrail.core.files import atomic_path
from vitrail.data.shards.encode import NAMES, Container, Dropped, Entry, Form, prepare_row
from vitrail.data.sources.base import Source
from vitrail.records.prepared import PreparedData

FORMAT = 1
ROWS = 256  # of a record batch: what is in memory at once, and what a reader maps at once
SAMPLE = 64  # images, at most, that are encoded to tell how many make a shard
LISTED = 1000  # classes and broken images in the card; prepared.json has all


@dataclass(frozen=True)
class ShardBytes:
    """Shards of about so many MiB, as the mean of a sample of images tells."""

    mib: int = 256


@dataclass(frozen=True)
class ShardCount:
    """Shards of so many images of the source; what is broken is missing from them."""

    images: int


@dataclass(frozen=True)
class Shard:
    """What is known of a shard that is written: `count` images, of which `copied` kept their bytes."""

    file: str
    count: int
    bytes: int
    sha256: str
    copied: int
    seconds: float
    dropped: tuple[Dropped, ...]


def prepare_shard(source: Source, rows: range, path: Path, form: Form) -> Shard:
    """Writes the rows of a source as one shard, whole or not at all; equal arguments give equal bytes."""
    return write_shard((prepare_row(source, index, form) for index in rows), path, source.classes, form)


def write_shard(entries: Iterable[Entry | Dropped], path: Path, classes: Sequence[str], form: Form) -> Shard:
    """Writes entries in their order; what was dropped is only counted."""
    start = time.perf_counter()
    dropped: list[Dropped] = []
    counts = {True: 0, False: 0}

    def kept() -> Iterator[Entry]:
        for entry in entries:
            if isinstance(entry, Dropped):
                dropped.append(entry)
            else:
                counts[entry.copied] += 1
                yield entry

    with atomic_path(path) as temporary:
        if form.container == "arrow":
            _write_arrow(temporary, kept(), classes)
        else:
            _write_tar(temporary, kept(), NAMES[type(form.encoding)][1])
        with open(temporary, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = temporary.stat().st_size
    seconds = time.perf_counter() - start
    return Shard(path.name, sum(counts.values()), size, digest, counts[True], seconds, tuple(dropped))


def arrow_schema(classes: Sequence[str]) -> pa.Schema:
    """The columns of an Arrow shard; the class names lie in its metadata."""
    metadata = {b"vitrail": json.dumps({"format": FORMAT, "classes": list(classes)}).encode()}
    return pa.schema([("image", pa.large_binary()), ("label", pa.int32()), ("key", pa.string())], metadata)


def _write_arrow(path: Path, entries: Iterator[Entry], classes: Sequence[str]) -> None:
    schema = arrow_schema(classes)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        while batch := list(islice(entries, ROWS)):
            columns = [[e.image for e in batch], [e.label for e in batch], [e.key for e in batch]]
            arrays = [pa.array(c, field.type) for c, field in zip(columns, schema, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))


def _write_tar(path: Path, entries: Iterator[Entry], suffix: str) -> None:
    with tarfile.open(path, "w") as tar:
        for entry in entries:
            name = tar_key(entry.row, entry.key)
            for member, data in ((f"{name}.{suffix}", entry.image), (f"{name}.cls", str(entry.label).encode())):
                info = tarfile.TarInfo(member)  # of no time, owner or mode of its own
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def tar_key(index: int, key: str) -> str:
    """The name of a sample in a tar: its row in the source, and what can be kept of the name of its file."""
    stem = re.sub(r"[^A-Za-z0-9]+", "-", PurePath(key).stem).strip("-")[:60]
    return f"{index:09d}-{stem}" if stem else f"{index:09d}"


# ---- The plan


def shard_rows(total: int, size: ShardBytes | ShardCount, image_bytes: float) -> list[range]:
    """Which rows of a source of `total` images make each shard; `image_bytes` is what an image takes."""
    match size:
        case ShardBytes(mib):
            shards = max(1, min(total, round(total * image_bytes / (mib << 20))))
            ends = [total * i // shards for i in range(shards + 1)]
        case ShardCount(images):
            ends = [*range(0, total, images), total]
    return [range(start, stop) for start, stop in pairwise(ends)]


def sample_rows(total: int) -> list[int]:
    """Rows at even distances: one of sixteen, at most SAMPLE of them."""
    return [int(i) for i in np.linspace(0, total - 1, min(SAMPLE, -(-total // 16)))]


def mean_bytes(sample: Iterable[Entry | Dropped]) -> float:
    """What an image takes on the mean; 0 when none is readable."""
    sizes = [len(entry.image) for entry in sample if isinstance(entry, Entry)]
    return sum(sizes) / len(sizes) if sizes else 0.0


def shard_name(number: int, total: int, container: Container) -> str:
    """`shard-00000-of-00012.arrow`, `shard-000000.tar`."""
    return f"shard-{number:05d}-of-{total:05d}.arrow" if container == "arrow" else f"shard-{number:06d}.tar"


# ---- What people read


def card(prepared: PreparedData) -> str:
    """README.md of a prepared folder: what it is, from what, what was dropped. No dates: equal data, equal bytes."""
    dropped, counts = prepared.dropped, prepared.counts
    encoding = {key: value for key, value in prepared.encoding.items() if key != "type"}
    detail = "".join(f", {key} {value}" for key, value in encoding.items())
    size = sum(shard.bytes for shard in prepared.shards)
    kind = "Arrow IPC (memory-mapped)" if prepared.container == "arrow" else "tar (WebDataset)"
    lines = [
        f"# {PurePath(prepared.data).name}, prepared",
        "",
        f"Made by `vitrail data prepare` (version {prepared.vitrail}) from `{prepared.data}`.",
        "",
        f"- {prepared.count:,} images of {len(counts):,} classes, {size / 2**20:,.1f} MiB in "
        f"{number_of_shards(prepared)}: {kind}",
        f"- the shorter side has at most {prepared.side} pixels; smaller images were not enlarged",
        f"- {prepared.encoding['type'].upper()}{detail}; {prepared.copied:,} images were small enough and "
        "of that encoding already: their bytes are untouched",
        f"- dropped because they cannot be read: {len(dropped):,}",
        "- counts, checksums (SHA-256) and the names of what was dropped: `prepared.json`",
        "",
        "The path of this folder is its name as DATA: `vitrail pretrain ... --train FOLDER`.",
        "",
        "| class | images |",
        "|---|---|",
        *(f"| {_cell(label)} | {n:,} |" for label, n in list(zip(prepared.classes, counts, strict=True))[:LISTED]),
    ]
    if len(counts) > LISTED:
        lines += [f"| … and {len(counts) - LISTED:,} more classes | {sum(counts[LISTED:]):,} |"]
    if dropped:
        lines += [
            "",
            "## Dropped",
            "",
            *(f"- `{_cell(row.key)}`: {_cell(row.reason)}" for row in dropped[:LISTED]),
        ]
        lines += [f"- … and {len(dropped) - LISTED:,} more"] if len(dropped) > LISTED else []
    return "\n".join(lines) + "\n"


def number_of_shards(prepared: PreparedData) -> str:
    """`1 shard`, `12 shards`."""
    count = len(prepared.shards)
    return "1 shard" if count == 1 else f"{count:,} shards"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
