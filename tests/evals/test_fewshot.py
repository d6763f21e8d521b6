"""The closed form against outputs of the official code, against scikit-learn, and against itself."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from tests.evals.few_shot import few_shot_accuracy, few_shot_scores, rank_selected
from vitrail.core.errors import BadInput
from vitrail.evals import fewshot
from vitrail.evals.fewshot import BIAS, RIDGE, few_shot_fits
from vitrail.evals.fewshot_rank import (
    GRID,
    FewShotSet,
    choose_ridges,
    first_shots,
    grid_accuracies,
)

RIDGES = (0.0009765625, 1.0, 1024.0)


def official(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The official features: standardised by the training images, and a constant."""
    train, test = train.astype(np.float64), test.astype(np.float64)
    mean, deviation = train.mean(axis=0), train.std(axis=0) + 1e-5
    return tuple(np.hstack([(x - mean) / deviation, np.full((len(x), 1), BIAS)]) for x in (train, test))  # type: ignore[return-value]


def primal(x: np.ndarray, y: np.ndarray, ridge: float) -> np.ndarray:
    return np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ y)


def dual(x: np.ndarray, y: np.ndarray, ridge: float) -> np.ndarray:
    return x.T @ np.linalg.solve(x @ x.T + ridge * np.eye(len(x)), y)


@pytest.mark.parametrize("name", ["fewshot_k8_d20_s10", "fewshot_k8_d120_s5"], ids=["primal", "dual"])
@pytest.mark.parametrize("together", [False, True], ids=["one ridge", "all ridges"])
def test_against_the_official_scores(goldens: Path, name: str, together: bool) -> None:
    golden = np.load(goldens / f"{name}.npz")
    train, labels, test = golden["features"], golden["labels"], golden["test_features"]
    if together:  # from one eigendecomposition
        found = [fit.scores(test) for fit in few_shot_fits(train, labels, 8, RIDGES)]
    else:
        found = [few_shot_scores(train, labels, test, 8, ridge) for ridge in RIDGES]
    for ridge, scores in zip(RIDGES, found, strict=True):
        expected = golden[f"scores_l2_{ridge}"]
        error = np.abs(scores - expected).max() / np.abs(expected).max()
        assert error < 1e-8, ridge  # measured at most 1.5e-10 (many ridges), 6e-11 (one)
        assert (scores.argmax(axis=1) == golden["test_labels"]).mean() == golden[f"accuracy_l2_{ridge}"]
        accuracy = few_shot_accuracy(train, labels, test, golden["test_labels"], 8, ridge)
        assert accuracy == golden[f"accuracy_l2_{ridge}"]


@pytest.mark.parametrize("shape", [(40, 12), (12, 40), (20, 20)])
@pytest.mark.parametrize("ridge", RIDGES)
def test_equals_primal_and_dual(shape: tuple[int, int], ridge: float) -> None:
    rng = np.random.default_rng(0)
    train, test, labels = rng.normal(3, 2, shape), rng.normal(3, 2, (9, shape[1])), np.arange(shape[0]) % 3
    x, x_test = official(train, test)
    got = few_shot_scores(train, labels, test, 3, ridge)
    for slow in (primal, dual):
        expected = x_test @ slow(x, 2.0 * np.eye(3)[labels] - 1, ridge)
        # the larger of the two systems is nearly singular when the ridge is 2^-10: measured 2.4e-8
        assert np.abs(got - expected).max() < 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("shape", [(60, 20), (30, 90)])
def test_against_scikit_learn(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    train, test = rng.normal(2, 3, shape), rng.normal(2, 3, (50, shape[1]))
    labels = rng.integers(0, 4, shape[0])
    x, x_test = official(train, test)
    ridge = Ridge(alpha=RIDGE, fit_intercept=False, solver="cholesky").fit(x, 2.0 * np.eye(4)[labels] - 1)
    expected = ridge.predict(x_test)
    assert np.abs(few_shot_scores(train, labels, test, 4) - expected).max() < 1e-9  # measured 3.6e-14


def test_a_dead_feature_and_uneven_classes_are_as_in_the_official_form() -> None:
    rng = np.random.default_rng(0)
    train, test = rng.normal(5, 2, (30, 4)).astype(np.float32), rng.normal(9, 7, (10, 4)).astype(np.float32)
    train[:, 3] = test[:, 3] = 1
    labels = np.array([0] * 25 + [1] * 4 + [3])  # and none of class 2
    x, x_test = official(train, test)
    expected = x_test @ primal(x, 2.0 * np.eye(4)[labels] - 1, 1.0)
    assert np.abs(few_shot_scores(train, labels, test, 4, 1.0) - expected).max() < 1e-9


def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    train, test, labels = rng.normal(size=(50, 7)), rng.normal(size=(21, 7)), rng.integers(0, 3, 50)
    whole = few_shot_scores(train, labels, test, 3, 1.0)
    monkeypatch.setattr(fewshot, "ROWS", 8)
    assert np.abs(few_shot_scores(train, labels, test, 3, 1.0) - whole).max() < 1e-12


def test_orthogonal_features_are_learned_perfectly() -> None:
    labels = np.arange(8) % 4
    train = np.eye(8)
    assert few_shot_accuracy(train, labels, train, labels, 4, ridge=1e-6) == 1


def some_set(seed: int, noise: float) -> FewShotSet:
    """Classes are directions; the noisier the features, the stronger the ridge that helps."""
    rng = np.random.default_rng(seed)
    centres, labels, test_labels = rng.normal(size=(5, 30)), np.arange(60) % 5, np.arange(200) % 5
    train = centres[labels] + noise * rng.normal(size=(60, 30))
    return FewShotSet(train, labels, centres[test_labels] + noise * rng.normal(size=(200, 30)), test_labels, 5)


def test_the_older_form_takes_the_first_images_and_every_ridge_of_its_grid() -> None:
    one = some_set(0, 2.0)
    rows = first_shots(one.labels, 5, 3)
    assert rows.tolist() == [0, 5, 10, 1, 6, 11, 2, 7, 12, 3, 8, 13, 4, 9, 14]
    assert (GRID[0], GRID[-1], len(GRID)) == (2**-10, 2**19, 30)
    x, x_test = official(one.train[rows], one.test)
    for ridge, accuracy in zip(GRID, grid_accuracies(one, 3), strict=True):
        expected = x_test @ primal(x, 2.0 * np.eye(5)[one.labels[rows]] - 1, ridge)
        assert accuracy == (expected.argmax(axis=1) == one.test_labels).mean()
    with pytest.raises(BadInput, match="13 shots asked for, but class number 0 has 12 images"):
        first_shots(one.labels, 5, 13)


def test_the_ridge_of_the_best_mean_rank_is_chosen_with_or_without_a_set_itself() -> None:
    accuracies = {
        "a": np.array([0.1, 0.2, 0.3]),  # ranks 0 1 2
        "b": np.array([0.9, 0.8, 0.7]),  # ranks 2 1 0
        "c": np.array([0.5, 0.7, 0.6]),  # ranks 0 2 1
    }
    assert choose_ridges(accuracies, "all") == {"a": 1, "b": 1, "c": 1}
    # without a: 2 3 1; without b: 0 3 3, the first of the equal ones; without c: 2 2 2
    assert choose_ridges(accuracies, "leave-self-out") == {"a": 1, "b": 1, "c": 0}
    with pytest.raises(BadInput, match="leave-self-out chooses by the other data sets"):
        choose_ridges({"a": accuracies["a"]}, "leave-self-out")


def test_one_ridge_for_all_sets_at_each_number_of_shots() -> None:
    sets = {"clean": some_set(0, 0.5), "noisy": some_set(1, 3.0), "noisier": some_set(2, 5.0)}
    results = rank_selected(sets, (1, 10))
    assert [row[:2] for row in results] == [(name, shots) for shots in (1, 10) for name in sets]
    for shots in (1, 10):
        assert len({ridge for _, count, ridge, _ in results if count == shots}) == 1
    for name, shots, ridge, accuracy in results:
        assert accuracy == grid_accuracies(sets[name], shots)[GRID.index(ridge)]
