"""Do 90 % sure predictions come true nine times in ten? Expected calibration error (Guo et al. 2017)."""

from typing import Any

import numpy as np


def calibration(confidence: np.ndarray, correct: np.ndarray, bins: int = 15) -> dict[str, Any]:
    """`ece` and the reliability diagram's bins.

    Args:
        confidence: [N], the probability of the predicted class.
        correct: [N], whether it was the true one.
    """
    edges = np.linspace(0, 1, bins + 1)
    which = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)  # bins are (low, high]
    rows, ece = [], 0.0
    for i in range(bins):
        inside = which == i
        count = int(inside.sum())
        sure = float(confidence[inside].mean()) if count else None
        right = float(correct[inside].mean()) if count else None
        if sure is not None and right is not None:
            ece += count / len(confidence) * abs(sure - right)
        rows.append(
            {"low": float(edges[i]), "high": float(edges[i + 1]), "count": count, "confidence": sure, "accuracy": right}
        )
    return {"ece": ece, "bins": rows}
