"""The images of a set that a model takes to be most like some others, with their pictures."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vitrail.analysis.neighbours import nearest
from vitrail.data.gallery import Gallery
from vitrail.data.numbered import Numbered
from vitrail.data.sources import Source
from vitrail.data.views import Preprocess
from vitrail.evals.forward import forward
from vitrail.evals.intervals import wilson
from vitrail.models.build import Model

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
) -> dict[str, Any]:
    """The `count` nearest of each image of `source` by cosine of what the classifier reads.

    An image that lies in the set itself does not count there. Pictures of the first `shown` and their neighbours go to
    `pictures.npz` in the folder; returned is "neighbours" of inspection.json (docs/files.md).
    """
    queries = _read_all(model, source, preprocess, "features")
    there = _read_all(model, among.source, preprocess, "neighbours")
    features = np.stack([one.representation for one in there])
    vectors = np.stack([query.representation for query in queries])
    found, similarities = nearest(vectors, features, count, _themselves(queries, there, vectors, features))
    classes = np.array(among.source.classes)[among.source.labels[[one.place for one in there]]]
    own = np.array(source.classes)[source.labels[[query.place for query in queries]]]
    gallery = Gallery()

    def described(i: int, similarity: float) -> dict[str, Any]:
        picture = gallery.add("set", among.source, there[i].place)
        return {"key": there[i].key, "label": str(classes[i]), "similarity": similarity, "picture": picture}

    rows = [
        {
            "key": query.key,
            "label": str(own[number]),
            "picture": gallery.add("queries", source, query.place),
            "nearest": [
                described(*one) for one in zip(found[number].tolist(), similarities[number].tolist(), strict=True)
            ],
        }
        for number, query in enumerate(queries[:shown])
    ]
    gallery.write(folder / "pictures.npz")
    comparable = found.shape[1] > 0 and bool(np.isin(own, classes).any())
    right = int((classes[found[:, 0]] == own).sum()) if comparable else 0
    return {
        "data": among.name,
        "count": len(there),
        "queries": len(queries),
        "same": right / len(queries) if comparable else None,
        "interval": list(wilson(right, len(queries))) if comparable else None,
        "chance": float(np.mean([(classes == label).mean() for label in own])) if comparable else None,
        "rows": rows,
    }


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
        best, similarity = nearest(vectors[number : number + 1], features[candidates], 1)
        if similarity.size and similarity[0, 0] > SAME:
            places[number] = candidates[best[0, 0]]
    return places


def _read_all(model: Model, source: Source, preprocess: Preprocess, title: str) -> list[Query]:
    """All readable images of a source, in order; raises BadInput when more than 1 % of it is broken."""
    found: list[Query] = []
    for part in forward(model, Numbered(source), preprocess, title=title):
        places, vectors = part.batch.labels.tolist(), part.representation.numpy()
        found += [Query(*one) for one in zip(places, part.batch.keys, vectors, strict=True)]
    return found
