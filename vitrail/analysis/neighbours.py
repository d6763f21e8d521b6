"""Nearest neighbours in feature space: which images of a set a model takes to be most like a given one.

Q queries · N images of the set · D width · K neighbours
"""

import numpy as np
from jaxtyping import Float32, Int64

CELLS = 1 << 24  # of the matrix of similarities, held at a time


def nearest(
    queries: Float32[np.ndarray, "q d"],
    features: Float32[np.ndarray, "n d"],
    count: int,
    excluded: Int64[np.ndarray, " q"] | None = None,
) -> tuple[Int64[np.ndarray, "q k"], Float32[np.ndarray, "q k"]]:
    """The `count` images of the greatest cosine similarity to each query, the nearest first, and the similarities.

    Of equally similar images the first comes first. Fewer than `count` where the set is smaller.

    Args:
        excluded: for each query an image of the set that does not count (the query itself), -1 for none.
    """
    left_out = excluded is not None and bool((excluded >= 0).any())
    count = min(count, len(features) - left_out)
    places = np.zeros((len(queries), count), np.int64)
    similarities = np.zeros((len(queries), count), np.float32)
    unit_queries, unit = _unit(queries), _unit(features)
    rows = max(1, CELLS // max(1, len(features)))
    for start in range(0, len(queries), rows):
        part = slice(start, start + rows)
        cosines = unit_queries[part] @ unit.T
        if excluded is not None:
            at = np.flatnonzero(excluded[part] >= 0)
            cosines[at, excluded[part][at]] = -np.inf
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
        places[part], similarities[part] = order, np.take_along_axis(cosines, order, axis=1)
    return places, similarities


def _unit(vectors: np.ndarray) -> np.ndarray:
    unit: np.ndarray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit
