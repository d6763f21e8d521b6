"""Labels as people write them, texts that are names or numbers, and the classes that they make."""

import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from vitrail.core.errors import BadInput, nearest, unknown
from vitrail.core.files import read_json
from vitrail.core.progress import say

_WHOLE_FLOAT = re.compile(r"\d+\.0+")
_NEGATIVE = re.compile(r"-\d+")


def class_indices(texts: pa.Array, classes: tuple[str, ...] | None, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """The label of each text, int64, and the classes.

    Where `classes` are given, whole numbers are their places from 0 on, and other texts their names. Otherwise the
    texts are the classes: whole numbers in their order, anything else alphabetically.

    Raises:
        BadInput: a text that is none of the classes; `where` says where it was read.
    """
    encoded = texts.dictionary_encode()
    names = [composed(str(name)) for name in encoded.dictionary.to_pylist()]
    if names and all(_WHOLE_FLOAT.fullmatch(name) for name in names):  # as pandas writes numbers where one is missing
        names = [name.partition(".")[0] for name in names]
    if (
        len(names) > 1
        and any(_NEGATIVE.fullmatch(name) for name in names)
        and all_numbers([n.lstrip("-") for n in names])
    ):
        raise BadInput(f"{where} holds the label {min(names, key=int)} (unlabelled rows?); expected 0 or more")
    numbers = all_numbers(names)
    if classes is None:
        say_alike(names, where)
        classes = tuple(sorted(names, key=lambda name: (int(name), name)) if numbers else sorted(names))
        numbers = False
    place = {name: int(name) for name in names} if numbers else {name: label for label, name in enumerate(classes)}
    if numbers and max(place.values(), default=0) >= len(classes):
        raise BadInput(f"{where} holds the label {max(place.values())}, but there are {len(classes)} classes")
    for name in names:
        if name not in place:
            raise BadInput(f"{where}: {unknown('class', name, classes)}")
    lookup = np.array([place[name] for name in names], dtype=np.int64)
    return lookup[encoded.indices.to_numpy(zero_copy_only=False)], classes


def labels_of(texts: pa.Array, classes: Sequence[str], where: str) -> np.ndarray:
    """The place of each text among the classes of other data, such as those of the training split, int64.

    Raises:
        BadInput: a class that these lack; one in another spelling (case, spaces) is the same class, and it is said.
    """
    encoded = texts.dictionary_encode()
    places = places_of([str(name) for name in encoded.dictionary.to_pylist()], classes, where)
    return np.array(places, dtype=np.int64)[encoded.indices.to_numpy(zero_copy_only=False)]


def places_of(names: Sequence[str], classes: Sequence[str], where: str) -> list[int]:
    """`labels_of` for names, each once."""
    place: dict[str, int] = {composed(name): label for label, name in enumerate(classes)}
    loose: dict[str, list[int]] = {}
    for label, name in enumerate(classes):
        loose.setdefault(folded(name), []).append(label)
    found: list[int] = []
    taken = set(names)
    for name in names:
        others = loose.get(folded(name), [])
        if composed(name) in place:
            found.append(place[composed(name)])
        elif len(others) == 1 and classes[others[0]] not in taken:
            found.append(others[0])
            say(f"{where}: the class {name!r} is taken for {classes[others[0]]!r} of train")
        else:
            raise BadInput(f"{where} has the class {name!r}, which train lacks{nearest(name, classes)}")
    return found


def say_alike(names: Sequence[str], where: str) -> None:
    """Says which classes are called nearly the same: by case or spaces (`Cat`, `cat`), or one number (`1`, `01`)."""
    alike: dict[str, list[str]] = {}
    for name in sorted(names):
        alike.setdefault(str(int(name)) if all_numbers([name]) else folded(name), []).append(name)
    pairs = [" and ".join(map(repr, group)) for group in alike.values() if len(group) > 1]
    if pairs:
        shown = "; ".join(pairs[:3]) + (f"; and {len(pairs) - 3} more" if len(pairs) > 3 else "")
        say(f"{where}: classes of nearly one name are kept apart: {shown}")


def class_names(file: Path) -> tuple[str, ...]:
    """The names in `classes.json`: a list, or an object that has one as `classes`."""
    found = read_json(file)
    names = found.get("classes") if isinstance(found, dict) else found
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadInput(f"{file} holds {json.dumps(found)[:60]}; expected a list of class names")
    if len(set(names)) < len(names):
        raise BadInput(f"{file} names a class twice")
    return tuple(names)


def composed(name: str) -> str:
    """A name in Unicode's composed form (NFC): a Mac writes folders decomposed, Linux and tables mostly composed."""
    return unicodedata.normalize("NFC", name)


def folded(name: str) -> str:
    """A name as people mean it: without case, and with a space for underscores, hyphens and spaces."""
    return re.sub(r"[\s_-]+", " ", composed(name)).strip().casefold()


def all_numbers(names: Sequence[str]) -> bool:
    """Whether every name is a whole number, such as "0" or "007"."""
    return bool(names) and all(name.isascii() and name.isdigit() for name in names)
