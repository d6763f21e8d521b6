"""Whether training and test data fit each other: found before hours are spent, from names, labels and a few files."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from vitrail.core.errors import BadInput
from vitrail.core.seeds import generator
from vitrail.data.decode.image import BrokenImage
from vitrail.data.open.names import splits_of
from vitrail.data.sources.base import FileSource, Source
from vitrail.data.sources.split_names import DataName
from vitrail.data.sources.subset import Subset

SAMPLED = 64  # test images that are compared byte for byte


def check_train_test(train: Source, test: Source | None, train_name: str, test_name: str | None) -> list[str]:
    """Sentences on what is allowed and should be known; nothing that training could learn from comes back.

    Raises:
        BadInput: labels that are no class, or test images that are training images.
    """
    check_labels(train, train_name)
    if test is None or test_name is None:
        return []
    check_labels(test, test_name)
    if not len(test):
        raise BadInput(f"{test_name} has no images: nothing could be judged")
    same = overlap(train, test, train_name, test_name)
    if same == len(test):
        raise BadInput(
            f"the test set {test_name} is the training set {train_name} again: all of the images compared are the "
            "same; a model that has seen them says nothing of others. Test on other images, such as a slice that "
            f"training leaves out ({_slices(train_name)})"
        )
    if same:
        raise BadInput(
            f"{same:,} of the {len(test):,} images of {test_name} are among those of {train_name}; take slices that do "
            f"not overlap ({_slices(train_name)})"
        )
    return [*_absent(train, test, test_name)]


def check_validation(validation: Source, others: Iterable[tuple[Source | None, str | None]], name: str) -> None:
    """Refuses to choose by images that are tested on, which would report the choice, or that trials learn from.

    Raises:
        BadInput: `validation`, called `name`, has images of one of the others.
    """
    for other, other_name in others:
        if other is None or other_name is None:
            continue
        same = overlap(other, validation, other_name, name) or overlap(validation, other, name, other_name)
        if same:
            raise BadInput(
                f"the learning rate is to be chosen by {name}, which has {same:,} images of {other_name}: what is "
                "chosen by cannot be learned from or tested on; leave out --validation, and a part of the training "
                "images is split off"
            )


def check_labels(source: Source, name: str) -> None:
    """Raises BadInput for labels that are no class."""
    if source.multi_label:
        return  # ones and zeros
    wrong = np.flatnonzero((source.labels < 0) | (source.labels >= len(source.classes)))
    if len(wrong):
        raise BadInput(
            f"{name}: the label of image {int(wrong[0])} is {int(source.labels[wrong[0]])}, and {len(wrong):,} of "
            f"{len(source):,} are out of range; there are {len(source.classes)} classes, 0 to {len(source.classes) - 1}"
        )


def _absent(train: Source, test: Source, test_name: str) -> Iterable[str]:
    """A class without test images is allowed: its accuracy is simply not known."""
    names = [name for name, count in zip(test.classes, test.counts, strict=True) if not count]
    if names:
        shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        yield f"{test_name} has no image of {len(names)} of {len(train.classes)} classes ({shown}): nothing judges them"


def overlap(train: Source, test: Source, train_name: str, test_name: str) -> int:
    """How many test images are training images: exactly for two slices of one source, otherwise all or none.

    "All" where up to 64 test images, drawn by lot, have the bytes of the training image at their place, or of one with
    their file name. Copies that were encoded anew are found by `vitrail data duplicates`.
    """
    one, other = DataName.parse(train_name), DataName.parse(test_name)
    if one.place == other.place and one.split == other.split and _is_one(train_name):
        places = [_places(source) for source in (train, test)]
        return int(np.isin(places[1], places[0]).sum())
    drawn = generator(0, "agreement").permutation(len(test))[:SAMPLED]
    named = _by_file_name(train) if _names(test) is not None else {}
    for index in np.sort(drawn):
        candidates = [int(index)] if len(train) == len(test) else []
        candidates += named.get(_file_name(test, int(index)), [])[:4]
        seen = _digest(test, int(index))
        if seen is None or all(_digest(train, place) != seen for place in candidates):
            return 0
    return len(test)


def _is_one(name: str) -> bool:
    """Whether the name is of one source whatever it is for: a split is named, or there are none."""
    data = DataName.parse(name)
    return data.split is not None or (Path(data.place).exists() and not splits_of(data.place))


def _places(source: Source) -> np.ndarray:
    """Where the images lie in the source that all subsets were taken of."""
    if not isinstance(source, Subset):
        return np.arange(len(source))
    return _places(source.source)[source.indices]


def _names(source: Source) -> FileSource | None:
    base = source.base()
    return base if isinstance(base, FileSource) else None


def _file_name(source: Source, index: int) -> str:
    files = _names(source)
    return Path(files.place(int(_places(source)[index]))).name if files is not None else ""


def _by_file_name(source: Source) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    files = _names(source)
    if files is None:
        return found
    for index, place in enumerate(_places(source)):
        name = os.fsdecode(files.names[int(place)].as_py())
        found.setdefault(Path(name).name, []).append(index)
    return found


def _digest(source: Source, index: int) -> bytes | None:
    """Of the stored bytes or pixels; None for an image that cannot be read."""
    try:
        image = source[index].image
    except BrokenImage:
        return None
    return hashlib.sha256(image if isinstance(image, bytes) else np.ascontiguousarray(image).tobytes()).digest()


def _slices(name: str) -> str:
    data = DataName.parse(name)
    whole = f"{data.place}@{data.split or ''}"
    return f"{whole}[:90%] and {whole}[90%:]"
