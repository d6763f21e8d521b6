"""A run folder at an address of an object store: worked on in a folder of this machine's cache, and mirrored there.

The job knows the local folder alone. At the start what the store holds is fetched, unless the local folder goes on from
it. After each checkpoint, and at the end, what has changed is uploaded, by a thread beside the training, which neither
waits for it nor ends when it fails: the next checkpoint tries again.

A store has no locks. Each start has a token, which `mirror.json` carries: a run that finds another's there stops.
"""

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from vitrail.core.cache import cache_folder
from vitrail.core.digests import sha256_of
from vitrail.core.dist import launched
from vitrail.core.errors import BadInput
from vitrail.core.files import read_json, write_json
from vitrail.core.locks import lock_or_refuse
from vitrail.core.object_store import below, is_remote, put, remove
from vitrail.core.progress import say
from vitrail.core.snapshot import files_of, take_snapshot
from vitrail.core.stored_folder import (
    NAME,
    NotWhole,
    StoredFile,
    StoredFolder,
    fetch_files,
    is_by_digest,
    object_by_digest,
    read_folder,
    write_folder,
)
from vitrail.core.temporary import remove as remove_local

PATIENCE = 8.0  # seconds that a run here which was told to stop is waited for
TRIES, PAUSE = 3, 2.0  # of the last upload, and seconds between them


@contextmanager
def mirrored(out: str | Path) -> Iterator[Path]:
    """The folder of a run at `out`: a path is itself, of an address it is a local folder that is mirrored there.

    Of several processes the first one mirrors. All of them must see the local folder.

    Raises:
        BadInput: at the start: a run is at work there, or what the store holds is no run or not whole. At the end:
            another run wrote there, or the last upload failed.
        OSError: at the start: the store cannot be read or written.
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


class _Taken(BadInput):
    """Another run has written to the address."""


class _Mirror:
    """A local folder, its address, and the thread between them."""

    def __init__(self, address: str, place: Path, folder: Path):
        self.address, self.folder = address, folder
        self._uploader = _Uploader(address, _start(address, place / "claim.json", folder), place / "claim.json")
        self._snapshots, self._taken = place / "snapshots", 0
        remove_local(self._snapshots)  # of a process that was killed
        self._next: Path | None = None  # a snapshot that waits for the thread
        self._closed, self._failing = False, False
        self._refused: _Taken | None = None
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
            except _Taken as taken:
                problem = taken
                break
            except Exception as failure:
                problem = failure
                time.sleep(PAUSE if last < TRIES - 1 else 0)
        if isinstance(problem, _Taken) and finished:
            raise problem
        sentence = (
            f"{self.folder} is whole, but its last changes could not be uploaded to {self.address} ({problem}); "
            "the same command on this machine does it"
        )
        if finished:
            raise BadInput(sentence)
        say(str(problem) if isinstance(problem, _Taken) else sentence)

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
            except _Taken as taken:
                self._refused = taken
                return
            except Exception as problem:  # of any kind: every store has errors of its own
                self._failed(problem)
            remove_local(snapshot)

    def _failed(self, problem: Exception) -> None:
        if not self._failing:
            say(f"not uploaded to {self.address}: {problem}; the run goes on, and tries again after each checkpoint")
        self._failing = True


def _start(address: str, claim: Path, folder: Path) -> StoredFolder:
    """Makes the local folder what the store holds, unless it goes on from that, and writes there whose it is now."""
    known: dict[str, Any] = read_json(claim) if claim.exists() else {"owners": [], "count": 0}
    found = read_folder(address)
    here = folder.is_dir() and bool(files_of(folder))
    if found is None and below(address):
        raise BadInput(f"{address} holds other objects and no run; give a new address")
    if found is None and here and known["owners"]:
        raise BadInput(
            f"{address} does not hold the run any more that {folder} is the copy of: remove that folder to begin anew, "
            "or copy it elsewhere and go on there"
        )
    goes_on = here and found is not None and found.owner in known["owners"] and found.count <= known["count"]
    while found is not None and found.files and not goes_on:
        say(f"fetching {address} to {folder}")
        problem = ""
        try:
            fetch_files(address, found.files, folder)
        except NotWhole as missing:
            problem = str(missing)
        now = read_folder(address)
        goes_on = now == found
        if goes_on and problem:
            raise BadInput(f"{address} is not whole: {problem}")
        found = now  # where it was written meanwhile, once more
    state = replace(found or StoredFolder(), owner=secrets.token_hex(8))
    return _write(address, state, claim, known["owners"])


def _write(address: str, state: StoredFolder, claim: Path, before: list[str]) -> StoredFolder:
    """The state, written and with its number. Here it is known first: a kill does not make this folder an older one."""
    state = replace(state, count=state.count + 1)
    write_json(claim, {"owners": [*before, state.owner], "count": state.count})
    write_folder(address, state)
    if before:
        write_json(claim, {"owners": [state.owner], "count": state.count})
    return state


@dataclass
class _Uploader:
    """Makes an address hold what a folder holds; `state` is what `mirror.json` says."""

    address: str
    state: StoredFolder
    claim: Path

    def __post_init__(self) -> None:
        self._digests: dict[tuple[int, int, int], str] = {}

    def upload(self, folder: Path, by_name: bool = False) -> None:
        """First the objects, then `mirror.json`, and only then what it no longer names is removed.

        A kill leaves the state before or the new one, each with all of its objects.

        Args:
            by_name: objects get the names of their files, for other programs, where nothing else has them. Not those of
                checkpoints, which are large and which nobody else reads.

        Raises:
            _Taken: the address is another run's.
            OSError: the store fails.
        """
        self._refuse_another()
        digests, files = {}, {}
        for name in sorted(files_of(folder), key=lambda name: (name.endswith(("state.json", "result.json")), name)):
            about = (folder / name).stat()
            key = (about.st_ino, about.st_mtime_ns, about.st_size)
            digests[key] = self._digests.get(key) or sha256_of(folder / name)
            own_name = by_name and "checkpoints" not in name.split("/")
            files[name] = self._stored(folder / name, name, about.st_size, digests[key], own_name)
        self._digests = digests
        if files == self.state.files:
            return
        self._refuse_another()
        before = self._objects()
        self.state = _write(self.address, replace(self.state, files=files), self.claim, [])
        for name in sorted(before - self._objects()):
            remove(f"{self.address}/{name}")

    def remove_unnamed(self) -> None:
        """Removes the objects that killed uploads have left; where that fails they stay, which is said."""
        try:
            for name in set(below(self.address)) - self._objects():
                if is_by_digest(name):
                    remove(f"{self.address}/{name}")
        except (BadInput, OSError) as problem:
            say(f"what killed uploads have left at {self.address} stays there: {problem}")

    def _stored(self, file: Path, name: str, size: int, digest: str, own_name: bool) -> StoredFile:
        """The object of a file, which is uploaded unless the state has it."""
        known = self.state.files.get(name)
        same = known is not None and known.sha256 == digest
        if known is not None and same and not (own_name and known.object != name):
            return known
        free = own_name and name not in self._objects()
        made = StoredFile(name if free else object_by_digest(name, digest), size, digest)
        if made != known:
            put(f"{self.address}/{made.object}", file)
        return made

    def _objects(self) -> set[str]:
        return {file.object for file in self.state.files.values()}

    def _refuse_another(self) -> None:
        found = read_folder(self.address)
        if found is None:
            raise _Taken(f"{self.address}/{NAME} was removed while a run was mirrored there, which stops")
        if found.owner != self.state.owner:
            raise _Taken(
                f"another run has written to {self.address} since this one did, and two would undo each other's work: "
                "this one stops, the other goes on"
            )
        self.state = found  # a write that seemed to fail may have come to its end
