"""The folder for what can be made again: listings, indices, copies of remote files."""

import os
from pathlib import Path

from vitrail.core.errors import BadInput


def cache_folder() -> Path:
    """VITRAIL_CACHE, else `vitrail` in XDG_CACHE_HOME or in `~/.cache`; it need not exist."""
    if given := os.environ.get("VITRAIL_CACHE"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "vitrail"


def cache_limit() -> int:
    """Bytes that copies of remote files may take: VITRAIL_CACHE_GIB, else 50 GiB."""
    text = os.environ.get("VITRAIL_CACHE_GIB", "50")
    try:
        limit = float(text)
    except ValueError:
        limit = 0.0
    if not 0 < limit < 1e9:
        raise BadInput(f"VITRAIL_CACHE_GIB is {text!r}, expected a number of GiB above 0, such as 50")
    return int(limit * 2**30)
