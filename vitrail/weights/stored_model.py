"""A MODEL at an address of an object store: fetched whole to the cache, and read there like any other."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from vitrail.core.cache import cache_folder
from vitrail.core.dist import launched
from vitrail.core.errors import BadInput, Unreachable
from vitrail.core.files import atomic_folder, make_folder
from vitrail.core.locks import lock_or_wait
from vitrail.core.object_store import fetch, versions
from vitrail.core.progress import say
from vitrail.core.stored_folder import NotWhole, StoredFile, StoredFolder, fetch_files, read_folder
from vitrail.core.temporary import remove

KEPT = 2  # states of one model: another process may still read the one before
TRIES = 5  # to read files that are written meanwhile


def fetch_model(address: str) -> Path:
    """The file or folder at an address as the store holds it now, on this machine; of a run what a model needs.

    The store is asked each time, and what has not changed since is not fetched again. What `vitrail pretrain` or
    `finetune` has mirrored is checked by its digests; of other folders all files must stay as they are while they are
    fetched, and a bundle has the digest of its weights.

    Raises:
        BadInput: nothing is there, it cannot be read, or it is not whole.
        Unreachable: the store does not answer.
    """
    address = address.rstrip("/")
    home = cache_folder() / "models" / hashlib.sha256(address.encode()).hexdigest()[:16]
    try:
        make_folder(home)
        with lock_or_wait(home / ".lock"):  # the other processes of this machine want the same
            found = _mirrored(address, home) or _plain(address, home)
            _forget_older(home, found)
    except Unreachable:
        raise
    except OSError as problem:
        raise BadInput(f"{address} cannot be read: {problem}") from None
    return found


def model_version(address: str) -> str:
    """What changes when the model at an address does; empty where there is none, or the store cannot be asked."""
    address = address.rstrip("/")
    try:
        stored = _stored(address)
        tags = _seen(address) if stored is None else _digests(stored[1])
    except (OSError, BadInput):
        return ""
    return _key(tags) if tags else ""


def _mirrored(address: str, home: Path) -> Path | None:
    """Of a folder that `mirror.json` describes, at the address or above it; None where there is no such."""
    stored = _stored(address)
    while stored is not None:
        base, files = stored
        folder = _place(home, address, _digests(files))
        if folder.is_dir():
            return folder
        _say_fetching(address)
        problem = ""
        try:
            fetch_files(base, files, folder)
            return folder
        except NotWhole as missing:
            problem = str(missing)
        now = _stored(address)
        if now == stored:
            raise BadInput(f"{address} is not whole: {problem}")
        stored = now
    return None


def _stored(address: str) -> tuple[str, dict[str, StoredFile]] | None:
    """The address that has a `mirror.json`, and those of its files that are of the model, named from `address` on."""
    base = address
    while not base.endswith("/"):
        try:
            folder = read_folder(base)
        except PermissionError:  # of what is above one's own
            folder = None
        inside = address.removeprefix(base).lstrip("/")
        if folder is not None and (files := _below(folder, inside)):
            return base, files
        base = base.rpartition("/")[0]
    return None


def _below(folder: StoredFolder, inside: str) -> dict[str, StoredFile]:
    start = f"{inside}/" if inside else ""
    names = [name.removeprefix(start) for name in folder.files if name.startswith(start)]
    return {name: folder.files[start + name] for name in _of_a_model(names)}


def _of_a_model(names: list[str]) -> list[str]:
    """Of a run its bundle, of other folders the files that lie in them and not deeper."""
    bundle = [name for name in names if name.startswith("bundle/") and name.count("/") == 1]
    return bundle or [name for name in names if "/" not in name]


def _plain(address: str, home: Path) -> Path:
    """Of a folder, or a file, that somebody has copied there."""
    seen = _seen(address)
    for _ in range(TRIES):
        if not seen:
            raise BadInput(f"there is no model at {address}: no file lies there")
        folder = _place(home, address, seen)
        name = address.rpartition("/")[2]
        alone = set(seen) == {name}
        result = folder / name if alone else folder
        if folder.is_dir():
            return result
        _say_fetching(address)
        try:
            with atomic_folder(folder) as temporary:
                for file in seen:
                    make_folder((temporary / file).parent)
                    fetch(address if alone else f"{address}/{file}", temporary / file)
                if _seen(address) != seen:
                    raise NotWhole
            return result
        except (NotWhole, FileNotFoundError):
            seen = _seen(address)
    raise BadInput(f"{address} changes while it is read; try again when it is written")


def _seen(address: str) -> dict[str, str]:
    """The files of the model and a fingerprint of each."""
    bundle = versions(f"{address}/bundle")
    return {f"bundle/{name}": tag for name, tag in bundle.items()} if bundle else versions(address)


def _digests(files: Mapping[str, StoredFile]) -> dict[str, str]:
    return {name: file.sha256 for name, file in files.items()}


def _key(tags: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(sorted(tags.items())).encode()).hexdigest()[:16]


def _place(home: Path, address: str, tags: Mapping[str, str]) -> Path:
    """The folder of one state of the model; its last name is that of the address, for what is said of it."""
    return home / _key(tags) / address.rpartition("/")[2]


def _say_fetching(address: str) -> None:
    if launched().first:
        say(f"fetching {address}")


def _forget_older(home: Path, found: Path) -> None:
    """Keeps the state that is read now, and those that were fetched last before it."""
    states = [path for path in home.iterdir() if path.is_dir() and not found.is_relative_to(path)]
    for old in sorted(states, key=lambda path: path.stat().st_mtime_ns)[: -(KEPT - 1)]:
        remove(old)
