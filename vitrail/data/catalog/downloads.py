"""Data sets from their official place: fetched once, verified, unpacked whole or not at all."""

import hashlib
import os
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

from vitrail.core.errors import BadInput
from vitrail.core.files import atomic_folder
from vitrail.core.locks import lock_or_wait
from vitrail.core.progress import progress, say

_PIECE = 1 << 20
_PATIENCE = 30.0  # seconds without a byte


@dataclass(frozen=True)
class Archive:
    """A file of the official place, and the MD5 that is known of it there. It is unpacked when it is an archive."""

    url: str
    md5: str

    @property
    def name(self) -> str:
        """What the file is called."""
        return self.url.rpartition("/")[2]


def offline() -> bool:
    """Whether nothing is to be downloaded: VITRAIL_OFFLINE is set (and not 0)."""
    return os.environ.get("VITRAIL_OFFLINE", "0") not in ("", "0")


def fetch(archives: tuple[Archive, ...], folder: Path) -> None:
    """Makes `folder` hold what the archives hold. Other processes that want the same wait for this one.

    A download that was cut off goes on where it stopped, where the server can.

    Raises:
        BadInput: no network, or a file that is not the expected one.
    """
    if folder.exists():
        return
    try:
        lock = lock_or_wait(folder.with_name(f".{folder.name}.lock"))
    except OSError as problem:
        raise BadInput(f"{folder} cannot be written: {problem.strerror}") from None
    with lock:
        if folder.exists():  # another process was faster
            return
        files = [_download(archive, folder.with_name(f".{folder.name}.{archive.name}.part")) for archive in archives]
        say(f"unpacking {folder.name}")
        with atomic_folder(folder) as temporary:
            for archive, file in zip(archives, files, strict=True):
                _unpack(file, archive.name, temporary)
        for file in files:
            file.unlink()


def _download(archive: Archive, part: Path) -> Path:
    """Fetches to `part`, and verifies it whole."""
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(archive.url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:
            goes_on = answer.status == 206
            done = done if goes_on else 0
            total = done + int(answer.headers.get("Content-Length") or 0)
            with open(part, "ab" if goes_on else "wb") as file, progress(archive.name, max(1, total >> 20)) as bar:
                while piece := answer.read(_PIECE):
                    file.write(piece)
                    bar.advance(f"{file.tell() >> 20:,} MiB")
                if file.tell() < total:
                    raise OSError(
                        f"the answer was cut off at {file.tell():,} of {total:,} bytes; the same command goes on"
                    )
    except urllib.error.HTTPError as problem:
        problem.close()
        if problem.code != 416:  # the part is whole already, or too long: the sum tells
            raise BadInput(f"{archive.url} could not be downloaded: {problem}") from None
    except OSError as problem:
        reason = getattr(problem, "reason", None) or problem
        raise BadInput(f"{archive.url} could not be downloaded: {reason}") from None
    found = _md5(part)
    if found != archive.md5:
        part.unlink()
        raise BadInput(f"{archive.url} is not the file that is known: its MD5 is {found}, expected {archive.md5}")
    return part


def _md5(file: Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _unpack(file: Path, name: str, folder: Path) -> None:
    """Unpacks below `folder`; nothing can be written outside of it."""
    try:
        if name.endswith((".tar.gz", ".tgz", ".tar")):
            with tarfile.open(file) as tar:
                _unpack_tar(tar, folder)
        elif name.endswith(".zip"):
            with zipfile.ZipFile(file) as archive:
                archive.extractall(folder)  # drops what leads outside of a name
        else:
            shutil.copyfile(file, folder / name)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as problem:
        raise BadInput(f"{name} cannot be unpacked: {problem}") from None


def _unpack_tar(tar: tarfile.TarFile, folder: Path) -> None:
    """Refuses links and names that lead outside; Python has no filter for it before 3.11.4 (Debian 12 has 3.11.2)."""
    if hasattr(tarfile, "data_filter"):
        tar.extractall(folder, filter="data")
        return
    for member in tar:
        if not (member.isfile() or member.isdir()):
            raise tarfile.TarError(f"{member.name!r} is neither a file nor a folder")
        member.name = member.name.lstrip("/")
        if not (folder / member.name).resolve().is_relative_to(folder.resolve()):
            raise tarfile.TarError(f"{member.name!r} would be outside of the folder")
        tar.extract(member, folder, set_attrs=False)
