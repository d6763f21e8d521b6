"""Which columns of tables are image, label and split, as `--columns` says it: for this process and those it starts."""

import json
import os
from collections.abc import Mapping, Sequence

from vitrail.core.errors import BadInput

VARIABLE = "VITRAIL_COLUMNS"  # a JSON object, such as {"label": "species"}


def columns_given() -> dict[str, str]:
    """What was said: image, label and split to names of columns; empty where nothing was."""
    found: dict[str, str] = json.loads(os.environ.get(VARIABLE) or "{}")
    return found


def give_columns(columns: Mapping[str, str]) -> None:
    """Says it to this process and all that it starts."""
    os.environ[VARIABLE] = json.dumps(dict(columns))


def read_columns(words: Sequence[str]) -> dict[str, str]:
    """`image=id label=species` as a mapping; raises BadInput for anything else."""
    pairs = dict(text.partition("=")[::2] for text in words)
    if not pairs.keys() <= {"image", "label", "split"} or not all(pairs.values()):
        raise BadInput(f"--columns {' '.join(words)}: expected image=NAME, label=NAME or split=NAME")
    return pairs
