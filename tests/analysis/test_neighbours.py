"""Nearest neighbours, against scikit-learn's."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from vitrail.analysis.neighbours import nearest
from vitrail.evals import knn


def vectors(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 12)).astype(np.float32) * 3


@pytest.mark.parametrize("columns", [1 << 16, 30])
def test_neighbours_are_those_of_scikit_learn(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the matrix of similarities is made in parts."""
    monkeypatch.setattr(knn, "COLUMNS", columns)
    queries, features = vectors(9, 0), vectors(100, 1)
    places, similarities = nearest(queries, features, 7)
    distances, expected = NearestNeighbors(metric="cosine", algorithm="brute").fit(features).kneighbors(queries, 7)
    assert (places == expected).all()
    assert np.abs(similarities - (1 - distances)).max() < 1e-6  # measured 1.2e-7


def test_what_is_excluded_does_not_count() -> None:
    features = vectors(20, 1)
    excluded = np.arange(20)
    excluded[5] = -1
    places, similarities = nearest(features, features, 3, excluded)
    assert places[5, 0] == 5
    assert similarities[5, 0] == pytest.approx(1, abs=1e-6)
    assert all(i not in places[i] for i in range(20) if i != 5)


def test_a_small_set_gives_what_it_has_and_the_first_of_equals_comes_first() -> None:
    features = np.repeat(vectors(1, 2), 4, axis=0)
    places, similarities = nearest(features[:1], features, 9)
    assert places.tolist() == [[0, 1, 2, 3]]
    assert np.isfinite(similarities).all()
    places, similarities = nearest(features[:2], features, 9, np.array([1, -1]))
    assert places[0].tolist() == [0, 2, 3]
    assert np.isfinite(similarities).all()
    assert nearest(features[:1], features[:0], 3)[0].shape == (1, 0)
