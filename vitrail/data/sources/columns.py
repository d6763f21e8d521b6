"""Which columns of a table of images are the path, the label and the split: by name, by what is in them, or as told."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as compute

from vitrail.core.columns import columns_given
from vitrail.core.errors import BadInput
from vitrail.core.progress import say
from vitrail.data.sources.split_names import meaning

PATH = ("path", "file", "image", "file_name", "filename")
LABEL = ("label", "class")
_MORE_PATHS = (
    "filepath", "file_path", "image_path", "img_path", "image_name", "img_name", "image_id", "img_id", "imageid",
    "img", "photo", "picture", "fname", "id",
)  # fmt: skip
_MORE_LABELS = (
    "labels", "category", "target", "species", "class_name", "classname", "label_name", "class_id", "label_id",
    "category_id", "breed", "diagnosis", "dx", "y",
)  # fmt: skip
SPLIT = "split"
_FLAGS = {  # columns of 0 and 1, and what each number is
    "is_train": {"1": "train", "0": "test"}, "is_training": {"1": "train", "0": "test"},
    "is_test": {"0": "train", "1": "test"}, "is_testing": {"0": "train", "1": "test"},
    "is_valid": {"0": "train", "1": "validation"}, "is_val": {"0": "train", "1": "validation"},
    "is_validation": {"0": "train", "1": "validation"},
}  # fmt: skip
_TRUE_FALSE = {"true": "1", "false": "0", "1.0": "1", "0.0": "0"}


class Columns(NamedTuple):
    """Names of columns; several `labels` are a column for each class, which holds 1 where an image has it."""

    path: str
    labels: tuple[str, ...]
    split: str | None


def find_columns(
    names: Sequence[str], rows: Sequence[Mapping[str, str]], is_image: Callable[[str], bool], file: str
) -> Columns:
    """The columns of a table, by their names and its first rows. What is guessed is said.

    Args:
        rows: some of the rows, each a text for each column.
        is_image: whether a text names an image that is there.

    Raises:
        BadInput: a column is missing, or twice there.
    """
    told = columns_given()
    for name in told.values():
        if name not in names:
            raise BadInput(f"{file} has no column {name!r}; it has {_shown(names)}")
    for name in names:
        if names.count(name) > 1 and name in (*PATH, *LABEL, *told.values()):
            raise BadInput(f"{file} has {names.count(name)} columns named {name!r}")
    path = told.get("image") or _known(names, PATH)
    label = told.get("label") or _known(names, LABEL)
    split = told.get("split") or (SPLIT if SPLIT in names else _split_by_content(names, rows, (path, label), file))
    guessed, one_hot = [], []
    if path is None:
        images = [name for name in names if name != label and rows and all(is_image(row[name]) for row in rows)]
        path = images[0] if len(images) == 1 else _known(names, _MORE_PATHS)
        guessed += [f"the image is in the column {path!r}"]
    if path is None:
        raise BadInput(_lacking(names, PATH, file, "image"))
    rest = [name for name in names if name not in (path, split)]
    if label is None:
        one_hot = [name for name in rest if all(row[name].strip() in _BITS for row in rows)] if len(rest) > 1 else []
        if rows and len(one_hot) > 1:
            say(f"{file}: a column for each class: {_shown(one_hot)}")
            return Columns(path, tuple(one_hot), split)
        label = _known(rest, _MORE_LABELS)
        if label is None and len(rest) == 1 and rows and any(is_image(row[path]) for row in rows):
            label = rest[0]
        guessed += [f"the label in {label!r}"]
    if label is None and len(one_hot) > 1:
        row = next((i for i, row in enumerate(rows) if sum(float(row[n]) for n in one_hot) != 1), 0)
        raise BadInput(
            f"{file}: the columns {_shown(one_hot)} may be one for each class, but row {row + 1} is not of "
            "exactly one of them: an image has one class here; --columns label=NAME names a column of labels"
        )
    if label is None:
        raise BadInput(_lacking(names, LABEL, file, "label"))
    if guessed:
        say(f"{file}: {' and '.join(guessed)}; otherwise give --columns image=NAME label=NAME")
    return Columns(path, (label,), split)


_BITS = {"0", "1", "0.0", "1.0", "-1"}


def _split_by_content(
    names: Sequence[str], rows: Sequence[Mapping[str, str]], others: Sequence[str | None], file: str
) -> str | None:
    """A column whose values are words for splits, or one such as `is_train` of 0 and 1; it is said which."""
    for name in names:
        values = {row[name].strip() for row in rows} if name not in others else set()
        flag = name.strip().lower().replace(" ", "_") in _FLAGS and {_bit(v) for v in values} <= {"0", "1"}
        if values and (flag or all(meaning(value) for value in values)):
            say(f"{file}: the split is in the column {name!r}; otherwise give --columns split=NAME")
            return name
    return None


def _bit(value: str) -> str:
    return _TRUE_FALSE.get(value.lower(), value)


def split_words(column: str, values: pa.Array) -> pa.Array:
    """The splits in a column: as they are, or train and test for the 0 and 1 of one such as `is_train`.

    Words of one meaning in two spellings (`Train`, `TRAIN`) are one split.
    """
    flags = _FLAGS.get(column.strip().lower().replace(" ", "_"))
    unique = [str(value) for value in compute.unique(values).to_pylist()]
    if flags and {_bit(value) for value in unique} <= {"0", "1"}:
        new = {value: flags[_bit(value)] for value in unique}
    else:
        first: dict[str, str] = {}
        new = {value: first.setdefault(value.casefold(), value) for value in unique}
    places = compute.index_in(values, pa.array(unique, type=values.type))
    return pa.array([new[value] for value in unique], type=values.type).take(places)


def _known(names: Sequence[str], known: Sequence[str]) -> str | None:
    """The first of the known names that is there, in its own spelling before any other."""
    lower = {name.strip().lower().replace(" ", "_"): name for name in reversed(names)}
    return next((name for name in known if name in names), next((lower[n] for n in known if n in lower), None))


def _lacking(names: Sequence[str], known: tuple[str, ...], file: str, what: str) -> str:
    return (
        f"{file} has the columns {_shown(names)}; expected one named {' or '.join(known)} (the first line names them), "
        f"or --columns {what}=NAME"
    )


def _shown(names: Sequence[str]) -> str:
    text = ", ".join(names)
    return text if len(text) <= 200 else text[:200] + " …"
