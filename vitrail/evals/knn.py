"""What the nearest neighbours of an image say of its label, by the cosine of their features.

N training images · M test images · D features · K classes · k neighbours
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, Int64

ROWS = 1024  # of the matrix of all products that is held at a time
COLUMNS = 65_536  # of it, so that the features of a million images may lie in a file


class Nearest(NamedTuple):
    """Of each test image the places of its neighbours among the training images, and their cosines, nearest first."""

    places: Int64[np.ndarray, "m k"]
    cosines: Float32[np.ndarray, "m k"]


def nearest(train: Float[np.ndarray, "n d"], test: Float[np.ndarray, "m d"], neighbours: int) -> Nearest:
    """The `neighbours` of the greatest cosine, or all where there are fewer; exact."""
    count = min(neighbours, len(train))
    unit = _unit(test)
    places = np.zeros((len(test), 0), np.int64)
    cosines = np.zeros((len(test), 0), np.float32)
    for start in range(0, len(train), COLUMNS):
        block = _unit(train[start : start + COLUMNS])
        found = [_greatest(unit[i : i + ROWS] @ block.T, count) for i in range(0, len(unit), ROWS)]
        if found:
            places = np.concatenate([places, np.concatenate([f.places for f in found]) + start], axis=1)
            cosines = np.concatenate([cosines, np.concatenate([f.cosines for f in found])], axis=1)
    order = np.lexsort((places, -cosines), axis=1)[:, :count]  # by place where cosines are equal
    return Nearest(np.take_along_axis(places, order, 1), np.take_along_axis(cosines, order, 1))


def _greatest(products: Float32[np.ndarray, "m n"], count: int) -> Nearest:
    count = min(count, products.shape[1])
    places = np.argpartition(products, -count, axis=1)[:, -count:]
    return Nearest(places, np.take_along_axis(products, places, 1))


def weighted_votes(
    found: Nearest, labels: Int[np.ndarray, " n"], classes: int, temperature: float = 0.07
) -> Float64[np.ndarray, "m k"]:
    """Each neighbour votes for its class with exp(cosine / temperature) (Wu et al. 2018; DINO with k 20 and 0.07).

    Shares of all votes: only their relations matter, and without the division the numbers would be huge.
    """
    cosines = found.cosines.astype(np.float64)
    weights = np.exp((cosines - cosines.max(axis=1, keepdims=True)) / temperature)
    return _votes(found, weights / weights.sum(axis=1, keepdims=True), labels, classes)


def majority_votes(found: Nearest, labels: Int[np.ndarray, " n"], classes: int) -> Float64[np.ndarray, "m k"]:
    """Each neighbour has the same vote; where classes have equally many, the first is the largest of `argmax`."""
    return _votes(found, np.full(found.places.shape, 1 / found.places.shape[1]), labels, classes)


def _votes(
    found: Nearest, weights: Float64[np.ndarray, "m k"], labels: Int[np.ndarray, " n"], classes: int
) -> Float64[np.ndarray, "m c"]:
    votes = np.zeros((len(found.places), classes))
    rows = np.repeat(np.arange(len(votes)), found.places.shape[1])
    np.add.at(votes, (rows, labels[found.places].ravel()), weights.ravel())
    return votes


def _unit(features: Float[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    features = features.astype(np.float32)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-6)


class Votes(NamedTuple):
    """For each image the class that most neighbours have; the shares of them that have it, and that have its own."""

    predicted: Int64[np.ndarray, " n"]
    share: Float32[np.ndarray, " n"]
    own: Float32[np.ndarray, " n"]


def leave_one_out(
    features: Float32[np.ndarray, "n d"], labels: Int64[np.ndarray, " n"], num_classes: int, neighbours: int = 10
) -> Votes:
    """Each image judged by the `neighbours` others of the greatest cosine; needs more images than that."""
    unit = _unit(features)
    votes = np.zeros((len(labels), num_classes), np.float32)
    for start in range(0, len(labels), ROWS):
        products = unit[start : start + ROWS] @ unit.T
        rows = np.arange(len(products))
        products[rows, rows + start] = -np.inf  # itself
        nearest = np.argpartition(products, -neighbours, axis=1)[:, -neighbours:]
        np.add.at(votes, (np.repeat(rows + start, neighbours), labels[nearest].ravel()), 1 / neighbours)
    every = np.arange(len(labels))
    predicted = votes.argmax(axis=1)
    return Votes(predicted, votes[every, predicted], votes[every, labels])
