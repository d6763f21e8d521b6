"""How data are named, how splits are named, and which of them serves a role."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from vitrail.core.errors import BadInput, unknown


@dataclass(frozen=True)
class DataName:
    """How data are named everywhere: `SOURCE[@SPLIT[SLICE]]`, as in `photos@train[:90%]`."""

    place: str  # a path, a pattern, an address or the name of a data set
    split: str | None = None
    slice: str = ""  # with its brackets

    @classmethod
    def parse(cls, text: str) -> "DataName":
        """`photos@train[:90%]` in its parts; the split is None and the slice empty where not named."""
        name, _, rest = text.rpartition("@") if "@" in text else (text, "", "")
        if "/" in rest or (rest and Path(text).exists() and not Path(name).exists()):  # the sign is part of a path
            return cls(text)
        split, bracket, places = rest.partition("[")
        return cls(name, split or None, bracket + places)

    def __str__(self) -> str:
        rest = (self.split or "") + self.slice
        return f"{self.place}@{rest}" if rest else self.place

    def of(self, split: str) -> "DataName":
        """The same slice of a split."""
        return replace(self, split=split)

    def bounds(self) -> tuple[str, str] | None:
        """Start and stop of the slice, as they are written; None where there is none. Raises BadInput."""
        match = _SPLIT.match((self.split or "") + self.slice)
        if match is None:
            raise BadInput(
                f"{str(self)!r}: cannot read {(self.split or '') + self.slice!r}; expected SOURCE@SPLIT[START:STOP], "
                "as in cifar10@train[:90%]"
            )
        return None if match["start"] is None else (match["start"], match["stop"])


_SPLIT = re.compile(r"^(?P<split>[A-Za-z][\w-]*)?(\[(?P<start>(-?\d+%?)?):(?P<stop>(-?\d+%?)?)\])?$")


Role = Literal["train", "test"]

# What splits mean, by the words that people use; and the meanings that serve a role, the best first.
_MEANINGS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
}
_ROLES: dict[Role, tuple[str, ...]] = {"train": ("train",), "test": ("test", "validation")}
_NEUTRAL = frozenset({"set", "images", "image", "imgs", "img", "data", "dataset", "split", "photos", "pictures"})
_YEAR = re.compile(r"(?:19|20)\d\d$")
_NUMBERED = re.compile(r"[-_. ]*(?:\d+(?:[-_. ]?of[-_. ]?\d+)?)?$")


def meaning(name: str) -> str | None:
    """What a folder or split of that name is: "train", "test" or "validation"; None where it is none of them.

    `Training`, `VALID`, `train2017`, `test_images` and `trainset` are splits; `train_tracks` and `seen-train` are not.
    """
    words = [_YEAR.sub("", word) for word in re.split(r"[-_. ]+", name.lower())]
    words = [word.removesuffix("set") if word.removesuffix("set") in _MEANINGS else word for word in words]
    found = [_MEANINGS[word] for word in words if word in _MEANINGS]
    others = {word for word in words if word and word not in _MEANINGS}
    return found[0] if len(found) == 1 and others <= _NEUTRAL else None


def choose(name: str, splits: Sequence[str], role: Role, wanted: str | None = None) -> str:
    """The split that is `wanted`, whatever its spelling, or where none is wanted that which serves a role.

    Raises:
        BadInput: there is none, or several.
    """
    if wanted in splits:
        return str(wanted)
    if wanted is not None and meaning(wanted) is None:
        raise unknown(f"split of {name}", wanted, splits)
    kinds = _ROLES[role] if wanted is None else (str(meaning(wanted)),)
    for kind in kinds:
        found = [kind] if kind in splits else [split for split in splits if meaning(split) == kind]
        if len(found) > 1:
            raise BadInput(f"{name} has {' and '.join(found)}: name one, as in {name}@{found[0]}")
        if found:
            return found[0]
    if wanted is not None:
        raise unknown(f"split of {name}", wanted, splits)
    raise BadInput(f"{name} has no split for {role}; it has {', '.join(splits)}: name one, as in {name}@{splits[0]}")


def shards_by_split(files: Sequence[str]) -> dict[str, list[str]]:
    """The files of one set by split, as their names tell it: `imagenet-train-0001.tar` is of `train`.

    All are of "" where no name has a word for a split; of parquet files, as the Hugging Face hub has them, what stands
    before the number is a split whatever it says, where there are several of them.
    """
    groups: dict[str, list[str]] = {}
    for file in files:
        stem = file.rpartition("/")[2].split(".")[0]
        groups.setdefault(stem[: _NUMBERED.search(stem).start()], []).append(file)  # type: ignore[union-attr]
    words = {beginning: _split_word(beginning) for beginning in groups}
    if not any(words.values()) and (len(groups) == 1 or not files[0].endswith(".parquet")):
        return {"": sorted(files)}
    named = [word for word in words.values() if word]
    plain = len(set(map(meaning, named))) == len(named)  # else, as with train and seen-train, their whole beginnings
    return {(plain and words[start]) or start or "unnamed": sorted(group) for start, group in groups.items()}


def _split_word(beginning: str) -> str | None:
    """The one word for a split in the beginning of a name."""
    found = [word for word in re.split(r"[-_. ]+", beginning) if meaning(word)]
    return found[0] if len(found) == 1 else None
