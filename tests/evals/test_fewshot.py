"""The closed form against outputs of the official code, against scikit-learn, and against itself."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from vitrail.evals.fewshot import BIAS, RIDGE, few_shot_accuracy, few_shot_scores, solve_ridge, standardise

RIDGES = (0.0009765625, 1.0, 1024.0)


@pytest.mark.parametrize("name", ["fewshot_k8_d20_s10", "fewshot_k8_d120_s5"], ids=["primal", "dual"])
@pytest.mark.parametrize("ridge", RIDGES)
def test_against_the_official_scores(goldens: Path, name: str, ridge: float) -> None:
    golden = np.load(goldens / f"{name}.npz")
    train, labels, test = golden["features"], golden["labels"], golden["test_features"]
    scores = few_shot_scores(train, labels, test, 8, ridge)
    expected = golden[f"scores_l2_{ridge}"]
    error = np.abs(scores - expected).max() / np.abs(expected).max()
    assert error < 1e-6  # measured at most 3.6e-11
    accuracy = few_shot_accuracy(train, labels, test, golden["test_labels"], 8, ridge)
    assert accuracy == golden[f"accuracy_l2_{ridge}"]


@pytest.mark.parametrize("shape", [(40, 12), (12, 40), (20, 20)])
@pytest.mark.parametrize("ridge", RIDGES)
def test_primal_equals_dual(shape: tuple[int, int], ridge: float) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=shape), rng.normal(size=(shape[0], 3))
    n, d = shape
    primal = np.linalg.solve(x.T @ x + ridge * np.eye(d), x.T @ y)
    dual = x.T @ np.linalg.solve(x @ x.T + ridge * np.eye(n), y)
    got = solve_ridge(x, y, ridge)
    for slow in (primal, dual):
        # the larger of the two systems is nearly singular when the ridge is 2^-10: measured 1.1e-11
        assert np.abs(got - slow).max() < 1e-8 * np.abs(slow).max()


@pytest.mark.parametrize("shape", [(60, 20), (30, 90)])
def test_against_scikit_learn(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    train, test = rng.normal(2, 3, shape), rng.normal(2, 3, (50, shape[1]))
    labels = rng.integers(0, 4, shape[0])
    x, x_test = standardise(train, test)
    ridge = Ridge(alpha=RIDGE, fit_intercept=False, solver="cholesky").fit(x, 2.0 * np.eye(4)[labels] - 1)
    expected = ridge.predict(x_test)
    assert np.abs(few_shot_scores(train, labels, test, 4) - expected).max() < 1e-9  # measured 2.0e-14


def test_features_are_standardised_by_the_training_images_alone() -> None:
    rng = np.random.default_rng(0)
    train, test = rng.normal(5, 2, (30, 4)).astype(np.float32), rng.normal(9, 7, (10, 4)).astype(np.float32)
    train[:, 3] = 1  # a dead feature
    x, x_test = standardise(train, test)
    assert x.dtype == x_test.dtype == np.float64
    assert np.abs(x[:, :3].mean(axis=0)).max() < 1e-12
    assert np.abs(x[:, :3].std(axis=0) - 1).max() < 1e-5
    assert (x[:, 3] == 0).all()
    assert (x[:, 4] == BIAS).all()
    assert (x_test[:, 4] == BIAS).all()
    deviation = train[:, 0].astype(np.float64).std() + 1e-5
    assert x_test[:, 0] == pytest.approx((test[:, 0] - train[:, 0].astype(np.float64).mean()) / deviation)


def test_orthogonal_features_are_learned_perfectly() -> None:
    labels = np.arange(8) % 4
    train = np.eye(8)
    assert few_shot_accuracy(train, labels, train, labels, 4, ridge=1e-6) == 1
