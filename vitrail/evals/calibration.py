"""Do 90 % sure predictions come true nine times in ten? Expected calibration error and the temperature that lowers it.

Guo et al. 2017 (arXiv 1706.04599): logits divided by one number, fitted on images that were not trained on, keep every
answer and change only how sure it is.
"""

import numpy as np
from jaxtyping import Float32, Int64
from scipy.optimize import brentq
from torch import Tensor

from vitrail.core.estimate import Interval
from vitrail.records.evaluation import Calibration, CalibrationBin

BINS = 15
COLDEST, HOTTEST = 0.05, 20.0  # temperatures that are tried: beyond, answers are all sure or all the same
SIMULATED = 1000
ROWS = 4096  # of logits that are held in float64


def calibration(confidence: np.ndarray, correct: np.ndarray) -> Calibration:
    """The expected calibration error with its interval, and the bins of the reliability diagram.

    Args:
        confidence: [N], the probability of the predicted class.
        correct: [N], whether it was the true one.
    """
    edges = np.linspace(0, 1, BINS + 1)
    which = bin_of(confidence)
    rows, ece = [], 0.0
    for i in range(BINS):
        inside = which == i
        count = int(inside.sum())
        sure = float(confidence[inside].mean()) if count else None
        right = float(correct[inside].mean()) if count else None
        if sure is not None and right is not None:
            ece += count / len(confidence) * abs(sure - right)
        low, high = float(edges[i]), float(edges[i + 1])
        rows.append(CalibrationBin(low=low, high=high, count=count, confidence=sure, accuracy=right))
    return Calibration(ece=ece, ece_interval=ece_interval(confidence, correct), bins=rows)


def bin_of(confidence: np.ndarray, bins: int = BINS) -> Int64[np.ndarray, " n"]:
    """In which bin each confidence lies; bins are (low, high]."""
    return np.clip(np.searchsorted(np.linspace(0, 1, bins + 1), confidence, side="left") - 1, 0, bins - 1)


def ece_interval(confidence: np.ndarray, correct: np.ndarray) -> Interval:
    """The 95 % interval of the calibration error of so many bins, which is 0 for a model that is right as it says.

    The measured error of a perfect model is above 0, as noise in a bin counts as a gap whichever its sign; resampling
    adds that noise once more, and its interval excludes the truth. So the test is inverted: the interval holds those
    errors under which one as measured is likely. How an error is spread over the bins is not known; it is taken to be
    in proportion to the root of gap² + variance of each. docs/evaluate.md has the measured coverage.
    """
    count, which = len(confidence), bin_of(confidence)
    gap = confidence.astype(np.float64) - correct
    gaps = np.bincount(which, gap, BINS) / count
    variance = np.maximum(np.bincount(which, gap**2, BINS) / count - gaps**2, 0) / count
    measured, shape = float(np.abs(gaps).sum()), np.sqrt(gaps**2 + variance)
    noise = np.sqrt(variance) * np.random.default_rng(0).standard_normal((SIMULATED, BINS))

    def excess(error: float, quantile: float) -> float:
        likely = np.abs(error * shape / shape.sum() + noise).sum(axis=1)
        return float(np.quantile(likely, quantile)) - measured

    if measured == 0:  # every answer is certain and right
        return 0.0, 0.0
    most = measured + 10 * float(np.sqrt(variance).sum()) + 1e-9
    low = 0.0 if excess(0.0, 0.975) >= 0 else float(brentq(excess, 0.0, most, args=(0.975,), xtol=1e-6))
    high = 0.0 if excess(0.0, 0.025) >= 0 else float(brentq(excess, 0.0, most, args=(0.025,), xtol=1e-6))
    return min(low, measured), min(1.0, max(high, measured))


def fit_temperature(logits: Float32[Tensor, "n k"], labels: Int64[Tensor, " n"]) -> float:
    """The temperature T under which softmax(logits / T) gives the labels the greatest likelihood.

    The loss is convex in 1 / T: its slope, the mean of E[logit] - logit of the label, has one root, which is looked for
    between COLDEST and HOTTEST; where every answer is right, or the logits say nothing, the end of that range is meant.
    """

    def slope(inverse: float) -> float:
        total = 0.0
        for start in range(0, len(logits), ROWS):
            part = logits[start : start + ROWS].double()
            expected = ((part * inverse).softmax(dim=1) * part).sum(dim=1)
            own = part.gather(1, labels[start : start + ROWS, None])[:, 0]
            total += float((expected - own).sum())
        return total / len(logits)

    if slope(1 / HOTTEST) >= 0:
        return HOTTEST
    if slope(1 / COLDEST) <= 0:
        return COLDEST
    return 1 / float(brentq(slope, 1 / HOTTEST, 1 / COLDEST, xtol=1e-9))
