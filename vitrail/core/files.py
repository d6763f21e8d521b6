"""Files that are whole or absent: written to a temporary name, synced, and renamed."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vitrail.core.address import refuse_address
from vitrail.core.errors import BadInput
from vitrail.core.temporary import bring_back, temporary_name


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it where they are absent; their names survive a power cut.

    Raises:
        BadInput: its name was made of an address (`s3://bucket/a`).
    """
    refuse_address(folder, "a folder to write")
    absent = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for place in absent:
        sync_folder(place.parent)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary name beside `path`, absolute; when the block ends well it is synced and takes the name `path`.

    When the block fails, the temporary file is removed and whatever was at `path` stays as it was. What a killed
    process left half-written is overwritten by the next that writes `path`.
    """
    path = Path(path).absolute()  # some writers (pyarrow's) take the relative `lr:0.1/a.parquet` for an address
    make_folder(path.parent)
    # the suffix stays last: some writers (np.savez) choose by it or append their own
    with temporary_name(f".{path.stem}.{{}}.tmp{path.suffix}", path) as temporary:
        try:
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    sync_folder(path.parent)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Like `atomic_path` for a folder; an older folder of that name is replaced only when the new one is complete."""
    path = Path(path)
    make_folder(path.parent)
    with temporary_name(f".{path.name}.{{}}.tmp", path, folder=True) as temporary:
        old = temporary.with_suffix(".old")
        bring_back(old, path)  # of a process that was killed between the two renames below
        try:
            yield temporary
            for place in temporary.rglob("*"):
                if place.is_dir():
                    sync_folder(place)
                elif place.is_file():
                    with open(place, "rb") as opened:
                        os.fsync(opened.fileno())
            sync_folder(temporary)
            _replace_folder(temporary, path, old)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    sync_folder(path.parent)


def _replace_folder(new: Path, path: Path, old: Path) -> None:
    if not path.exists():
        os.replace(new, path)
        return
    os.replace(path, old)
    try:
        os.replace(new, path)
    except OSError:
        os.replace(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def link_or_copy(file: Path, to: Path) -> None:
    """The same file under another name where the disk can, otherwise a copy."""
    try:
        os.link(file, to)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copy2(file, to)


def write_text_atomic(path: Path, text: str) -> None:
    """Writes UTF-8 text."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes JSON; NaN and infinity are refused, because other readers refuse them too."""
    write_text_atomic(path, json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads JSON, or raises BadInput with the file's name and where it is broken."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist") from None
    except (ValueError, RecursionError) as problem:  # one of them is UnicodeDecodeError
        raise BadInput(f"{path} is not valid JSON: {problem}") from None
