"""Few-shot linear evaluation in closed form (section 4.1): ridge regression onto -1 and 1, in float64.

The algorithm is that of big_vision's evaluators/fewshot_lsr.py: each feature is standardised by the training images, a
constant feature of 100 is appended, and W = (XᵀX + ridge·I)⁻¹ XᵀY. Standardised features sum to zero, so the constant
one is orthogonal to all others and its weights are known without solving anything; what is left is well scaled. XᵀY is
twice the sums of the features of each class, so Y is never made.

N images · D features · K classes
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int
from scipy.linalg import cho_factor, cho_solve, eigh
from scipy.sparse import csr_array

BIAS = 100.0  # the official constant feature: so large that the ridge hardly touches the bias
RIDGE = 1024.0  # the official 2^10
ROWS = 16_384  # images that are held in float64 at a time, so that features may lie in a file


class Linear(NamedTuple):
    """A linear classifier of features as they are: scores = x V + c."""

    weights: Float64[np.ndarray, "d k"]
    bias: Float64[np.ndarray, " k"]

    def scores(self, x: Float[np.ndarray, "m d"]) -> Float64[np.ndarray, "m k"]:
        """The score of each class for each image; the prediction is the largest."""
        parts = [x[i : i + ROWS].astype(np.float64) @ self.weights for i in range(0, len(x), ROWS)]
        return np.concatenate([part + self.bias for part in parts]) if parts else np.empty((0, len(self.bias)))


def few_shot_fits(
    train: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], classes: int, ridges: Sequence[float]
) -> Iterator[Linear]:
    """The classifier of each ridge (above 0), in their order: of several, from one eigendecomposition.

    Of XᵀX + ridge·I (D x D) and XXᵀ + ridge·I (N x N), which give the same, the smaller one is solved.
    """
    count = len(train)
    mean = sum(block.sum(axis=0) for block in _blocks(train)) / count
    onehot = csr_array((np.ones(count), labels, np.arange(count + 1)), shape=(count, classes))
    primal = count >= train.shape[1]
    if primal:
        products, sums, start = 0.0, 0.0, 0
        for block in _blocks(train):
            block -= mean
            products, sums = products + block.T @ block, sums + onehot[start : start + len(block)].T @ block
            start += len(block)
        deviation = np.sqrt(np.diag(products) / count) + 1e-5
        matrix, right = products / np.outer(deviation, deviation), 2 * (sums / deviation).T
    else:
        x = train.astype(np.float64) - mean
        deviation = np.sqrt((x * x).mean(axis=0)) + 1e-5
        x /= deviation
        matrix, right = x @ x.T, 2 * onehot.toarray() - 1
    members = np.bincount(labels, minlength=classes)
    for ridge, solved in zip(ridges, _solutions(matrix, right, ridges), strict=True):
        weights = (solved if primal else x.T @ solved) / deviation[:, None]
        bias = BIAS**2 * (2 * members - count) / (BIAS**2 * count + ridge)
        yield Linear(weights, bias - mean @ weights)


def _blocks(values: Float[np.ndarray, "n d"]) -> Iterator[Float64[np.ndarray, "m d"]]:
    for start in range(0, len(values), ROWS):
        yield values[start : start + ROWS].astype(np.float64)  # a copy


def _solutions(
    matrix: Float64[np.ndarray, "n n"], right: Float64[np.ndarray, "n k"], ridges: Sequence[float]
) -> Iterator[Float64[np.ndarray, "n k"]]:
    """(matrix + ridge·I)⁻¹ right, for each ridge."""
    if len(ridges) == 1:
        matrix[np.diag_indices_from(matrix)] += ridges[0]
        yield cho_solve(cho_factor(matrix, overwrite_a=True, check_finite=False), right, check_finite=False)
        return
    values, vectors = eigh(matrix, overwrite_a=True, check_finite=False, driver="evd")
    values, turned = np.maximum(values, 0), vectors.T @ right  # a Gram matrix has no negative ones, rounding has
    for ridge in ridges:
        yield vectors @ (turned / (values + ridge)[:, None])
