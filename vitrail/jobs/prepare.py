"""Preparing data: read once, made small, encoded anew, sharded; killed anywhere, it goes on to the same files."""

import errno
import shutil
import time
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

from vitrail.core.cluster import Cluster, ray_cluster, result_of, submitter, tasks_ahead
from vitrail.core.errors import BadInput
from vitrail.core.pool import mapping, usable_cores
from vitrail.core.progress import Bar, progress, say
from vitrail.core.signals import SignalWatch
from vitrail.data.open.names import open_data, splits_of
from vitrail.data.shards.encode import Container, Dropped, Encoding, Entry, Form, Jpeg, Png, Webp, prepare_rows
from vitrail.data.shards.progress import RESULT, Part, Prepare, State, claim, root_of
from vitrail.data.shards.write import (
    Shard,
    ShardBytes,
    ShardCount,
    mean_bytes,
    number_of_shards,
    prepare_shard,
    sample_rows,
    shard_rows,
    write_shard,
)
from vitrail.data.sources.base import Source
from vitrail.data.sources.parquet import ParquetSource
from vitrail.data.sources.split_names import DataName
from vitrail.records.prepared import PreparedData

SHOWN = 20  # broken images that are shown to people
CHUNK = 32  # images that a process prepares at a time


def prepare_config(
    data: str,
    side: int = 256,
    container: Container = "arrow",
    *,
    encoding: Literal["jpeg", "png", "webp"] = "jpeg",
    quality: int | None = None,
    shard_mib: int | None = None,
    shard_images: int | None = None,
) -> Prepare:
    """The config that the options of the command line mean; raises BadInput where they contradict each other."""
    if quality is not None and encoding != "jpeg":
        raise BadInput(f"quality {quality} is of jpeg alone; {encoding} is lossless")
    if shard_mib is not None and shard_images is not None:
        raise BadInput(f"a shard has {shard_mib} MiB or {shard_images} images; give one of the two")
    kinds: dict[str, Encoding] = {"jpeg": Jpeg() if quality is None else Jpeg(quality), "png": Png(), "webp": Webp()}
    shards = ShardBytes() if shard_mib is None else ShardBytes(shard_mib)
    return Prepare(data, side, kinds[encoding], container, shards if shard_images is None else ShardCount(shard_images))


def summary(prepared: list[PreparedData], folder: Path) -> str:
    """The prepared splits, their sizes and what was dropped, as lines of text."""
    lines = []
    for part in prepared:
        place = folder / (part.split or "")
        size = sum(shard.bytes for shard in part.shards) / 2**20
        lines.append(f"{place}: {part.count:,} images, {size:,.1f} MiB in {number_of_shards(part)}")
        if part.dropped:
            lines.append(f"dropped {len(part.dropped):,} that cannot be read:")
            lines += [f"  {row.key}: {row.reason}" for row in part.dropped[:SHOWN]]
            more = len(part.dropped) - SHOWN
            lines += [f"  … and {more:,} more in {place / RESULT}"] if more > 0 else []
    return "\n".join(lines)


def prepare(
    config: Prepare, folder: Path, workers: int | None = None, cluster: Cluster | None = None
) -> list[PreparedData]:
    """Prepares all splits of the data, or the one that is named, and returns the prepared.json of each (docs/files.md).

    A split goes to `folder/SPLIT`; data without splits to `folder`. Neither `workers` (None: all cores) nor `cluster`
    changes the files. A preparation of the same config goes on where it stopped; a finished one is left as it is,
    but for shards that are missing or have another size.

    Raises:
        BadInput: data or options that do not work; a folder of another preparation; a full disk; no readable image.
        Interrupted: after a signal; the same call goes on.
    """
    _check(config)
    folder = Path(folder)
    parts = _parts(config.data, folder)
    sources = [open_data(part.data) for part in parts]  # all, before the folder is made and the work on any begins
    with SignalWatch() as watch, claim(config, parts, folder):
        states = [State(part, config, source) for part, source in zip(parts, sources, strict=True)]
        for state, source in zip(states, sources, strict=True):
            if not state.finished:
                _prepare_part(state, source, usable_cores() if workers is None else workers, cluster, watch)
        watch.check()
        return [state.prepared() for state in states]


def _check(config: Prepare) -> None:
    if config.side < 1:
        raise BadInput(f"side is {config.side}, expected a number of pixels, as in 256")
    if isinstance(config.encoding, Jpeg) and not 1 <= config.encoding.quality <= 100:
        raise BadInput(f"quality is {config.encoding.quality}, expected 1 to 100")
    size = config.shards.mib if isinstance(config.shards, ShardBytes) else config.shards.images
    if size < 1:
        raise BadInput(f"the size of a shard is {size}, expected at least 1")


def _parts(data: str, folder: Path) -> list[Part]:
    name = DataName.parse(data)
    if name.split is not None:
        return [Part(folder / name.split, name.split, data)]
    return [Part(folder / s, s, str(name.of(s))) for s in splits_of(name.place)] or [Part(folder, None, data)]


# ---- One split


def _prepare_part(state: State, source: Source, workers: int, cluster: Cluster | None, watch: SignalWatch) -> None:
    config, part = state.config, state.part
    form = Form(config.side, config.encoding, config.container, root=root_of(part.data))
    _share_memory(source, workers)
    if not state.rows:
        state.begin(_plan(config, source, form, part.folder, workers))
    missing = [(part.folder / name, rows) for name, rows in state.rows.items() if name not in state.shards]
    total = len(source)
    with progress(f"prepare {part.data}", total, total - sum(len(rows) for _, rows in missing)) as bar:
        try:
            pace = Pace(bar, watch)
            on_ray = cluster == "ray"
            shards = _on_ray(source, missing, form, pace) if on_ray else _here(source, missing, form, workers, pace)
            for shard in shards:
                state.note(shard)
            state.finish(source)
        except OSError as problem:
            if problem.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            free = shutil.disk_usage(part.folder).free / 2**20
            raise BadInput(
                f"the disk of {part.folder} is full ({free:,.0f} MiB free) after {len(state.shards)} of "
                f"{len(state.rows)} shards, which are whole; make room, and the same command goes on from there"
            ) from None


def _share_memory(source: Source, processes: int) -> None:
    """Divide the cache of a parquet source among the processes, each of which has its own."""
    base = source.base()
    if isinstance(base, ParquetSource):
        base.budget = ParquetSource.budget // max(1, processes)


def _plan(config: Prepare, source: Source, form: Form, folder: Path, workers: int) -> list[range]:
    """The rows of each shard: the same for the same source and config, whatever the machine."""
    if isinstance(config.shards, ShardCount):
        return shard_rows(len(source), config.shards, 0.0)
    chosen = sample_rows(len(source))
    size = max(1, min(CHUNK, len(chosen) // max(1, workers)))
    chunks = [chosen[i : i + size] for i in range(0, len(chosen), size)]
    with mapping(prepare_rows, (source, form), min(workers, len(chunks) // 4)) as prepared:
        mean = mean_bytes(chain.from_iterable(prepared(chunks)))
    needed, free = mean * len(source) / 2**30, shutil.disk_usage(folder.parent).free / 2**30
    if needed > free:
        say(f"{folder} will take about {needed:,.1f} GiB, and its disk has {free:,.1f} GiB free")
    return shard_rows(len(source), config.shards, mean)


def _here(source: Source, shards: list[tuple[Path, range]], form: Form, workers: int, pace: "Pace") -> Iterator[Shard]:
    """Processes prepare chunks of images; this one writes what they send, in order, shard after shard."""
    total = sum(len(rows) for _, rows in shards)
    size = max(1, min(CHUNK, total // (4 * max(1, workers))))
    chunks = (rows[i : i + size] for _, rows in shards for i in range(0, len(rows), size))
    with mapping(prepare_rows, (source, form), min(workers, -(-total // size))) as prepared:
        entries = chain.from_iterable(pace.of(prepared(chunks)))
        for path, rows in shards:
            yield write_shard(islice(entries, len(rows)), path, source.classes, form)


def _on_ray(source: Source, shards: list[tuple[Path, range]], form: Form, pace: "Pace") -> Iterator[Shard]:
    """A task a shard, on all nodes; each must see the data and the folder under the same names."""
    with ray_cluster() as ray:
        begin, room = submitter(ray, _shard, (source, form)), tasks_ahead(ray)
        todo, running = iter(shards), list[Any]()
        while True:
            more = islice(todo, room - len(running))
            running += [begin((rows, path.absolute())) for path, rows in more]
            if not running:
                return
            done, running = ray.wait(running, timeout=1.0)
            pace.watch.check()
            if not done:
                continue
            shard = result_of(ray, done[0])
            pace.add(shard.count, len(shard.dropped))
            yield shard


def _shard(shared: tuple[Source, Form], item: tuple[range, Path]) -> Shard:
    source, form = shared
    rows, path = item
    return prepare_shard(source, rows, path, form)


class Pace:
    """Moves a bar on, with the rate and what was dropped beside it; stops the work after a signal."""

    def __init__(self, bar: Bar, watch: SignalWatch):
        self.bar, self.watch, self.start = bar, watch, time.perf_counter()
        self.images = self.dropped = 0

    def of(self, chunks: Iterable[list[Entry | Dropped]]) -> Iterator[list[Entry | Dropped]]:
        """The same chunks, counted."""
        for chunk in chunks:
            broken = sum(isinstance(entry, Dropped) for entry in chunk)
            self.add(len(chunk) - broken, broken)
            yield chunk

    def add(self, images: int, dropped: int) -> None:
        """Counts images that were prepared and that were dropped; raises Interrupted."""
        self.watch.check()
        self.images, self.dropped = self.images + images, self.dropped + dropped
        rate = (self.images + self.dropped) / (time.perf_counter() - self.start)
        broken = f", {self.dropped:,} dropped" if self.dropped else ""
        self.bar.advance(f"{rate:,.0f} images/s{broken}", images + dropped)
