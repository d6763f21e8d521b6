"""Neighbours against scikit-learn's and a plain loop, and a planted wrong label."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from vitrail.evals import knn
from vitrail.evals.knn import leave_one_out, majority_votes, nearest, weighted_votes


def test_against_a_plain_loop(monkeypatch) -> None:
    monkeypatch.setattr(knn, "ROWS", 7)  # several blocks
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(40, 5)).astype(np.float32), rng.integers(0, 3, 40)
    votes = leave_one_out(features, labels, 3, 5)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    for i in range(40):
        others = sorted((j for j in range(40) if j != i), key=lambda j: -float(unit[i] @ unit[j]))[:5]
        shares = np.bincount(labels[others], minlength=3) / 5
        assert np.isclose(votes.own[i], shares[labels[i]])
        assert np.isclose(votes.share[i], shares.max())
        assert np.isclose(shares[votes.predicted[i]], shares.max())


def test_a_wrong_label_has_no_neighbour_on_its_side() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 30)
    features = (rng.normal(size=(60, 8)) * 0.1 + np.eye(8)[labels]).astype(np.float32)
    labels[4] = 1
    votes = leave_one_out(features, labels, 2, 10)
    assert np.flatnonzero(votes.own < 0.05).tolist() == [4]
    assert votes.predicted[4] == 0


@pytest.mark.parametrize("blocks", [(7, 11), (1024, 65_536)], ids=["many blocks", "one block"])
@pytest.mark.parametrize("kind", ["plain", "weighted"])
def test_votes_against_scikit_learn(blocks: tuple[int, int], kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knn, "ROWS", blocks[0])
    monkeypatch.setattr(knn, "COLUMNS", blocks[1])
    rng = np.random.default_rng(0)
    train, test, labels = rng.normal(size=(60, 9)), rng.normal(size=(25, 9)), rng.integers(0, 5, 60)
    weights = (lambda distance: np.exp((1 - distance) / 0.07)) if kind == "weighted" else "uniform"
    peer = KNeighborsClassifier(8, metric="cosine", algorithm="brute", weights=weights).fit(train, labels)
    found = nearest(train, test, 8)
    votes = weighted_votes(found, labels, 5) if kind == "weighted" else majority_votes(found, labels, 5)
    assert np.abs(votes - peer.predict_proba(test)).max() < 1e-5  # measured 1.3e-6 weighted
    assert (votes.argmax(axis=1) == peer.predict(test)).all()
    distances, places = peer.kneighbors(test)
    assert (found.places == places).all()
    assert np.abs(found.cosines - (1 - distances)).max() < 1e-6


def test_fewer_images_than_neighbours_all_vote() -> None:
    train, labels = np.eye(3, dtype=np.float16), np.array([0, 1, 1])
    found = nearest(train, np.array([[1.0, 0.1, 0.0]]), 20)
    assert found.places.tolist() == [[0, 1, 2]]
    assert majority_votes(found, labels, 2)[0].argmax() == 1
    assert weighted_votes(found, labels, 2)[0].argmax() == 0, "the nearest has far more weight"


def vectors(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 12)).astype(np.float32) * 3


@pytest.mark.parametrize("columns", [1 << 16, 30])
def test_neighbours_are_those_of_scikit_learn(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the matrix of similarities is made in parts."""
    monkeypatch.setattr(knn, "COLUMNS", columns)
    queries, features = vectors(9, 0), vectors(100, 1)
    places, similarities = nearest(features, queries, 7)
    distances, expected = NearestNeighbors(metric="cosine", algorithm="brute").fit(features).kneighbors(queries, 7)
    assert (places == expected).all()
    assert np.abs(similarities - (1 - distances)).max() < 1e-6  # measured 1.2e-7


def test_what_is_excluded_does_not_count() -> None:
    features = vectors(20, 1)
    excluded = np.arange(20)
    excluded[5] = -1
    places, similarities = nearest(features, features, 3, exclude=excluded)
    assert places[5, 0] == 5
    assert similarities[5, 0] == pytest.approx(1, abs=1e-6)
    assert all(i not in places[i] for i in range(20) if i != 5)


def test_a_small_set_gives_what_it_has_and_the_first_of_equals_comes_first() -> None:
    features = np.repeat(vectors(1, 2), 4, axis=0)
    places, similarities = nearest(features, features[:1], 9)
    assert places.tolist() == [[0, 1, 2, 3]]
    assert np.isfinite(similarities).all()
    places, similarities = nearest(features, features[:2], 9, exclude=np.array([1, -1]))
    assert places[0].tolist() == [0, 2, 3]
    assert np.isfinite(similarities).all()
    assert nearest(features[:0], features[:1], 3)[0].shape == (1, 0)
