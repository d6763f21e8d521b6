"""Nearest neighbours in feature space: which images of a set a model takes to be most like a given one.

Q queries · N images of the set · D width · K neighbours
"""

import numpy as np
from jaxtyping import Float32, Int64

from vitrail.evals import knn


def nearest(
    queries: Float32[np.ndarray, "q d"],
    features: Float32[np.ndarray, "n d"],
    count: int,
    excluded: Int64[np.ndarray, " q"] | None = None,
) -> tuple[Int64[np.ndarray, "q k"], Float32[np.ndarray, "q k"]]:
    """The `count` images of the greatest cosine similarity to each query, the nearest first, and the similarities.

    Fewer than `count` where the set is smaller.

    Args:
        excluded: for each query an image of the set that does not count (the query itself), -1 for none.
    """
    left_out = excluded is not None and bool((excluded >= 0).any())
    found = knn.nearest(features, queries, count + left_out)  # one more, where one may have to go
    if excluded is None or not left_out:
        return found.places, found.cosines
    gone_last = np.argsort(found.places == excluded[:, None], axis=1, kind="stable")
    kept = gone_last[:, : min(count, len(features) - 1)]
    return np.take_along_axis(found.places, kept, axis=1), np.take_along_axis(found.cosines, kept, axis=1)
