"""A limit to what this process may map, for work that may ask for any amount."""

import resource
from contextlib import suppress
from pathlib import Path


def limit_memory(gib: float) -> None:
    """So much above what is mapped now; where the system does not say that, no limit."""
    with suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + int(gib * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
