"""Images of several classes each: how tables name a set of classes, and the sets as rows of zeros and ones.

N images · K classes
"""

import ast
import json
from collections import Counter
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as compute
from jaxtyping import Int, UInt8

from vitrail.core.errors import BadInput
from vitrail.core.progress import say

SEPARATORS = ("|", ";")
_NUMBERS = r"^\d+([ ,;|]+\d+)*$"
_SEVERAL = r"^\d+([ ,;|]+\d+)+$"
_AMOUNT = r"^[+-]?(\d+\.\d*|\d*\.\d+|\d+)([eE][+-]?\d+)?$"
_FEW = 10  # different numbers with a fraction, up to which they may be names, as versions and sizes are

Sets: TypeAlias = Any  # pa.LargeListArray of texts, or of class numbers


def label_sets(labels: pa.LargeStringArray, file: str) -> Sets | None:
    """The classes of each row where texts name several: `cat|dog`, `cat; dog`, `3 17`, `["cat", "dog"]`; else None.

    A separator counts where at least half of the names between it occur in two different texts, so that a class may
    still be called `tench;Tinca tinca`.

    Raises:
        BadInput: amounts instead of classes, or lists that are none.
    """
    texts = [text for text in compute.unique(labels).to_pylist() if text]
    distinct = pa.array(texts, pa.large_string())
    _refuse_amounts(distinct, file)
    if texts and all(text.startswith("[") and text.endswith("]") for text in texts):
        parts = {text: _listed(text, file) for text in texts}
        return None if all(len(some) == 1 for some in parts.values()) else _by_text(labels, parts)
    several = compute.match_substring_regex(distinct, pattern=_SEVERAL)
    if compute.any(several).as_py():
        if not compute.all(compute.match_substring_regex(distinct, pattern=_NUMBERS)).as_py():
            named = texts[several.index(True).as_py()]
            raise BadInput(
                f"{file}: row {labels.index(named).as_py() + 1} has the label {named!r}, which names several classes "
                "by number, and other rows have names: use one or the other"
            )
        say(f"{file}: labels such as {texts[several.index(True).as_py()]!r} are several classes")
        digits = compute.split_pattern_regex(distinct, r"[ ,;|]+").to_pylist()
        return _by_text(labels, dict(zip(texts, digits, strict=True)))
    for mark in SEPARATORS:
        first = next((text for text in texts if mark in text), None)
        if first is None:
            continue
        parts = {text: [name.strip() for name in text.split(mark) if name.strip()] for text in texts}
        counts = Counter(name for some in parts.values() for name in set(some))
        if 2 * sum(count > 1 for count in counts.values()) >= len(counts):
            say(f"{file}: labels such as {first!r} are several classes, separated by {mark!r}")
            return _by_text(labels, parts)
        say(
            f"{file}: {first!r} is taken for the name of one class; for several give a list: {json.dumps(parts[first])}"
        )
    return None


def _refuse_amounts(distinct: pa.LargeStringArray, file: str) -> None:
    if len(distinct) <= _FEW or not compute.all(compute.match_substring_regex(distinct, pattern=_AMOUNT)).as_py():
        return
    broken = compute.not_equal(compute.floor(numbers := distinct.cast(pa.float64())), numbers)
    if compute.any(broken).as_py():
        first = distinct[broken.index(True).as_py()].as_py()
        raise BadInput(
            f"{file}: the label {first!r} is an amount, and so are all others: amounts are not predicted (regression); "
            "make classes of them, such as ranges"
        )


def _listed(text: str, file: str) -> list[str]:
    """The names in a list, as JSON or Python write it."""
    try:
        found = json.loads(text)
    except ValueError:
        try:
            found = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            found = None
    if not isinstance(found, list) or not all(isinstance(one, str | int) for one in found):
        raise BadInput(f'{file}: the label {text[:60]!r} is no list of names; expected such as ["cat", "dog"]')
    return [str(one).strip() for one in found]


def _by_text(labels: pa.LargeStringArray, parts: dict[str, list[str]]) -> Sets:
    return pa.array([parts.get(text, []) for text in labels.to_pylist()], pa.large_list(pa.large_string()))


def from_columns(values: np.ndarray, names: tuple[str, ...], file: str) -> Sets:
    """The sets of rows [N, K]: 1 in the column of each class that the image has, and 0 or -1 elsewhere."""
    if not np.isin(values, (-1, 0, 1)).all():
        raise BadInput(
            f"{file}: a column for each class, and some hold other numbers than 0 and 1: these are no classes"
        )
    there = values > 0
    flat = np.array(names, dtype=object)[np.nonzero(there)[1]]
    offsets = np.concatenate([[0], np.cumsum(there.sum(axis=1))])
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(flat, pa.large_string()))


def multi_hot(sets: Sets, flat: Int[np.ndarray, " m"], classes: int, where: str) -> UInt8[np.ndarray, "n k"]:
    """Rows of zeros and ones; `flat` are the class numbers of all sets, one after another. Empty sets are said."""
    rows = compute.list_parent_indices(sets).to_numpy(zero_copy_only=False)
    labels = np.zeros((len(sets), classes), np.uint8)
    labels[rows, flat] = 1
    without = int((labels.sum(axis=1) == 0).sum())
    if without == len(sets):
        raise BadInput(f"{where}: not one image has a class")
    if without:
        say(f"{where}: {without:,} of {len(sets):,} images have none of the {classes} classes")
    return labels
