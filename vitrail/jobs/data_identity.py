"""A run that goes on learns from the images it began with: data that changed meanwhile are refused by name.

`data.json` in a run folder says of each part how many images a class has, and a digest of their names and labels. Names
are what is compared: files that were touched or copied are the same images, and nothing is read.
"""

import hashlib
from typing import Any

from vitrail.core import dist
from vitrail.core.errors import BadInput
from vitrail.core.files import read_json, write_json
from vitrail.core.progress import say
from vitrail.core.run import RunFolder
from vitrail.data.sources.base import FileSource, Source

PARTS = ("train", "validation", "test")
LISTED = 3  # classes that a sentence names


def check_same_data(run: RunFolder, data: tuple[Source | None, ...], *, accept: bool = False) -> None:
    """Notes the data of a new run, and compares those of one that goes on.

    Args:
        data: train, validation and test, None where there is none.
        accept: images that were added or removed are said, and the run goes on with them.

    Raises:
        BadInput: other classes, or without `accept` other images.
    """
    now = {part: _described(source) for part, source in zip(PARTS, data, strict=True) if source is not None}
    file = run.path / "data.json"
    problem: str | None = None
    if run.writes:
        if run.state == "unfinished" and file.exists():
            problem = _difference(read_json(file).get("parts", {}), now, accept, str(run.path))
        if problem is None:
            write_json(file, {"format": 1, "parts": now})
    problem = dist.gathered_json(problem)[0]  # all processes end for the same reason
    if problem is not None:
        raise BadInput(problem)


def _described(source: Source) -> dict[str, Any]:
    counts = source.counts
    digest = hashlib.sha256(source.labels.tobytes())
    within = source
    while hasattr(within, "source"):
        if hasattr(within, "indices"):
            digest.update(within.indices.tobytes())
        within = within.source
    if isinstance(within, FileSource):
        digest.update("\0".join(map(repr, within.names.to_pylist())).encode())
    classes = dict(zip(source.classes, counts.tolist(), strict=True)) if source.classes else {}
    return {"count": len(source), "classes": classes, "digest": digest.hexdigest()}


def _difference(before: dict[str, Any], now: dict[str, Any], accept: bool, run: str) -> str | None:
    """Why the run cannot go on; None where it can."""
    for part, here in now.items():
        there = before.get(part)
        if there is None or (there["digest"] == here["digest"] and list(there["classes"]) == list(here["classes"])):
            continue
        was, has = there["classes"], here["classes"]
        gone, new = [name for name in was if name not in has], [name for name in has if name not in was]
        if gone or new:
            changes = [f"{what} {_listed(names)}" for what, names in (("gone:", gone), ("new:", new)) if names]
            return (
                f"the classes of the {part} data changed since {run} began ({'; '.join(changes)}): bring the data back "
                "to go on, or give another --out for a new run"
            )
        counts = [f"{name} {was[name]:,} → {has[name]:,}" for name in has if was[name] != has[name]]
        what = _listed(counts) if counts else "as many of each class, with other names or in another order"
        changed = (
            f"the {part} data changed since {run} began: {there['count']:,} images, now {here['count']:,} ({what})"
        )
        if not accept:
            return (
                f"{changed}; bring the data back to go on, give another --out for a new run, or go on with what is "
                "there by --accept-changed-data"
            )
        say(f"{changed}; going on with what is there")
    return None


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
