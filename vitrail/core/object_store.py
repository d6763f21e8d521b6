"""Objects of stores (`s3://`, `gs://`, …) through fsspec: read, written, and copied on first use to a local cache.

The cache of what `local` copies has a bounded size.

What lies in a store is taken not to change under its name, except that opening a source asks anew for the few files
that describe it (manifests, shards).
"""

import errno
import hashlib
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from vitrail.core.address import is_address
from vitrail.core.cache import cache_folder, cache_limit
from vitrail.core.errors import BadInput, Unreachable
from vitrail.core.files import atomic_path


def is_remote(name: str) -> bool:
    """True for the address of an object store, False for a path."""
    return is_address(name) and not name.startswith("hf://")


def local(name: str, fresh: bool = False) -> Path:
    """The path of the file on this machine: itself, or its copy, which is fetched first where there is none.

    To be opened at once: a copy may be removed again when others need its place.

    Args:
        fresh: ask the store whether the file is still the one that was copied.

    Raises:
        OSError: the file cannot be had; the message says why.
    """
    if not is_remote(name):
        return Path(name)
    copy = _copy_of(name)
    version = copy.with_name(copy.name + ".version")
    if fresh:
        known = version.read_text() if copy.exists() and version.exists() else None
        now = _version(name)
        if now != known:
            _fetch(name, copy)
            with atomic_path(version) as temporary:
                temporary.write_text(now)
    elif not copy.exists():
        _fetch(name, copy)
    with suppress(OSError):
        os.utime(copy)  # the least recently used are removed first
    return copy


def matching(pattern: str) -> list[str]:
    """The addresses that a pattern with `*` and `?` matches, sorted."""
    system, path = _open(pattern)
    return sorted(system.unstrip_protocol(found) for found in _ask(pattern, system.glob, path))


def below(address: str) -> list[str]:
    """All files below an address, relative to it, sorted; those in hidden folders left out."""
    system, path = _open(address)
    system.invalidate_cache()
    start = path.rstrip("/") + "/"
    try:
        found = [str(name).removeprefix(start) for name in _do(address, system.find, path)]
    except FileNotFoundError:
        return []
    except PermissionError as problem:
        raise BadInput(f"{address} cannot be read: {problem}") from None
    return sorted(name for name in found if not any(part.startswith(".") for part in name.split("/")))


def is_file(address: str) -> bool:
    """True where a file of this very name exists."""
    system, path = _open(address)
    return bool(_ask(address, system.isfile, path))


def read(address: str) -> bytes | None:
    """What an object holds; None where there is none of this name. Raises OSError where the store cannot be asked."""
    system, path = _open(address)
    try:
        data: bytes = _do(address, system.cat_file, path)
    except FileNotFoundError:
        return None
    return data


def put(address: str, what: Path | bytes) -> None:
    """Writes an object, a file or some bytes, over what was there; raises OSError where the store fails."""
    system, path = _open(address)
    if "file" in system.protocol:  # a disk, on which not everything appears whole by itself
        with atomic_path(Path(path)) as temporary:
            temporary.write_bytes(what) if isinstance(what, bytes) else shutil.copyfile(what, temporary)
    elif isinstance(what, bytes):
        _do(address, system.pipe_file, path, what)
    else:
        _do(address, system.put_file, str(what), path)


def fetch(address: str, to: Path) -> None:
    """Copies an object to a file; raises OSError where that fails, FileNotFoundError where there is none."""
    system, path = _open(address)
    _do(address, system.get_file, path, str(to))


def remove(address: str) -> None:
    """Removes an object, where it is there; raises OSError where the store fails."""
    system, path = _open(address)
    with suppress(FileNotFoundError):
        _do(address, system.rm_file, path)


def versions(address: str) -> dict[str, str]:
    """The objects directly in a folder, or the object of this very name, with a fingerprint of what each holds now.

    Raises:
        OSError: the store cannot be asked. Where nothing is there, nothing is found.
    """
    system, path = _open(address)
    system.invalidate_cache()
    try:
        found = _do(address, lambda: system.ls(path, detail=True))
    except FileNotFoundError:
        return {}
    return {str(info["name"]).rpartition("/")[2]: _tags(info) for info in found if info["type"] == "file"}


def check_address(address: str) -> None:
    """Raises BadInput where no kind of store has such an address, or where its package is missing."""
    _open(address)


def _do(address: str, action: Any, *args: Any) -> Any:
    """What the store answers; an error of any kind, which every store has of its own, as OSError with the address.

    Raises:
        FileNotFoundError: there is nothing.
        PermissionError: the store does not let us.
        Unreachable: any other failure of the store.
        OSError: the disk of this machine is full.
    """
    try:
        return action(*args)
    except FileNotFoundError:
        raise FileNotFoundError(f"{address} does not exist") from None
    except Exception as problem:
        if isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        kind = PermissionError if isinstance(problem, PermissionError) else Unreachable
        raise kind(f"{address}: {type(problem).__name__}: {_line(problem)}") from None


def _open(address: str) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError:
        raise BadInput(f"{address}: object stores need fsspec: pip install 'vitrail[cluster]'") from None
    try:
        system, path = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as problem:  # no such protocol, or its package is missing
        raise BadInput(f"{address} cannot be opened: {str(problem).rstrip('.')}") from None
    except Exception as problem:  # credentials, regions, …: every store has errors of its own
        raise BadInput(f"{address} cannot be opened: {type(problem).__name__}: {_line(problem)}") from None
    return system, path


def _ask(address: str, question: Any, *args: Any) -> Any:
    try:
        return _do(address, question, *args)
    except (FileNotFoundError, PermissionError) as problem:
        raise BadInput(f"{address} cannot be read: {problem}") from None


def _line(problem: Exception) -> str:
    return (str(problem).split("\n")[0] or "no reason given")[:200].rstrip(".")


def _version(address: str) -> str:
    """A fingerprint that changes when the file does: its size, and the store's tag or time of it."""
    system, path = _open(address)
    system.invalidate_cache(path)
    return _tags(_do(address, system.info, path))


def _tags(info: dict[str, Any]) -> str:
    names = ("size", "ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "created")
    return "|".join(str(info.get(name)) for name in names)


def _copy_of(address: str) -> Path:
    name = hashlib.sha256(address.encode("utf-8", "surrogateescape")).hexdigest()
    return cache_folder() / "objects" / name[:2] / f"{name[2:34]}{Path(address).suffix[:10]}"


def _fetch(address: str, copy: Path) -> None:
    system, path = _open(address)
    _make_place(int(_do(address, system.size, path) or 0), address)
    with atomic_path(copy) as temporary:
        fetch(address, temporary)


class _Since:
    """Bytes that this process has fetched since it last looked at the whole cache."""

    fetched: int | None = None


def _make_place(size: int, address: str) -> None:
    """Removes the copies that were used longest ago, until `size` bytes more stay below the limit.

    Looking at all copies takes a while, so each process does it once for every 64th of the limit that it fetched, and
    leaves an eighth of the limit free: with up to eight processes the cache stays below it.
    """
    limit = cache_limit()
    if size > limit * 7 // 8:
        raise OSError(
            f"{address} has {size / 2**30:.1f} GiB and does not fit into the cache of {limit / 2**30:.1f} GiB at "
            f"{cache_folder()}; set VITRAIL_CACHE_GIB to more"
        )
    if _Since.fetched is not None and _Since.fetched + size <= limit // 64:
        _Since.fetched += size
        return
    copies = []
    for file in (cache_folder() / "objects").glob("*/*"):
        with suppress(OSError):
            if not file.name.startswith(".") and file.suffix != ".version":
                facts = file.stat()
                copies.append((facts.st_mtime_ns, facts.st_size, file))
    total = sum(copy[1] for copy in copies)
    for _, bytes_, file in sorted(copies, key=lambda copy: copy[0]):
        if total + size <= limit * 7 // 8:
            break
        file.unlink(missing_ok=True)
        total -= bytes_
    _Since.fetched = 0
