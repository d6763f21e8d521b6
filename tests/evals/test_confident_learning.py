"""Confident learning on frozen features: it doubts what its authors' library doubts, and often what is wrong."""

import numpy as np
import pytest

from vitrail.evals.confident_learning import label_errors, out_of_fold


def noisy(count: int, classes: int, wrong: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features around a centre for each class, the labels that were given, and the true ones."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, count)
    values = (rng.normal(size=(classes, 16))[truth] * 1.2 + rng.normal(size=(count, 16))).astype(np.float32)
    given = truth.copy()
    turned = rng.permutation(count)[: int(wrong * count)]
    given[turned] = (given[turned] + rng.integers(1, classes, len(turned))) % classes
    return values, given, truth


@pytest.mark.parametrize(("classes", "wrong", "seed"), [(2, 0.1, 0), (5, 0.2, 1), (10, 0.05, 2), (4, 0.0, 3)])
def test_selection_and_ranking_are_those_of_cleanlab(classes: int, wrong: float, seed: int) -> None:
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    values, given, _ = noisy(600, classes, wrong, seed)
    shares = out_of_fold(values, given, classes)
    found = label_errors(given, shares)
    theirs = find_label_issues(
        given, shares, filter_by="confident_learning", return_indices_ranked_by="self_confidence", n_jobs=1
    )
    assert found.places.tolist() == theirs.tolist()
    scores = get_label_quality_scores(given, shares, method="self_confidence", adjust_pred_probs=False)
    assert np.array_equal(np.sort(scores[found.places]), scores[found.places]), "the most doubtful first"


@pytest.mark.parametrize("seed", range(20))
def test_any_probabilities_are_judged_as_cleanlab_does(seed: int) -> None:
    """Also coarse ones with ties, and ones that fit the labels badly."""
    from cleanlab.filter import find_label_issues

    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(4, 0.5), 300)
    shares = np.round(shares * 8 + 0.25) / 8 if seed % 2 else shares
    shares /= shares.sum(axis=1, keepdims=True)
    given = np.where(rng.random(300) < 0.7, shares.argmax(axis=1), rng.integers(0, 4, 300))
    theirs = find_label_issues(given, shares, filter_by="confident_learning", n_jobs=1)
    assert sorted(label_errors(given, shares).places.tolist()) == np.flatnonzero(theirs).tolist()


def test_wrong_labels_are_found_and_what_they_should_be() -> None:
    values, given, truth = noisy(2000, 5, 0.08, 4)
    found = label_errors(given, out_of_fold(values, given, 5))
    wrong = np.flatnonzero(given != truth)
    hits = np.isin(found.places, wrong)
    assert hits.mean() > 0.8
    assert np.isin(wrong, found.places).mean() > 0.5
    assert (found.rather[hits] == truth[found.places[hits]]).mean() > 0.95
    assert hits[:50].mean() > 0.95, "the most doubtful first"


def test_no_image_is_judged_by_what_learned_from_it() -> None:
    """Labels without any relation to the features: whoever had seen them would know them, these do not."""
    rng = np.random.default_rng(0)
    values, labels = rng.normal(size=(200, 400)).astype(np.float32), rng.integers(0, 2, 200)
    shares = out_of_fold(values, labels, 2)
    assert abs((shares.argmax(axis=1) == labels).mean() - 0.5) < 0.15
    assert shares.sum(axis=1) == pytest.approx(1)
