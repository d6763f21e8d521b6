"""What lies at a place: a folder, a file, a pattern, an object store; its splits, and the source of each."""

import glob
import re
from pathlib import Path

from vitrail.core import object_store
from vitrail.core.errors import BadInput
from vitrail.data.sources.folder_layout import detect_folder
from vitrail.data.sources.layout import SHARDS, Layout, of_manifest, of_shards
from vitrail.data.sources.manifest import SUFFIXES
from vitrail.data.sources.parquet import has_images, read_schema
from vitrail.data.sources.remote_layout import detect_remote

_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST = 1_000_000  # files that braces may stand for


def detect_path(name: str, split: str | None = None) -> Layout:
    """What a path, a pattern or an address stands for; `split` is the one that is asked for, where one is.

    Raises:
        BadInput: nothing there, several kinds of files, or folders that may be splits or classes.
    """
    path = Path(name)
    if path.is_dir():
        return detect_folder(path, split)
    if path.is_file():
        return _file(name)
    if is_pattern(name):
        return _pattern(name)
    if object_store.is_remote(name):
        return _file(name) if object_store.is_file(name) else detect_remote(name.rstrip("/"))
    raise BadInput(f"{name} does not exist")


def is_pattern(name: str) -> bool:
    """Whether a name stands for several files; one that exists stands for itself."""
    return any(c in name for c in "*?{") and not Path(name).exists()


def _file(name: str) -> Layout:
    suffix = Path(name).suffix.lower()
    if suffix in SUFFIXES or (suffix == ".parquet" and not has_images(read_schema(name))):
        return of_manifest(name, name)
    if suffix in SHARDS:
        return of_shards(name, {"": [name]}, "a file has none")
    if suffix in (".zip", ".7z", ".rar"):
        raise BadInput(f"{name} is an archive, which allows no random access: unpack it once, and name the folder")
    if name.lower().endswith((".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")):
        raise BadInput(f"{name} is compressed, which allows no random access; unpack it to a .tar once, as with gunzip")
    kinds = ", ".join([*SUFFIXES, *SHARDS])
    raise BadInput(f"{name} is a file; expected a folder of images, or a file that ends in {kinds}")


def _pattern(pattern: str) -> Layout:
    files = matching(pattern)
    if not files:
        raise BadInput(f"no file matches {pattern!r}")
    kinds = {Path(file).suffix: file for file in reversed(files)}
    for suffix, file in kinds.items():
        if suffix not in SHARDS:
            raise BadInput(f"{pattern!r} matches {file}; a pattern must match {', '.join(SHARDS)} files only")
    if len(kinds) > 1:
        raise BadInput(
            f"{pattern!r} matches several kinds of files, such as {' and '.join(sorted(kinds.values()))}; name one"
        )
    return of_shards(pattern, {"": files}, "a pattern has none")


def matching(pattern: str) -> list[str]:
    """The files that a pattern stands for; raises BadInput for one of braces that is missing."""
    files: list[str] = []
    for part in expand(pattern):
        if Path(part).exists() or not any(c in part for c in "*?["):
            found = [part] if object_store.is_remote(part) or Path(part).exists() else []
            if not found and part != pattern:
                raise BadInput(f"{part} does not exist, which {pattern!r} names")
        elif object_store.is_remote(part):
            found = object_store.matching(part)
        else:
            found = sorted(glob.glob(part, recursive=True))  # noqa: PTH207 - absolute patterns too
        files += found
    return files


def expand(pattern: str) -> list[str]:
    """`shard-{000..002}.tar` -> three names; several braces make all combinations."""
    match = _BRACES.search(pattern)
    if match is None:
        if "{" in pattern and not Path(pattern).exists():
            raise BadInput(
                f"{pattern!r}: cannot read the braces; expected two numbers, as in shard-{{000000..000009}}.tar"
            )
        return [pattern]
    first, last = int(match[1]), int(match[2])
    if not first <= last < first + _MOST:
        raise BadInput(f"{pattern!r}: {match[0]} names no files; expected two numbers, the smaller first")
    width = len(match[1]) if match[1].startswith("0") or len(match[1]) == len(match[2]) else 0
    names = [f"{pattern[: match.start()]}{n:0{width}d}{pattern[match.end() :]}" for n in range(first, last + 1)]
    return [name for part in names for name in expand(part)]
