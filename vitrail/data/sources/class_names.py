"""Labels as people write them, texts that are names or numbers, and the classes that they make."""

import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from vitrail.core.errors import BadInput, unknown
from vitrail.core.files import read_json


def class_indices(texts: pa.Array, classes: tuple[str, ...] | None, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """The label of each text, int64, and the classes.

    Where `classes` are given, whole numbers are their places from 0 on, and other texts their names. Otherwise the
    texts are the classes: whole numbers in their order, anything else alphabetically.

    Raises:
        BadInput: a text that is none of the classes; `where` says where it was read.
    """
    encoded = texts.dictionary_encode()
    names = [composed(str(name)) for name in encoded.dictionary.to_pylist()]
    numbers = all_numbers(names)
    if classes is None:
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
