"""ImageNet-ReaL (arXiv 2006.07159): of ImageNet's validation images every label that is right, or none at all."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from vitrail.core.errors import BadInput
from vitrail.core.files import read_json
from vitrail.data.sources.base import Example, FileSource, Source, add_to

_NUMBER = re.compile(r"ILSVRC2012_val_(\d{8})")
PLACE = "https://github.com/google-research/reassessed-imagenet (real.json)"


class RealSource(Source):
    """The images that have a right label; `label` is their own where that is right, else the first that is.

    A classifier is right where it names any of them (`right`). Labels are places among the WordNet numbers in order,
    which are the folders' names.
    """

    several = True

    def __init__(self, source: FileSource, answers: list[tuple[int, ...]]):
        self.source, self.answers, self.classes = source, answers, source.classes
        numbers = [_number(name.decode("utf-8", "replace"), source.root) for name in source.names.to_pylist()]
        most = max(numbers)
        if most > len(answers):
            raise BadInput(f"{source.root} holds validation image {most}, but real.json has {len(answers):,} images")
        kept = [i for i, number in enumerate(numbers) if answers[number - 1]]
        self.indices = np.array(kept, dtype=np.int64)
        right = [answers[numbers[i] - 1] for i in kept]
        own = source.labels[self.indices].tolist()
        self.labels = np.array(
            [label if label in labels else labels[0] for label, labels in zip(own, right, strict=True)], dtype=np.int64
        )

    def valid_labels(self, key: str) -> tuple[int, ...]:
        """All labels that are right for the image of that name."""
        return self.answers[_number(key, self.source.root) - 1]

    def __getitem__(self, index: int) -> Example:
        example = self.source[int(self.indices[index])]
        return Example(example.image, int(self.labels[index]), example.key)

    def add_images_to(self, digest: Any) -> None:
        """The whole source, and which of it."""
        add_to(digest, self.source.content_hash(), self.indices)


def _number(name: str, root: str) -> int:
    found = _NUMBER.search(name)
    if found is None or int(found[1]) < 1:
        raise BadInput(f"{root} holds {name}; expected the names of ImageNet, as ILSVRC2012_val_00000001.JPEG")
    return int(found[1])


def open_real(images: Source, file: Path) -> RealSource:
    """ImageNet's validation images, judged by `real.json`: a list of labels for each image, by its number.

    Raises:
        BadInput: no such file, another content, or images that are no files with ImageNet's names.
    """
    if not file.exists():
        raise BadInput(f"imagenet-real needs {file}; it is at {PLACE}")
    answers = read_json(file)
    count = len(images.classes)
    if not (
        isinstance(answers, list)
        and all(isinstance(row, list) and all(isinstance(k, int) and 0 <= k < count for k in row) for row in answers)
    ):
        raise BadInput(f"{file} is not the known one: expected a list of lists of labels from 0 to {count - 1}")
    if not isinstance(images, FileSource):
        raise BadInput("imagenet-real needs ImageNet's validation images as files: their names say which they are")
    return RealSource(images, [tuple(row) for row in answers])
