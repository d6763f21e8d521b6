"""What a power cut takes: the length of files beyond their last fsync, and names whose folder was not synced since.

The most that POSIX allows, folder by folder: a name is safe once the folder in which it lies was synced after it, and
the bytes of a file once the file was. Everything else is undone, the last first.
"""

import os
import shutil
from pathlib import Path


class Disk:
    """A folder as the journal of the interposer has it, and the kept second names of what was removed."""

    def __init__(self, root: Path, journal: Path, shadow: Path):
        self.root, self.shadow = root, shadow
        self.rows = [line.split("\t") for line in journal.read_text().splitlines()] if journal.exists() else []
        self.again: dict[int, int] = {}  # folders that were made again: their numbers

    def lose(self) -> int:
        """Undoes what was not synced; returns how many operations that were."""
        pending: list[list[str]] = []
        safe: dict[int, int] = {}
        for row in self.rows:
            match row:
                case ["create" | "unlink" | "rmdir" | "rename", *_]:
                    pending.append(row)
                case ["names", folder]:
                    pending = [one for one in pending if _folder(one) != folder]
                case ["dirty", number, length]:
                    safe[int(number)] = min(safe.get(int(number), int(length)), int(length))
                case ["synced", number, length]:
                    safe[int(number)] = int(length)
        for row in reversed(pending):
            self._undo(row)
        for path in [p for p in self.root.rglob("*") if p.is_file() and not p.is_symlink()]:
            about = path.stat()
            if about.st_size > safe.get(about.st_ino, about.st_size):
                os.truncate(path, safe[about.st_ino])
        return len(pending)

    def _undo(self, row: list[str]) -> None:
        match row:
            case ["create", folder, name]:
                if path := self._path(folder, name):
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
            case ["unlink", folder, name, _, kept]:
                self._bring_back(self._path(folder, name), int(kept))
            case ["rmdir", folder, name, number]:
                if (path := self._path(folder, name)) and not path.exists():
                    path.mkdir()
                    self.again[int(number)] = path.stat().st_ino
            case ["rename", old, was, new, name, kept, _]:
                source, target = self._path(old, was), self._path(new, name)
                if source and target and target.exists() and not source.exists():
                    target.rename(source)
                    self._bring_back(target, int(kept))

    def _bring_back(self, path: Path | None, kept: int) -> None:
        if path and kept and not path.exists():
            os.link(self.shadow / str(kept), path)

    def _path(self, folder: str, name: str) -> Path | None:
        """Where the name lies now: folders keep their numbers when they get other names."""
        number = int(folder)
        number = self.again.get(number, number)
        for place in [self.root, *(p for p in self.root.rglob("*") if p.is_dir() and not p.is_symlink())]:
            if place.stat().st_ino == number:
                return place / name
        return None


def _folder(row: list[str]) -> str:
    """The number of the folder whose sync makes an operation safe; of a rename that of the new name."""
    return row[3] if row[0] == "rename" else row[1]
