"""A folder in an object store that is whole at any moment: one object, `mirror.json`, says which objects are its files.

An object appears whole, and alone; a folder does not. So what a file holds lies in an object that is named by its
digest and never written over, and `mirror.json`, which is written last, says which object is which file. Who reads
trusts only what it says; what it does not name is a writer's that was killed.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath

from vitrail.core.config import from_json
from vitrail.core.digests import sealed, sha256_of, unsealed
from vitrail.core.errors import BadInput
from vitrail.core.files import atomic_folder, link_or_copy, make_folder
from vitrail.core.object_store import check_address, fetch, put, read

NAME = "mirror.json"
FORMAT = 1
_BY_DIGEST = re.compile(r".*\.[0-9a-f]{16}(\.[^./]*)?")


@dataclass(frozen=True)
class StoredFile:
    """A file of the folder."""

    object: str  # the name of the object that holds it, below the address
    size: int  # bytes
    sha256: str


@dataclass(frozen=True)
class StoredFolder:
    """What `mirror.json` says: who wrote it, how often it was written, and the files by their names."""

    owner: str = ""
    count: int = 0
    files: Mapping[str, StoredFile] = field(default_factory=dict)


class NotWhole(Exception):
    """An object is missing or is not the one that was named."""


def read_folder(address: str) -> StoredFolder | None:
    """What the store holds at an address; None where there is no `mirror.json`.

    Raises:
        BadInput: it is damaged, or of another version of vitrail, or no store has such an address.
        OSError: the store cannot be asked.
    """
    check_address(address)  # as it was given, without the name of an object
    data = read(f"{address}/{NAME}")
    if data is None:
        return None
    try:
        said = json.loads(data)
        if not isinstance(said, dict):
            raise BadInput("it holds no object")
        said = unsealed(said, Path(NAME))
        if said.pop("format", None) != FORMAT:
            raise BadInput(f"this vitrail reads the format {FORMAT}")
        found: StoredFolder = from_json(StoredFolder, said)
        for name in found.files:
            _check_name(name)
    except (ValueError, RecursionError) as problem:  # one of them is BadInput
        raise BadInput(f"{address}/{NAME} cannot be read: {problem}") from None
    return found


def write_folder(address: str, folder: StoredFolder) -> None:
    """From here on the address holds these files, whose objects are there; raises OSError where the store fails."""
    said = sealed({"format": FORMAT, **asdict(folder)})
    put(f"{address}/{NAME}", (json.dumps(said, indent=1, ensure_ascii=False) + "\n").encode())


def object_by_digest(name: str, sha256: str) -> str:
    """The object of a file: `metrics.jsonl` is `metrics.0123456789abcdef.jsonl`."""
    path = PurePosixPath(name)
    return str(path.with_name(f"{path.stem}.{sha256[:16]}{path.suffix}"))


def is_by_digest(name: str) -> bool:
    """Whether an object has such a name."""
    return bool(_BY_DIGEST.fullmatch(name))


def fetch_files(address: str, files: Mapping[str, StoredFile], folder: Path) -> None:
    """Makes a folder of this machine hold these files of an address; it is whole, or as it was before.

    What is there already and has the digest is not fetched again.

    Raises:
        NotWhole: an object is missing or is something else; `mirror.json` may have been written meanwhile.
        OSError: the store or the disk fails.
    """
    with atomic_folder(folder) as temporary:
        for name, file in files.items():
            _fetch_file(address, file, temporary / name, folder / name)


def _fetch_file(address: str, file: StoredFile, to: Path, there: Path) -> None:
    make_folder(to.parent)
    if there.is_file() and there.stat().st_size == file.size and sha256_of(there) == file.sha256:
        link_or_copy(there, to)
        return
    try:
        fetch(f"{address}/{file.object}", to)
    except FileNotFoundError as problem:
        raise NotWhole(str(problem)) from None
    if sha256_of(to) != file.sha256:
        raise NotWhole(f"{file.object} has another digest than {NAME} says")


def _check_name(name: str) -> None:
    """Raises BadInput for names that would lie elsewhere than in the folder, or that are no file's."""
    parts = name.split("/")
    if name.startswith("/") or "\0" in name or any(part in ("", ".", "..") or part.startswith(".") for part in parts):
        raise BadInput(f"it names {name!r}, which is no file of a folder")
