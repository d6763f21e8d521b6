"""How splits are named, and which of them serves a role."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from vitrail.core.errors import BadInput


def parts_of(text: str) -> tuple[str, str | None, str]:
    """`photos@train[:90%]` as ("photos", "train", "[:90%]"); the split is None and the slice empty where not named."""
    name, _, rest = text.rpartition("@") if "@" in text else (text, "", "")
    if "/" in rest or (rest and Path(text).exists() and not Path(name).exists()):  # the sign is part of a path
        return text, None, ""
    split, bracket, places = rest.partition("[")
    return name, split or None, bracket + places


Role = Literal["train", "test"]


# The splits that serve a role when none is named, the best first.
ROLES: dict[Role, tuple[str, ...]] = {"train": ("train",), "test": ("test", "validation", "val", "valid")}


VALIDATION = ("validation", "val", "valid")  # names of one thing


SPLITS = frozenset(split for names in ROLES.values() for split in names)


def choose(name: str, splits: Sequence[str], role: Role) -> str:
    """The split that serves a role; raises BadInput where there is none."""
    for split in ROLES[role]:
        if split in splits:
            return split
    raise BadInput(f"{name} has no split for {role}; it has {', '.join(splits)}: name one, as in {name}@{splits[0]}")
