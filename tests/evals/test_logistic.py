"""Logistic regression against scikit-learn's, and how its strength is chosen."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from vitrail.core.errors import BadInput
from vitrail.evals import logistic
from vitrail.evals.logistic import USUAL, fit_logistic, held_out, logistic_regression


def blobs(count: int, width: int = 6, classes: int = 4, noise: float = 1.5, seed: int = 0):
    rng = np.random.default_rng(seed)
    centres, labels = np.random.default_rng(9).normal(size=(classes, width)), np.arange(count) % classes
    return (3 + 2 * (centres[labels] + noise * rng.normal(size=(count, width)))).astype(np.float32), labels


@pytest.mark.parametrize("strength", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("classes", [2, 4])
def test_against_scikit_learn(strength: float, classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic, "ROWS", 64)  # several blocks
    x, labels = blobs(200, classes=classes)
    test, _ = blobs(50, classes=classes, seed=1)
    scaler = StandardScaler().fit(x.astype(np.float64))
    # scikit-learn fits two classes by one logit; the strength of two that are free to share it is twice that
    C = 1 / strength if classes > 2 else 2 / strength
    theirs = LogisticRegression(C=C, tol=1e-8, max_iter=10_000).fit(scaler.transform(x.astype(np.float64)), labels)
    ours = fit_logistic(x, labels, classes, strength, tolerance=1e-8)
    difference = softmax(ours.scores(test), axis=1) - theirs.predict_proba(scaler.transform(test.astype(np.float64)))
    assert np.abs(difference).max() < 1e-5  # measured 4e-7
    assert (ours.scores(test).argmax(axis=1) == theirs.predict(scaler.transform(test.astype(np.float64)))).all()


def test_a_start_elsewhere_ends_at_the_same_minimum() -> None:
    x, labels = blobs(100)
    cold = fit_logistic(x, labels, 4, 1.0, tolerance=1e-7)
    warm = fit_logistic(x, labels, 4, 1.0, fit_logistic(x, labels, 4, 100.0), tolerance=1e-7)
    assert np.abs(cold.scores(x) - warm.scores(x)).max() < 1e-4  # measured 3e-6


def test_the_strength_comes_from_images_split_off_train() -> None:
    x, labels = blobs(48, width=40, noise=3.0)
    test, right = blobs(2000, width=40, noise=3.0, seed=1)
    chosen = logistic_regression(x, labels, 4)
    assert chosen.chosen
    accuracies = {s: _accuracy(fit_logistic(x, labels, 4, s), test, right) for s in logistic.STRENGTHS}
    assert _accuracy(chosen.fit, test, right) == pytest.approx(accuracies[chosen.strength], abs=0.002)
    held = held_out(labels, 4, 0)
    assert np.bincount(labels[held]).tolist() == [2, 2, 2, 2]  # round(12 / 5)
    assert (held != held_out(labels, 4, 1)).any()


def test_one_image_a_class_has_the_usual_strength() -> None:
    x, labels = blobs(4)
    chosen = logistic_regression(x, labels, 4)
    assert (chosen.strength, chosen.chosen) == (USUAL, False)
    assert _accuracy(chosen.fit, x, labels) == 1


def test_dead_features_and_half_precision() -> None:
    x, labels = blobs(60)
    x[:, 2] = 7
    whole = fit_logistic(x, labels, 4, 1.0)
    assert np.isfinite(whole.weights).all()
    half = fit_logistic(x.astype(np.float16), labels, 4, 1.0)
    assert np.abs(whole.scores(x) - half.scores(x)).max() < 0.05


@pytest.mark.parametrize(
    ("labels", "strengths", "said"),
    [([0, 0, 2], (1.0,), "class number 1 has no training image"), ([0, 1, 2], (0.0, 1.0), "expected numbers above 0")],
)
def test_what_cannot_be_fitted(labels: list[int], strengths: tuple[float, ...], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        logistic_regression(np.eye(3), np.array(labels), 3, strengths=strengths)


def _accuracy(fit: logistic.Linear, x: np.ndarray, labels: np.ndarray) -> float:
    return float((fit.scores(x).argmax(axis=1) == labels).mean())
