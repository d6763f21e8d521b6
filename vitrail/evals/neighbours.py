"""What the nearest neighbours of an image say of its label: leave-one-out k nearest neighbours on features."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

ROWS = 1024  # of the matrix of all products that is held at a time


class Votes(NamedTuple):
    """For each image the class that most neighbours have; the shares of them that have it, and that have its own."""

    predicted: Int64[np.ndarray, " n"]
    share: Float32[np.ndarray, " n"]
    own: Float32[np.ndarray, " n"]


def leave_one_out(
    features: Float32[np.ndarray, "n d"], labels: Int64[np.ndarray, " n"], num_classes: int, neighbours: int = 10
) -> Votes:
    """Each image judged by the `neighbours` others of the greatest cosine; needs more images than that."""
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-6)
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
