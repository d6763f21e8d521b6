"""One process at a time on a file or folder: locks that the system takes from a process that dies."""

from pathlib import Path

from filelock import FileLock, Timeout

from vitrail.core.errors import BadInput
from vitrail.core.files import make_folder


class Lock:
    """A lock that this process holds until `release`, or for the length of a `with` block."""

    def __init__(self, held: FileLock):
        self._held = held

    def release(self) -> None:
        """Lets others have it."""
        self._held.release()

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def try_lock(path: Path, wait: float = 0.0) -> Lock | None:
    """Locks the file `path`, which stays there when the lock is released; None where somebody else holds it.

    Processes that are forked while it is held do not share it. On a file system without locks nobody can be told
    apart, and everybody gets it.

    Args:
        wait: seconds to wait for whoever holds it; -1: as long as it takes.

    Raises:
        OSError: the file cannot be written.
    """
    make_folder(path.parent)
    path.touch()  # what cannot be written fails here, so what fails below is the locking
    lock = FileLock(path, wait, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        return None
    except OSError:
        pass
    return Lock(lock)


def lock_or_wait(path: Path) -> Lock:
    """`try_lock`, however long it takes."""
    lock = try_lock(path, wait=-1.0)
    assert lock is not None
    return lock


def lock_or_refuse(path: Path, what: Path, wait: float = 0.0) -> Lock:
    """`try_lock`, or BadInput which says that `what` is in use."""
    lock = try_lock(path, wait)
    if lock is None:
        raise BadInput(f"{what} is in use by another process that is still running")
    return lock
