"""Graphs made from models, kept in the cache folder: converting takes seconds, reading one a fraction of that."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from vitrail.core.cache import cache_folder
from vitrail.core.files import atomic_folder
from vitrail.core.locks import lock_or_wait
from vitrail.models.build import Model
from vitrail.weights.digest import digest_of

FORMAT = 1
KEPT = 4 << 30  # bytes of graphs; those that were not used for the longest time give way


def cached_graph(model: Model, versions: Mapping[str, str], make: Callable[[Path], None]) -> Path:
    """The folder with the graph of a model, made by `make(folder)` where it is not there yet.

    Args:
        versions: of all that the graph depends on besides the model.
    """
    about = {
        "format": FORMAT,
        "model": digest_of(model),
        "versions": {name: str(number) for name, number in versions.items()},
    }
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]
    graphs = cache_folder() / "graphs"
    graphs.mkdir(parents=True, exist_ok=True)
    folder = graphs / key
    with lock_or_wait(graphs / f".{key}.lock"):
        if not folder.is_dir():
            with atomic_folder(folder) as temporary:
                make(temporary)
            _make_room(graphs, folder)
    with suppress(OSError):
        os.utime(folder)
    return folder


def _make_room(graphs: Path, newest: Path) -> None:
    sizes = {
        folder: sum(file.stat().st_size for file in folder.iterdir())
        for folder in graphs.iterdir()
        if folder.is_dir() and not folder.name.startswith(".")
    }
    for folder in sorted(sizes, key=lambda folder: folder.stat().st_mtime):
        if sum(sizes.values()) <= KEPT:
            return
        if folder != newest:
            shutil.rmtree(folder, ignore_errors=True)
            del sizes[folder]
