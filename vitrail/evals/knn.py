"""k-nearest-neighbour search and votes, by the cosine of features.

scikit-learn's NearestNeighbors finds the same in about the same time: 2.3 s against 2.0 for the neighbours of 2,000
images among 20,000, 9.2 s against 10.9 among 100,000 (benchmarks/linear_probes.py). This stays because it reads a
file by blocks, orders equal cosines by index, and can leave out the image itself.

N training images · M test images · D features · K classes · k neighbours
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, Int64

ROWS = 1024  # of the matrix of all products that is held at a time
COLUMNS = 65_536  # of it, so that the features of a million images may lie in a file


class Nearest(NamedTuple):
    """The neighbours of each test image: their rows in the training images, and their cosines, nearest first."""

    places: Int64[np.ndarray, "m k"]
    cosines: Float32[np.ndarray, "m k"]


def nearest(
    train: Float[np.ndarray, "n d"],
    test: Float[np.ndarray, "m d"],
    neighbours: int,
    *,
    exclude: Int64[np.ndarray, " m"] | None = None,
) -> Nearest:
    """Finds the `neighbours` training images of the greatest cosine to each test image, or all where there are fewer.

    The search is exact; of equal cosines the first training image comes first.

    Args:
        exclude: for each test image the one training image that does not count (itself), -1 for none.
    """
    left_out = exclude is not None and bool((exclude >= 0).any())
    count = min(neighbours + left_out, len(train))  # one more, where one may have to go
    unit = _unit(test)
    places = np.zeros((len(test), 0), np.int64)
    cosines = np.zeros((len(test), 0), np.float32)
    for start in range(0, len(train), COLUMNS):
        block = _unit(train[start : start + COLUMNS])
        parts = [_greatest(unit[i : i + ROWS] @ block.T, count) for i in range(0, len(unit), ROWS)]
        if parts:
            places = np.concatenate([places, np.concatenate([part.places for part in parts]) + start], axis=1)
            cosines = np.concatenate([cosines, np.concatenate([part.cosines for part in parts])], axis=1)
    last = np.zeros(places.shape, bool) if exclude is None else places == exclude[:, None]
    order = np.lexsort((places, -cosines, last), axis=1)[:, : min(neighbours, len(train) - left_out)]
    return Nearest(np.take_along_axis(places, order, 1), np.take_along_axis(cosines, order, 1))


def _greatest(products: Float32[np.ndarray, "m n"], count: int) -> Nearest:
    count = min(count, products.shape[1])
    places = np.argpartition(products, -count, axis=1)[:, -count:]
    return Nearest(places, np.take_along_axis(products, places, 1))


def weighted_votes(
    neighbours: Nearest, labels: Int[np.ndarray, " n"], classes: int, temperature: float = 0.07
) -> Float64[np.ndarray, "m k"]:
    """Each neighbour votes for its class with exp(cosine / temperature) (Wu et al. 2018; DINO with k 20 and 0.07).

    Shares of all votes: only their relations matter, and without the division the numbers would be huge.
    """
    cosines = neighbours.cosines.astype(np.float64)
    weights = np.exp((cosines - cosines.max(axis=1, keepdims=True)) / temperature)
    return _votes(neighbours, weights / weights.sum(axis=1, keepdims=True), labels, classes)


def majority_votes(neighbours: Nearest, labels: Int[np.ndarray, " n"], classes: int) -> Float64[np.ndarray, "m k"]:
    """Each neighbour has the same vote; where classes have equally many, the first is the largest of `argmax`."""
    return _votes(neighbours, np.full(neighbours.places.shape, 1 / neighbours.places.shape[1]), labels, classes)


def _votes(
    neighbours: Nearest, weights: Float64[np.ndarray, "m k"], labels: Int[np.ndarray, " n"], classes: int
) -> Float64[np.ndarray, "m c"]:
    votes = np.zeros((len(neighbours.places), classes))
    rows = np.repeat(np.arange(len(votes)), neighbours.places.shape[1])
    np.add.at(votes, (rows, labels[neighbours.places].ravel()), weights.ravel())
    return votes


def _unit(features: Float[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    features = features.astype(np.float32)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-6)


class Votes(NamedTuple):
    """For each image the class that most neighbours have, the share of them that have it, and the share of its own."""

    predicted: Int64[np.ndarray, " n"]
    share: Float64[np.ndarray, " n"]
    own: Float64[np.ndarray, " n"]


def leave_one_out(
    features: Float32[np.ndarray, "n d"], labels: Int64[np.ndarray, " n"], num_classes: int, neighbours: int = 10
) -> Votes:
    """Classifies each image by its `neighbours` nearest among the others; needs more images than that."""
    rows = np.arange(len(labels))
    votes = majority_votes(nearest(features, features, neighbours, exclude=rows), labels, num_classes)
    predicted = votes.argmax(axis=1)
    return Votes(predicted, votes[rows, predicted], votes[rows, labels])
