"""Folders and files that answer one question: asked again they go on, and another question is refused."""

import dataclasses
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vitrail.core.config import difference, from_json
from vitrail.core.errors import BadInput
from vitrail.core.locks import Lock, lock_or_refuse
from vitrail.core.temporary import remove_leftovers

LOCK = ".lock"  # in a folder that one process at a time may write


def claim_folder(path: Path, wait: float = 0.0) -> Lock:
    """Makes the folder, keeps other processes out of it, and removes what a kill left half-written there.

    Args:
        wait: seconds to wait for a process that is at work there.

    Raises:
        BadInput: it is a file, or in use.
    """
    if path.exists() and not path.is_dir():
        raise BadInput(f"{path} is a file, expected a folder or a new name")
    lock = lock_or_refuse(path / LOCK, path, wait)
    remove_leftovers(path)
    return lock


@contextmanager
def alone_in(folder: Path | None) -> Iterator[None]:
    """While it lasts, others that write there wait, so that all files are those of one of them; None: nothing is."""
    if folder is None:
        yield
        return
    new = not folder.exists()
    lock = claim_folder(folder, wait=-1.0)
    try:
        yield
    except BaseException:
        if new and [place.name for place in folder.iterdir()] == [LOCK]:
            shutil.rmtree(folder)  # nothing was written
        raise
    finally:
        lock.release()


def refuse_another(place: Path, stored: Any, question: Any, what: str, advice: str) -> None:
    """Refuses what answers another question than `question`, with the difference.

    Args:
        stored: the question that `place` answers, as JSON.
        question: a config, or JSON.
        what: the start of the sentence, such as "runs/a holds another task".

    Raises:
        BadInput: another question, or one that this version of vitrail cannot read.
    """
    try:
        old = from_json(type(question), stored) if dataclasses.is_dataclass(question) else stored
    except BadInput as problem:
        raise BadInput(f"{place} was written by another version of vitrail ({problem}); {advice}") from None
    if changes := difference(old, question):
        raise BadInput(f"{what} ({'; '.join(changes)}); {advice}")
