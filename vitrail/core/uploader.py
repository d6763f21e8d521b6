"""What makes an address of an object store hold what a folder of this machine holds; one upload at a time.

A store has no locks. Each start has a token, which `mirror.json` carries: an uploader that finds another's there stops.
What this machine has written to an address is in `claim.json`, beside its folder: so it knows whether that folder goes
on from what the store holds.
"""

import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vitrail.core.digests import sha256_of
from vitrail.core.errors import BadInput
from vitrail.core.files import read_json, write_json
from vitrail.core.object_store import below, put, remove
from vitrail.core.progress import say
from vitrail.core.snapshot import files_of
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


class Taken(BadInput):
    """Another run has written to the address."""


def begin(address: str, claim: Path, folder: Path) -> "Uploader":
    """Makes the local folder what the store holds, unless it goes on from that, and writes there whose it is now.

    Args:
        claim: the file of this machine that says what it has written to the address.

    Raises:
        BadInput: the address holds no run, one that is not whole, or none any more.
        OSError: the store or the disk fails.
    """
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
    return Uploader(address, _write(address, state, claim, known["owners"]), claim)


def _write(address: str, state: StoredFolder, claim: Path, before: list[str]) -> StoredFolder:
    """The state, written and with its number. Here it is known first: a kill does not make this folder an older one."""
    state = replace(state, count=state.count + 1)
    write_json(claim, {"owners": [*before, state.owner], "count": state.count})
    write_folder(address, state)
    if before:
        write_json(claim, {"owners": [state.owner], "count": state.count})
    return state


@dataclass
class Uploader:
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
            Taken: the address is another run's.
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
            raise Taken(f"{self.address}/{NAME} was removed while a run was mirrored there, which stops")
        if found.owner != self.state.owner:
            raise Taken(
                f"another run has written to {self.address} since this one did, and two would undo each other's work: "
                "this one stops, the other goes on"
            )
        self.state = found  # a write that seemed to fail may have come to its end
