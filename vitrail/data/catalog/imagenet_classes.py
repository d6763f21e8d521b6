"""The 1,000 classes of ImageNet (ILSVRC 2012) in the order of models: index, WordNet synset, names."""

import csv
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from vitrail.data.sources.class_names import folded


class ImageNetClass(NamedTuple):
    """A row: 1, "n01443537", ("goldfish", "Carassius auratus")."""

    number: int
    synset: str
    names: tuple[str, ...]


@lru_cache
def imagenet_classes() -> tuple[ImageNetClass, ...]:
    """All rows, by index."""
    with Path(__file__).with_suffix(".tsv").open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return tuple(ImageNetClass(int(r["index"]), r["synset"], tuple(r["names"].split(", "))) for r in rows)


@lru_cache
def _indices() -> dict[str, tuple[int, ...]]:
    """The indices of a synset, of a name, and of all names of a class as transformers joins them."""
    found: dict[str, tuple[int, ...]] = {}
    for row in imagenet_classes():
        for name in {folded(text) for text in (row.synset, ", ".join(row.names), *row.names)}:
            found[name] = (*found.get(name, ()), row.number)
    return found


def imagenet_indices(name: str) -> tuple[int, ...]:
    """The classes that a synset or a name means: one, several of one name ("crane"), or none."""
    return _indices().get(folded(name), ())
