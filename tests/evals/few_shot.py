"""The few-shot evaluations in one call each, for the tests of what uses their parts."""

from collections.abc import Mapping, Sequence

import numpy as np

from vitrail.evals.fewshot import RIDGE, few_shot_fits
from vitrail.evals.fewshot_rank import GRID, FewShotSet, choose_ridges, grid_accuracies


def few_shot_scores(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, classes: int, ridge: float = RIDGE
) -> np.ndarray:
    (fit,) = few_shot_fits(train, labels, classes, (ridge,))
    return fit.scores(test)


def few_shot_accuracy(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray, classes: int, ridge: float = RIDGE
) -> float:
    return float((few_shot_scores(train, labels, test, classes, ridge).argmax(axis=1) == truth).mean())


def rank_selected(sets: Mapping[str, FewShotSet], shots: Sequence[int]) -> list[tuple[str, int, float, float]]:
    """Name, shots, ridge and accuracy of all sets together, set by set within each number of shots."""
    results = []
    for count in shots:
        tried = {name: grid_accuracies(data, count) for name, data in sets.items()}
        chosen = choose_ridges(tried, "all")
        results += [(name, count, GRID[i], float(tried[name][i])) for name, i in chosen.items()]
    return results
