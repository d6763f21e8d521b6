"""Prepared shards against the digests in `prepared.json` beside them: a bit that a disk has changed is noticed."""

from collections.abc import Sequence
from pathlib import Path

from vitrail.core.digests import sha256_of
from vitrail.core.errors import BadInput
from vitrail.core.files import read_json
from vitrail.core.object_store import is_remote


def refuse_damaged(files: Sequence[str]) -> None:
    """Reads every file that has a digest; files that were not prepared have none.

    Raises:
        BadInput: a file whose bytes are no longer those that were written.
    """
    for file in map(Path, (file for file in files if not is_remote(file))):
        about = file.with_name("prepared.json")
        rows = read_json(about).get("shards", []) if about.exists() else []
        known = {str(row.get("file")): row.get("sha256") for row in rows if isinstance(row, dict)}
        if known.get(file.name) and sha256_of(file) != known[file.name]:
            raise BadInput(
                f"{file} is damaged: its digest is not the one in {about.name}; remove it, and `vitrail data prepare` "
                "makes it again"
            )
