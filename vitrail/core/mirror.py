"""A run folder at an address of an object store: worked on in a folder of this machine's cache, and mirrored there.

The job knows the local folder alone. At the start what the store holds is fetched, unless the local folder goes on from
it. After each checkpoint, and at the end, what has changed is uploaded, by a thread beside the training, which neither
waits for it nor ends when it fails: the next checkpoint tries again.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from vitrail.core.cache import cache_folder
from vitrail.core.dist import launched
from vitrail.core.errors import BadInput, Unreachable
from vitrail.core.locks import lock_or_refuse
from vitrail.core.object_store import is_remote
from vitrail.core.progress import say
from vitrail.core.snapshot import take_snapshot
from vitrail.core.temporary import remove as remove_local
from vitrail.core.uploader import Taken, begin

PATIENCE = 8.0  # seconds that a run here which was told to stop is waited for
TRIES, PAUSE = 3, 2.0  # of the last upload, and seconds between them


@contextmanager
def mirrored(out: str | Path) -> Iterator[Path]:
    """The folder of a run at `out`: a path is itself, of an address it is a local folder that is mirrored there.

    Of several processes the first one mirrors. All of them must see the local folder.

    Raises:
        BadInput: at the start: a run is at work there, or what the store holds is no run or not whole. At the end:
            another run wrote there, or the last upload failed.
        Unreachable: at the start, or of the last upload: the store does not answer.
        OSError: at the start: the store or the disk fails otherwise.
    """
    if not is_remote(str(out)):
        yield Path(out)
        return
    address = str(out).rstrip("/")
    place = cache_folder() / "runs" / sha256(address.encode()).hexdigest()[:16]
    folder = place / address.rpartition("/")[2]
    if not launched().first:
        yield folder
        return
    with lock_or_refuse(place / ".lock", folder, PATIENCE):
        mirror = _Mirror(address, place, folder)
        _open.append(mirror)
        try:
            yield folder
        except BaseException:
            mirror.close(finished=False)
            raise
        finally:
            _open.remove(mirror)
        mirror.close(finished=True)


_open: list["_Mirror"] = []  # of this process


def saved(folder: Path) -> None:
    """Says that a run in `folder` has saved a checkpoint: where it is mirrored, that is uploaded from now on.

    Raises:
        BadInput: another run has written to the address.
    """
    for mirror in _open:
        if folder.is_relative_to(mirror.folder):
            mirror.changed()


class _Mirror:
    """A local folder, its address, and the thread between them."""

    def __init__(self, address: str, place: Path, folder: Path):
        self.address, self.folder = address, folder
        self._uploader = begin(address, place / "claim.json", folder)
        self._snapshots, self._taken = place / "snapshots", 0
        remove_local(self._snapshots)  # of a process that was killed
        self._next: Path | None = None  # a snapshot that waits for the thread
        self._closed, self._failing = False, False
        self._refused: Taken | None = None
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="mirror", daemon=True)
        self._thread.start()

    def changed(self) -> None:
        """Takes a snapshot for the thread, in place of one that it has not begun with; raises what ended it."""
        if self._refused is not None:
            raise self._refused
        with self._wake:
            self._taken += 1
            snapshot = self._snapshots / str(self._taken)
            try:
                take_snapshot(self.folder, snapshot)
            except OSError as problem:
                self._failed(problem)
                return
            if self._next is not None:
                remove_local(self._next)
            self._next = snapshot
            self._wake.notify()

    def close(self, finished: bool) -> None:
        """Uploads what there is at the end; what an unfinished run cannot upload is only said."""
        with self._wake:
            self._closed, self._next = True, None
            self._wake.notify()
        self._thread.join()
        remove_local(self._snapshots)
        problem: Exception | None = self._refused
        for last in range(TRIES) if problem is None else ():
            try:
                self._uploader.upload(self.folder, by_name=finished)
                if finished:  # names that were taken until now
                    self._uploader.upload(self.folder, by_name=True)
                self._uploader.remove_unnamed()
                if self._uploader.state.files:
                    say(f"{self.address} holds what {self.folder} does")
                return
            except Taken as taken:
                problem = taken
                break
            except Exception as failure:
                problem = failure
                time.sleep(PAUSE if last < TRIES - 1 else 0)
        if isinstance(problem, Taken) and finished:
            raise problem
        sentence = (
            f"{self.folder} is whole, but its last changes could not be uploaded to {self.address} ({problem}); "
            "the same command on this machine does it"
        )
        if finished:
            raise Unreachable(sentence) if isinstance(problem, Unreachable) else BadInput(sentence)
        say(str(problem) if isinstance(problem, Taken) else sentence)

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._next is not None or self._closed)
                if self._closed or self._next is None:
                    return
                snapshot, self._next = self._next, None
            try:
                self._uploader.upload(snapshot)
                if self._failing:
                    say(f"{self.address} is up to date again")
                self._failing = False
            except Taken as taken:
                self._refused = taken
                return
            except Exception as problem:  # of any kind: every store has errors of its own
                self._failed(problem)
            remove_local(snapshot)

    def _failed(self, problem: Exception) -> None:
        if not self._failing:
            say(f"not uploaded to {self.address}: {problem}; the run goes on, and tries again after each checkpoint")
        self._failing = True
