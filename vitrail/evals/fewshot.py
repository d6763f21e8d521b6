"""Few-shot linear evaluation in closed form (section 4.1): ridge regression onto -1 and 1, in float64.

The algorithm is that of big_vision's evaluators/fewshot_lsr.py.

N images · D features · K classes
"""

import numpy as np
from jaxtyping import Float, Int

BIAS = 100.0  # the official constant feature: so large that the ridge hardly touches the bias
RIDGE = 1024.0  # the official 2^10


def standardise(
    train: Float[np.ndarray, "n d"], test: Float[np.ndarray, "m d"]
) -> tuple[Float[np.ndarray, "n e"], Float[np.ndarray, "m e"]]:
    """Both by the mean and deviation of `train` (plus 1e-5), and the constant feature appended; e = d + 1."""
    train, test = train.astype(np.float64), test.astype(np.float64)
    mean, std = train.mean(axis=0), train.std(axis=0) + 1e-5

    def prepared(x: np.ndarray) -> np.ndarray:
        return np.concatenate([(x - mean) / std, np.full((len(x), 1), BIAS)], axis=1)

    return prepared(train), prepared(test)


def solve_ridge(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n k"], ridge: float) -> Float[np.ndarray, "d k"]:
    """The W that minimises |XW - Y|² + ridge·|W|², by the smaller of the two equal systems.

    Primal, D x D: (XᵀX + ridge·I)⁻¹ Xᵀ Y. Dual, N x N: Xᵀ (XXᵀ + ridge·I)⁻¹ Y.
    """
    n, d = x.shape
    if n >= d:
        return np.linalg.solve(x.T @ x + ridge * np.eye(d), x.T @ y)
    return x.T @ np.linalg.solve(x @ x.T + ridge * np.eye(n), y)


def few_shot_scores(
    train: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    test: Float[np.ndarray, "m d"],
    classes: int,
    ridge: float = RIDGE,
) -> Float[np.ndarray, "m k"]:
    """The scores of the test images for each class; the prediction is the largest."""
    x, x_test = standardise(train, test)
    return x_test @ solve_ridge(x, 2.0 * np.eye(classes)[labels] - 1.0, ridge)


def few_shot_accuracy(
    train: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    test: Float[np.ndarray, "m d"],
    test_labels: Int[np.ndarray, " m"],
    classes: int,
    ridge: float = RIDGE,
) -> float:
    """Top-1 of the closed form."""
    return float((few_shot_scores(train, labels, test, classes, ridge).argmax(axis=1) == test_labels).mean())
