"""Leave-one-out neighbours against a plain loop, and a planted wrong label."""

import numpy as np

from vitrail.evals import neighbours
from vitrail.evals.neighbours import leave_one_out


def test_against_a_plain_loop(monkeypatch) -> None:
    monkeypatch.setattr(neighbours, "ROWS", 7)  # several blocks
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
