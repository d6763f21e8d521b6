"""Names of what is half-written: held by a lock of the system, so that what a killed process left is known for dead."""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vitrail.core.address import refuse_address
from vitrail.core.errors import BadInput

_LEFT = re.compile(r"\.(?P<name>.+)\.\d+\.(?P<kind>tmp|old)(\.\w+)?")


@contextmanager
def temporary_name(form: str, beside: Path, folder: bool = False) -> Iterator[Path]:
    """Yields the first of the names that no other process writes now; there is an empty file or folder of that name.

    The lock goes with the process, so the next writer takes the same name and nothing is left over for ever. Where a
    file system has no locks the number is that of the process.

    Args:
        form: the name, with {} for a number: `.config.{}.tmp.json`.
        beside: what is written; the name lies in the same folder.
    """
    number = 0
    while (held := _hold(path := beside.with_name(form.format(number)), folder)) is None:
        number += 1
    descriptor, locks = held
    try:
        if locks:
            _remove_dead(form, beside, number + 1, folder)
        else:
            remove(path)  # nobody writes it there
            path = beside.with_name(form.format(os.getpid()))
        _make_empty(path, folder)
        yield path
    finally:
        _let_go(descriptor)


def refuse_existing(path: Path) -> None:
    """Raises BadInput where `path` is there already."""
    if not path.exists():
        return
    mark = _mark(path)
    if mark.exists() and (held := _hold(mark, folder=False)) is not None:  # of one that was killed at its end
        mark.unlink()
        _let_go(held[0])
    raise BadInput(f"{path} exists already: give a new name, nothing is written over")


@contextmanager
def writing_alone(path: Path) -> Iterator[None]:
    """Keeps others from writing `path`, which is new, by a file beside it that is there only as long.

    Raises:
        BadInput: another process writes it, or has just done so; or its name was made of an address.
    """
    refuse_address(path, "what is to be written")
    mark = _mark(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    held = _hold(mark, folder=False)
    if held is None:
        raise BadInput(f"{path} is being written by another process that is still running")
    try:
        if path.exists():
            raise BadInput(f"{path} exists already: give a new name, nothing is written over")
        yield
    finally:
        mark.unlink(missing_ok=True)
        _let_go(held[0])


def _mark(path: Path) -> Path:
    return path.with_name(f".{path.name}.0.tmp.lock")


def _hold(path: Path, folder: bool) -> tuple[int, bool] | None:
    """Opens a name, which is made where it is absent, and locks it: the descriptor, and whether there are locks here.

    None where another process holds it, or has given it its final name meanwhile.
    """
    if folder:
        path.mkdir(exist_ok=True)
    try:
        descriptor = os.open(path, (os.O_RDONLY if folder else os.O_RDWR | os.O_CREAT) | os.O_CLOEXEC, 0o666)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(path.stat(), os.fstat(descriptor)):
            return descriptor, True
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:
        return descriptor, False
    _let_go(descriptor)
    return None


def _let_go(descriptor: int) -> None:
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # of children that inherited it, too
    os.close(descriptor)


def _make_empty(path: Path, folder: bool) -> None:
    """A file is emptied by who writes it."""
    if folder:
        path.mkdir(exist_ok=True)
        for inside in path.iterdir():
            remove(inside)


def _remove_dead(form: str, beside: Path, number: int, folder: bool) -> None:
    """Names after ours, of several writers at once of whom one was killed."""
    while (path := beside.with_name(form.format(number))).exists():
        held = _hold(path, folder)
        if held is not None:
            remove(path)
            _let_go(held[0])
        number += 1


def remove(path: Path) -> None:
    """A file, or a folder with what is in it; or nothing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def bring_back(old: Path, path: Path) -> None:
    """A folder that was put aside for another takes its name again where that other never did; else it is removed."""
    if old.is_dir() and not path.exists():
        os.replace(old, path)
    else:
        remove(old)


def remove_leftovers(folder: Path) -> None:
    """Removes what a kill left half-written in `folder` and below; only for who alone writes there."""
    for path in sorted(folder.rglob(".*")):
        if match := _LEFT.fullmatch(path.name):
            if match["kind"] == "old":
                bring_back(path, path.with_name(match["name"]))
            else:
                remove(path)
