"""An object store in memory (`memory://`) that remembers what was done to it, and fails when it is told to."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem


class Change(NamedTuple):
    """Of one object; None: removed."""

    name: str
    data: bytes | None


class FakeStore:
    """Objects appear whole. After `allowed` changes more, each of them and each reading fails."""

    def __init__(self, patch: pytest.MonkeyPatch):
        self.changes: list[Change] = []
        self.allowed: int | None = None
        self.fetched: list[str] = []
        self.after_fetch: Callable[[str], None] = lambda name: None
        self.before_change: Callable[[str], None] = lambda name: None
        self.system = fsspec.filesystem("memory")
        pipe, remove, read = MemoryFileSystem.pipe_file, MemoryFileSystem._rm, MemoryFileSystem.cat_file

        def changed(name: str, data: bytes | None) -> None:
            self.before_change(name)
            self._refuse()
            if self.allowed is not None:
                self.allowed -= 1
            self.changes.append(Change(name, data))

        def pipe_file(system: Any, path: str, value: bytes, **more: Any) -> None:
            changed(path, bytes(value))
            pipe(system, path, value, **more)

        def put_file(system: Any, file: str, path: str, **_: Any) -> None:
            pipe_file(system, path, Path(file).read_bytes())

        def rm_file(system: Any, path: str) -> None:
            changed(path, None)
            remove(system, path)

        def cat_file(system: Any, path: str, **more: Any) -> bytes:
            self._refuse()
            return read(system, path, **more)

        def get_file(system: Any, path: str, to: str, **_: Any) -> None:
            self.fetched.append(path)
            Path(to).write_bytes(cat_file(system, path))
            self.after_fetch(path)

        for function in (pipe_file, put_file, rm_file, cat_file, get_file):
            patch.setattr(MemoryFileSystem, function.__name__, function, raising=False)
        patch.setattr(MemoryFileSystem, "store", {})
        patch.setattr(MemoryFileSystem, "pseudo_dirs", [""])

    def _refuse(self) -> None:
        if self.allowed is not None and self.allowed <= 0:
            raise ConnectionError("no route to the store")

    def become(self, changes: Sequence[Change]) -> None:
        """Makes the store what it is after these changes, as if nothing came after them."""
        self.allowed = None
        self.system.store.clear()
        for name, data in changes:
            if data is None:
                self.system.store.pop(name)
            else:
                MemoryFileSystem.open(self.system, name, "wb", data=data)

    def names(self, start: str = "/") -> list[str]:
        """Of all objects."""
        return sorted(name for name in self.system.store if name.startswith(start))

    @contextmanager
    def away(self) -> Iterator[None]:
        """While it lasts nobody reaches the store."""
        self.allowed = 0
        yield
        self.allowed = None
