"""Digests by which a bit that a disk or a copy has changed is noticed: of a file, and of a JSON object in itself."""

import hashlib
import json
from pathlib import Path
from typing import Any

from vitrail.core.errors import BadInput

_KEY = "digest"


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sealed(value: dict[str, Any]) -> dict[str, Any]:
    """The object with a digest of everything else in it."""
    return {**value, _KEY: _of(value)}


def unsealed(value: dict[str, Any], path: Path) -> dict[str, Any]:
    """The object without its digest; one that has none was written before there were any.

    Raises:
        BadInput: the digest is of something else.
    """
    rest = {name: one for name, one in value.items() if name != _KEY}
    if _KEY in value and value[_KEY] != _of(rest):
        raise BadInput(f"{path} is damaged: its digest is of something else")
    return rest


def _of(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
