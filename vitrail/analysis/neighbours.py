"""The nearest of a set of images, by what the classifier reads, and pictures of them."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vitrail.core.estimate import wilson
from vitrail.data.quality.thumbnails import Gallery
from vitrail.data.sources.base import Source
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.evals.inference import run_inference
from vitrail.evals.knn import nearest
from vitrail.models.build import Model
from vitrail.records.inspection import (
    NearestImage,
    NearestImages,
    QueryImage,
)

NEIGHBOURS_OF = 16  # images at most, whose neighbours are drawn


SAME = 0.999  # cosine above which an image of the same name is the query itself


class Query(NamedTuple):
    """An image whose neighbours are sought: its place in its source, its name, what the classifier reads of it [D]."""

    place: int
    key: str
    representation: np.ndarray


class Set(NamedTuple):
    """The images among which neighbours are sought, and what they are called."""

    name: str
    source: Source


def neighbours(
    model: Model,
    preprocess: Preprocess,
    source: Source,
    among: Set,
    folder: Path,
    *,
    count: int,
    shown: int,
) -> NearestImages:
    """The `count` nearest of each image of `source` by cosine of what the classifier reads.

    An image that lies in the set itself does not count there. Pictures of the first `shown` and their neighbours go to
    `pictures.npz` in the folder.
    """
    queries = _read_all(model, source, preprocess, "features")
    there = _read_all(model, among.source, preprocess, "neighbours")
    features = np.stack([one.representation for one in there])
    vectors = np.stack([query.representation for query in queries])
    found, similarities = nearest(features, vectors, count, exclude=_themselves(queries, there, vectors, features))
    classes, own = _class_of(among.source, there), _class_of(source, queries)
    gallery = Gallery()

    def described(i: int, similarity: float) -> NearestImage:
        picture = gallery.add("set", among.source, there[i].place)
        return NearestImage(key=there[i].key, label=classes[i], similarity=similarity, picture=picture)

    rows = [
        QueryImage(
            key=query.key,
            label=own[number],
            picture=gallery.add("queries", source, query.place),
            nearest=[
                described(*one) for one in zip(found[number].tolist(), similarities[number].tolist(), strict=True)
            ],
        )
        for number, query in enumerate(queries[:shown])
    ]
    gallery.write(folder / "pictures.npz")
    comparable = found.shape[1] > 0 and bool({*own} & {*classes} - {None})
    right = sum(classes[i] == name for i, name in zip(found[:, 0].tolist(), own, strict=True)) if comparable else 0
    return NearestImages(
        data=among.name,
        count=len(there),
        queries=len(queries),
        same=right / len(queries) if comparable else None,
        interval=wilson(right, len(queries)) if comparable else None,
        chance=sum(classes.count(name) for name in own) / (len(own) * len(classes)) if comparable else None,
        rows=rows,
    )


def _class_of(source: Source, images: Sequence[Query]) -> list[str | None]:
    """The name of each one's class; None where there are no classes."""
    if not source.classes:
        return [None] * len(images)
    return [source.classes[label] for label in source.labels[[one.place for one in images]].tolist()]


def _themselves(
    queries: Sequence[Query], there: Sequence[Query], vectors: np.ndarray, features: np.ndarray
) -> np.ndarray:
    """For each query its own place in the set, -1 where it is not there: an image of its name that looks the same."""
    named = defaultdict(list)
    for i, one in enumerate(there):
        named[one.key].append(i)
    places = np.full(len(queries), -1, np.int64)
    for number, query in enumerate(queries):
        candidates = np.array(named.get(query.key, []), np.int64)
        best, similarity = nearest(features[candidates], vectors[number : number + 1], 1)
        if similarity.size and similarity[0, 0] > SAME:
            places[number] = candidates[best[0, 0]]
    return places


def _read_all(model: Model, source: Source, preprocess: Preprocess, title: str) -> list[Query]:
    """All readable images of a source, in order; raises BadInput when more than 1 % of it is broken."""
    found: list[Query] = []
    for part in run_inference(model, source, preprocess, title=title):
        places, vectors = part.batch.indices.tolist(), part.representation.numpy()
        found += [Query(*one) for one in zip(places, part.batch.keys, vectors, strict=True)]
    return found
