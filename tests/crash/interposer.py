"""The interposer: interposer.c compiled, and what a run under it has counted."""

import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_suffix(".c")
FAULTS = {"none": 0, "kill": 1, "enospc": 2, "eio": 3, "short": 4, "unsynced": 5}


def compiler() -> str | None:
    """A C compiler, where operations can be counted below Python."""
    return next((found for name in ("gcc", "cc", "clang") if (found := shutil.which(name))), None)


def available() -> bool:
    """Whether operations can be counted here."""
    return sys.platform == "linux" and compiler() is not None


def build(folder: Path) -> Path:
    """The shared library, for LD_PRELOAD."""
    out, used = folder / "interposer.so", compiler()
    assert used is not None
    asked = [used, "-shared", "-fPIC", "-O1", "-w", "-o", out, SOURCE, "-ldl", "-lpthread"]
    subprocess.run(asked, check=True, timeout=300)
    return out


class Counted(NamedTuple):
    """What happened under the interposer: how many operations, and whether the fault came."""

    operations: int
    fired: bool


def counted(state: Path) -> Counted:
    """The first numbers of `struct state`."""
    count, fired = struct.unpack_from("ll", state.read_bytes())
    return Counted(count, bool(fired))


def operations(journal: Path) -> list[tuple[str, str]]:
    """What was done to which file, in order."""
    rows = [line.split("\t") for line in journal.read_text().splitlines()] if journal.exists() else []
    return [(row[2], row[3]) for row in rows if row[0] == "op"]
