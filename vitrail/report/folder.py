"""Lenient reading of a folder: what is missing is None, what is damaged is None and named in `problems`."""

import json
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from vitrail.core.estimate import Interval, wilson
from vitrail.core.numbers import known

Json = dict[str, Any]


@dataclass(frozen=True)
class Folder:
    """The files of one run, evaluation or inspection; an unfinished run has only some of them."""

    path: Path
    problems: list[str] = field(default_factory=list)

    def within(self, name: object) -> "Folder | None":
        """A folder inside this one, sharing its list of problems; None where it is absent or would lie outside."""
        if not isinstance(name, str) or not name:
            return None
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts or not (self.path / name).is_dir():
            return None
        return Folder(self.path / name, self.problems)

    def has(self, name: str) -> bool:
        return (self.path / name).is_file()

    def json(self, name: str) -> Json | None:
        """The object in a JSON file."""
        if not self.has(name):
            return None
        try:
            content = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            self._problem(name, str(error))
            return None
        if not isinstance(content, dict):
            self._problem(name, "it holds no JSON object")
            return None
        return content

    def rows(self, name: str) -> list[Json]:
        """The objects of a JSON-lines file; a torn line (the process died while it wrote) is left out."""
        if not self.has(name):
            return []
        rows = []
        for line in (self.path / name).read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                rows.append(row)
        return rows

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of an .npz file, read without pickle; those that cannot be read are left out."""
        if not self.has(name):
            return {}
        arrays = {}
        try:
            # Opened here, because numpy leaves its own file open when the archive is damaged.
            with open(self.path / name, "rb") as file, np.load(file, allow_pickle=False) as content:
                for key in content.files:
                    arrays[key] = content[key]
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            self._problem(name, str(error))
        return arrays

    def _problem(self, name: str, reason: str) -> None:
        self.problems.append(f"{(self.path / name).name} in {self.path.name} could not be read: {reason}")


def objects(value: object) -> list[Json]:
    """The objects of a JSON list; an empty list where it is absent or null."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def texts(value: object) -> list[str]:
    """The items of a JSON list as text: class names may have been written as numbers."""
    return [str(item) for item in value] if isinstance(value, list) else []


def pair(value: object) -> tuple[int, int] | None:
    """Two whole numbers of a JSON list, such as a grid; None for anything else."""
    if isinstance(value, list) and len(value) == 2 and all(known(side) for side in value):
        return int(value[0]), int(value[1])
    return None


def share_interval(share: Any, count: Any) -> Interval | None:
    """Wilson's 95 % interval of a share of `count` images, for rows that carry none; None where either is not known."""
    return wilson(share * count, count) if known(share) and known(count) and count > 0 else None
