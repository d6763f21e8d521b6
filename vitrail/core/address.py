"""Addresses (`s3://bucket/runs/a`), and paths that were made of one, which name a folder `s3:` that nobody meant."""

import re
from pathlib import Path

from vitrail.core.errors import BadInput

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_PATH = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+:)/+(?=.)")


def is_address(name: str) -> bool:
    """True for `s3://bucket/a` and `hf://owner/name`, False for a path."""
    return bool(_ADDRESS.match(name))


def refuse_address(path: Path, what: str) -> None:
    """Raises BadInput for a path that was made of an address, of which it has lost a slash.

    Args:
        what: the start of the sentence, such as "--out".
    """
    if (found := _PATH.match(str(path))) and not Path(found[1]).exists():
        raise BadInput(
            f"{what} is {found[1]}//{str(path)[found.end() :]}, an address, where a path of this machine is expected; "
            "addresses of object stores may be DATA and MODEL, and --out of vitrail pretrain and finetune"
        )
