"""Selective classification: accuracy against the share of images that a model answers (risk and coverage)."""

from collections.abc import Sequence

import numpy as np

from vitrail.core.estimate import wilson
from vitrail.records.evaluation import Answered, CoveragePoint, Selective

POINTS = 100  # of the curve that are kept
TARGETS = (0.99, 0.95, 0.90)


def selective(confidence: np.ndarray, right: np.ndarray, thresholds: Sequence[float | None] | None = None) -> Selective:
    """The curve from the surest answers to all, its area, and that of a model that knows which answers are wrong.

    `area` is the mean accuracy over all shares answered (1 - AURC of Geifman and El-Yaniv 2017); answers of equal
    confidence are given or withheld together.

    Args:
        confidence: [N], of each answer.
        right: bool [N].
        thresholds: confidences that promise TARGETS, chosen on other images; chosen on these they promise too much.
    """
    shares, accuracies, _, count, correct = _curve(confidence, right)
    chosen = np.unique(np.searchsorted(shares, np.linspace(1 / POINTS, 1, POINTS)).clip(max=len(shares) - 1))
    curve = [
        CoveragePoint(
            share=float(shares[i]), accuracy=float(accuracies[i]), interval=wilson(int(correct[i]), int(count[i]))
        )
        for i in chosen.tolist()
    ]
    best = np.cumsum(np.sort(right)[::-1]) / np.arange(1, len(right) + 1)
    promised = thresholds or [threshold(confidence, right, target) for target in TARGETS]
    return Selective(
        curve=curve,
        area=_area(shares, accuracies),
        ideal=float(best.mean()),
        answered=[answered(confidence, right, *pair) for pair in zip(TARGETS, promised, strict=True)],
        chosen_elsewhere=thresholds is not None,
    )


def _curve(confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, ...]:
    """Share answered, accuracy, threshold, images answered, and right ones, for each distinct confidence, falling."""
    order = np.argsort(-confidence, kind="stable")
    sure = confidence[order]
    ends = np.flatnonzero(np.append(sure[1:] != sure[:-1], True))
    answered, correct = ends + 1, np.cumsum(right[order])[ends]
    return answered / len(sure), correct / answered, sure[ends], answered, correct


def _area(shares: np.ndarray, accuracies: np.ndarray) -> float:
    """The area under accuracy over coverage, in steps: up to each coverage its accuracy holds."""
    return float((np.diff(shares, prepend=0.0) * accuracies).sum())


def threshold(confidence: np.ndarray, right: np.ndarray, target: float) -> float | None:
    """The lowest confidence from which answers are right with the share `target`; None where none reaches it."""
    _, accuracies, sure, _, _ = _curve(confidence, right)
    enough = np.flatnonzero(accuracies >= target)
    return float(sure[enough[-1]]) if len(enough) else None


def answered(confidence: np.ndarray, right: np.ndarray, target: float, least: float | None) -> Answered:
    """Coverage and accuracy when answering from the confidence `least` on; None where nothing is answered."""
    given = confidence >= least if least is not None else np.zeros(len(confidence), bool)
    count, correct = int(given.sum()), int(right[given].sum())
    return Answered(
        target=target,
        confidence=least,
        share=count / len(confidence),
        accuracy=correct / count if count else None,
        interval=wilson(correct, count) if count else None,
    )
