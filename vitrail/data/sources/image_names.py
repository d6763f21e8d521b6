"""Images as tables name them: without a suffix, without their folder, with backslashes; found among the files."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as compute

from vitrail.core.errors import BadInput
from vitrail.core.object_store import is_remote
from vitrail.core.progress import say
from vitrail.data.sources.image_folder import images_below
from vitrail.data.sources.skipped import Skipped
from vitrail.data.sources.split_names import meaning

_TRIED = 8  # first names of a table: where one of them exists, names are paths


class ImageNames:
    """The images below the folder of a table, listed when a name is no path."""

    def __init__(self, file: str):
        self.file, self.remote = file, is_remote(file)
        self.root = Path(file).parent
        self._by_name: dict[bytes, list[bytes]] | None = None

    def exists(self, name: str) -> bool:
        """Whether a name is a path of a file, or would be one of an image if a folder and a suffix were added."""
        return not self.remote and bool(name) and (self._is_path(name) or bool(self._found(os.fsencode(name))))

    def _is_path(self, name: str) -> bool:
        try:
            return (self.root / name).is_file()
        except (OSError, ValueError):
            return False

    def resolved(self, names: pa.LargeBinaryArray) -> pa.LargeBinaryArray:
        """Paths of the names; a name that is found nowhere stays, and will be a broken image.

        Raises:
            BadInput: a name that may be several images.
        """
        first = [os.fsdecode(name) for name in names.slice(0, _TRIED).to_pylist()]
        if self.remote or any(self._is_path(name) for name in first):
            return names
        if (shorter := self._of_another_machine(first)) and all(name.startswith(shorter) for name in first):
            say(f"{self.file}: {shorter} is not on this machine; what follows it lies beside the table")
            return compute.replace_substring_regex(
                names, pattern=b"^" + re.escape(os.fsencode(shorter)), replacement=b""
            )
        if any("\\" in name for name in first):
            turned = compute.replace_substring(names, pattern=b"\\", replacement=b"/")
            if any(self._is_path(name.replace("\\", "/")) for name in first):
                return turned
            names = turned
        found = [self._found(name) for name in names.to_pylist()] if any(map(self.exists, first)) else []
        if not any(found):
            return names
        several = next((i for i, paths in enumerate(found) if len(paths) > 1), None)
        if several is not None:
            choice = " or ".join(os.fsdecode(path) for path in found[several][:2])
            raise BadInput(
                f"{self.file}: row {several + 1}, {os.fsdecode(names[several].as_py())!r}, may be {choice}: write the "
                "folder into the table"
            )
        paths = [paths[0] if paths else name for paths, name in zip(found, names.to_pylist(), strict=True)]
        say(f"{self.file}: {os.fsdecode(names[0].as_py())!r} is read as {os.fsdecode(paths[0])}, and so on")
        return pa.array(paths, type=pa.large_binary())

    def _of_another_machine(self, names: list[str]) -> str:
        """The beginning of paths without which they are files here; empty where there is none."""
        for name in names:
            for i, sign in enumerate(name):
                if sign == "/" and self._is_path(name[i + 1 :]):
                    return name[: i + 1]
        return ""

    def _found(self, name: bytes) -> list[bytes]:
        """The images of that name, with or without their suffix; of several those in a folder of the table's split."""
        if self._by_name is None:
            self._by_name = {}
            for path in images_below(os.fsencode(self.root), b"", [], Skipped()):
                for key in _keys(path):
                    self._by_name.setdefault(key, []).append(path)
        name = name.replace(b"\\", b"/").removeprefix(b"./")
        paths = [
            path
            for path in self._by_name.get(name.rpartition(b"/")[2], [])
            if f"/{os.fsdecode(path)}".endswith(f"/{os.fsdecode(name)}")
            or f"/{os.path.splitext(os.fsdecode(path))[0]}".endswith(f"/{os.fsdecode(name)}")  # noqa: PTH122
        ]
        split = meaning(Path(self.file).stem)
        own = [path for path in paths if split and meaning(os.fsdecode(path.split(b"/")[0])) == split]
        return own or paths


def _keys(path: bytes) -> Iterable[bytes]:
    base = path.rpartition(b"/")[2]
    return {base, os.path.splitext(base)[0]}  # noqa: PTH122
