"""Features on disk: computed once for a model, a view and some images, by any number of processes; mapped into memory.

    FOLDER/KEY/features.json    what they are features of; KEY is a digest of it
               00000.npy, .json the features of 1,024 images, and which of these are broken; until all are there
               values.npy       [N, ...], the readable images in the order of the source
               read.json        written last: their places, and the broken ones

Who fills a store locks the shards that it computes; the system takes the lock of a process that dies, and others do
its work. Where a file system has no locks each computes all: what they write is the same, and whole. A kill loses the
shards that are not whole: one, and what is ahead of it in the loader.
"""

import hashlib
import json
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int64

from vitrail.core.cluster import Cluster
from vitrail.core.config import to_json, without_later
from vitrail.core.device import choose_precision
from vitrail.core.digests import sealed, sha256_of, unsealed
from vitrail.core.dist import launched
from vitrail.core.errors import BadInput
from vitrail.core.files import atomic_path, make_folder, read_json, sync_folder, write_json
from vitrail.core.locks import lock_or_wait, try_lock
from vitrail.core.progress import say
from vitrail.core.temporary import remove_leftovers
from vitrail.data.loader.batch import Broken, BrokenExample
from vitrail.data.sources.base import Source
from vitrail.data.sources.subset import Subset
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.evals.features import Features, Part, Reading, Representation, feature_parts, shape_of
from vitrail.models.build import Model
from vitrail.runtimes.runtime import Runtime
from vitrail.weights.digest import digest_of

Number = Literal["float32", "float16"]

FORMAT = 1
SHARD = 1024  # images
CLUSTER_GROUP = 256  # shards that are handed to a cluster at a time; so many locks are open files
GROUP = 16  # shards that a process takes at a time, so that its loader runs through
HALF = float(np.finfo(np.float16).max)
_SHARD = re.compile(r"\.?\d{5,}\.(npy|json|lock)")  # what is there until all shards are joined
WAIT = 0.2  # seconds between two looks at what other processes have done


class Store(NamedTuple):
    """A folder with the features of one set by one model, and what is needed to compute them."""

    folder: Path
    about: dict[str, Any]

    @property
    def shards(self) -> int:
        """The number of shards, complete or not."""
        return -(-self.about["count"] // self.about["shard"])

    def has(self, shard: int) -> bool:
        """True for a shard that is complete (its .json is written after its .npy), and once all are joined."""
        return (self.folder / f"{shard:05d}.json").exists() or self.whole

    @property
    def whole(self) -> bool:
        """True once all shards are joined and can be read."""
        return (self.folder / "read.json").exists()


def stored_features(
    model: Model,
    source: Source,
    preprocess: Preprocess,
    folder: Path,
    *,
    dtype: torch.dtype | None = None,
    reading: Reading = Representation(),
    number: Number = "float32",
    workers: int | None = None,
    shard: int = SHARD,
    runtime: Runtime | None = None,
    cluster: Cluster | None = None,
) -> Features:
    """`features` of `source`, from `folder` where they are there, else computed into it; `values` lie in a file.

    Args:
        folder: holds any number of stores.
        number: how they are stored. float16 has 11 binary digits, 3 more than the products in bfloat16 that they come
            from, and half the size of float32.

    Raises:
        BadInput: features that float16 cannot hold, features that are no numbers, or too many broken images.
    """
    dtype = dtype or choose_precision("auto", next(model.parameters()).device)
    precision = str(dtype).removeprefix("torch.") if runtime is None else runtime.precision
    about = {
        "format": FORMAT,
        "model": digest_of(model),
        "preprocess": without_later(to_json(preprocess)),
        "images": source.content_hash(),
        "reading": type(reading).__name__,
        "precision": precision,
        "number": number,
        "count": len(source),
        "shape": list(shape_of(model, reading)),
        "shard": shard,
        **({} if runtime is None or runtime.name == "torch" else {"runtime": runtime.name}),
    }
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]
    store = Store(folder / key, about)
    if not store.whole:
        make_folder(store.folder)
        with lock_or_wait(store.folder / ".join.lock"):
            write_json(store.folder / "features.json", about)
        _fill(store, model, source, preprocess, reading, dtype, workers, runtime, cluster)
        _join(store)
    _remove_shards(store)
    return _opened(store, source)


def _fill(
    store: Store,
    model: Model,
    source: Source,
    preprocess: Preprocess,
    reading: Reading,
    dtype: torch.dtype,
    workers: int | None,
    runtime: Runtime | None,
    cluster: Cluster | None,
) -> None:
    """Computes the shards that no other process computes, and waits until all are complete."""
    world = launched()
    size, count = store.about["shard"], store.about["count"]
    while missing := [i for i in range(store.shards) if not store.has(i)]:
        first = world.rank * len(missing) // world.size  # processes start apart from each other
        most = max(1, min(GROUP, len(missing) // (2 * world.size))) if cluster is None else CLUSTER_GROUP
        with ExitStack() as held:
            mine: list[int] = []
            for i in missing[first:] + missing[:first]:
                if len(mine) < most and (lock := try_lock(store.folder / f".{i:05d}.lock")):
                    held.enter_context(lock)
                    mine += [] if store.has(i) else [i]
            if mine:
                places = np.concatenate([np.arange(i * size, min(count, (i + 1) * size)) for i in sorted(mine)])
                broken = Broken(count)
                some = Subset(source, places)
                parts = feature_parts(
                    model,
                    some,
                    preprocess,
                    reading,
                    broken,
                    dtype=dtype,
                    workers=workers,
                    runtime=runtime,
                    cluster=cluster,
                )
                _write_shards(store, places, parts, broken)
                continue
        time.sleep(WAIT)


def _write_shards(store: Store, places: np.ndarray, parts: Iterator[Part], broken: Broken) -> None:
    """Writes each shard as soon as the parts are past it. `places`: all images of these shards, in order."""
    size, held = store.about["shard"], list[Part]()
    waiting = [int(i) for i in np.unique(places // size)]

    def write_before(shard: int) -> None:
        nonlocal held
        while waiting and waiting[0] < shard:
            i = waiting.pop(0)
            lost = [replace(one, index=int(places[one.index])) for one in broken.examples.values()]
            lost = [one for one in lost if one.index // size == i]
            _write_shard(store, i, [_where(part, part.places // size == i) for part in held], lost)
            held = [_where(part, part.places // size > i) for part in held]

    for part in parts:
        held = [*(one for one in held if len(one.places)), Part(places[part.places], part.values)]
        write_before(int(held[-1].places[-1]) // size)
    write_before(store.shards)


def _where(part: Part, chosen: Bool[np.ndarray, " b"]) -> Part:
    return Part(part.places[chosen], part.values[chosen])


def _write_shard(store: Store, shard: int, parts: list[Part], broken: list[BrokenExample]) -> None:
    empty = np.empty((0, *store.about["shape"]), np.float32)
    values = np.concatenate([empty, *(part.values for part in parts)])
    places = np.concatenate([np.empty(0, np.int64), *(part.places for part in parts)])
    most = float(np.abs(values).max(initial=0))
    if not np.isfinite(most):
        raise BadInput("the features are no numbers: a weight of the model, or a product of weights, is too large")
    if store.about["number"] == "float16" and most > HALF:
        raise BadInput(f"a feature is {most:,.0f}, and float16 ends at {HALF:,.0f}: store them as float32")
    with atomic_path(store.folder / f"{shard:05d}.npy") as temporary:
        np.save(temporary, values.astype(store.about["number"]), allow_pickle=False)
        digest = sha256_of(temporary)
    rows = [{"place": one.index, "key": one.key, "reason": one.reason} for one in sorted(broken)]
    about = {"places": _runs(places), "broken": rows, "sha256": digest}
    write_json(store.folder / f"{shard:05d}.json", sealed(about))


def _join(store: Store) -> None:
    """One file of all shards, made by one process while the others wait."""
    with lock_or_wait(store.folder / ".join.lock"):
        if store.whole:
            return
        shards = [_whole_shard(store, i) for i in range(store.shards)]
        runs = [run for shard in shards for run in shard["places"]]
        count = sum(stop - start for start, stop in runs)
        with atomic_path(store.folder / "values.npy") as temporary:
            shape = (count, *store.about["shape"])
            values = np.lib.format.open_memmap(temporary, mode="w+", dtype=store.about["number"], shape=shape)
            start = 0
            for i in range(store.shards):
                part = np.load(store.folder / f"{i:05d}.npy", allow_pickle=False)
                values[start : start + len(part)] = part
                start += len(part)
            values.flush()
            del values
            digest = sha256_of(temporary)
        about = {"places": runs, "broken": [row for shard in shards for row in shard["broken"]], "sha256": digest}
        write_json(store.folder / "read.json", sealed(about))


def _whole_shard(store: Store, shard: int) -> dict[str, Any]:
    """What is known of a shard; one that is damaged is removed, so that it is computed again."""
    values, about = (store.folder / f"{shard:05d}{suffix}" for suffix in (".npy", ".json"))
    try:
        stored = unsealed(read_json(about), about)
        if sha256_of(values) != stored.get("sha256"):
            raise BadInput(f"{values} is damaged: its digest is of something else")
    except (BadInput, OSError) as problem:
        about.unlink(missing_ok=True)
        raise BadInput(f"{problem}; run the same command again, and it is computed again") from None
    return stored


def _remove_shards(store: Store) -> None:
    """Once all are joined, those who find some left remove them: who joined them may have been killed meanwhile."""
    left = [path for path in store.folder.iterdir() if _SHARD.fullmatch(path.name)]
    if not left:
        return
    try:
        with lock_or_wait(store.folder / ".join.lock"):
            for path in left:
                path.unlink(missing_ok=True)
            remove_leftovers(store.folder)
            sync_folder(store.folder)  # or a power cut brings them back, when perhaps nobody opens the store again
    except OSError as problem:
        say(f"{store.folder} is whole, and files that are not needed any more stay there: {problem}")


def _opened(store: Store, source: Source) -> Features:
    try:
        read = unsealed(read_json(store.folder / "read.json"), store.folder / "read.json")
        if "sha256" in read and sha256_of(store.folder / "values.npy") != read["sha256"]:
            raise BadInput("the digest of values.npy is of something else")
    except (BadInput, OSError) as problem:
        raise BadInput(f"{store.folder} is damaged ({problem}): remove it, and it is made again") from None
    places = np.concatenate([np.arange(*run) for run in read["places"]] or [np.empty(0)]).astype(np.int64)
    broken = tuple((row["key"], row["reason"]) for row in read["broken"])
    Broken(len(source)).add(BrokenExample(row["place"], row["key"], row["reason"]) for row in read["broken"])
    try:
        values = np.load(store.folder / "values.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as problem:
        raise BadInput(f"{store.folder} is damaged ({problem}): remove it, and it is made again") from None
    if values.shape != (len(places), *store.about["shape"]) or values.dtype != store.about["number"]:
        raise BadInput(f"{store.folder} is damaged: remove it, and it is made again")
    return Features(values, source.labels[places], broken, places)


def _runs(places: Int64[np.ndarray, " n"]) -> list[list[int]]:
    """Sorted places as [start, stop] pairs."""
    parts = np.split(places, np.flatnonzero(np.diff(places) != 1) + 1)
    return [[int(part[0]), int(part[-1]) + 1] for part in parts if len(part)]
