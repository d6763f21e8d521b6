"""Two classifiers on the same images: which is better, by how much, and whether that is more than chance."""

from dataclasses import replace
from math import sqrt
from pathlib import PurePath

import numpy as np
from scipy.stats import binom, binomtest, chi2

from vitrail.core.errors import BadInput
from vitrail.core.estimate import Interval, Z
from vitrail.evals.intervals import Figure, Weights, balanced, bootstrap, mean_of
from vitrail.evals.predictions import Predictions, StoredPredictions, occurrences
from vitrail.records.comparison import (
    Better,
    ComparedClass,
    ComparedFigure,
    Comparison,
    Figures,
    McNemar,
    OnlyOneRight,
)
from vitrail.records.images import Mistake

LEVEL = 0.05
LISTED = 12  # images that only one of the two recognises, of each


def mcnemar(only_first: int, only_second: int) -> McNemar:
    """McNemar's test (1947) of how many images only the first, and only the second, of two models recognises."""
    total = only_first + only_second
    if total == 0:
        return McNemar(exact=1.0, mid_p=1.0, chi2=1.0)
    exact = float(binomtest(only_first, total).pvalue)
    observed = float(binom.pmf(only_first, total, 0.5))
    middle = exact - observed / (1 if only_first != only_second else 2)  # half of both tails, or of the one middle
    distance = max(0, abs(only_first - only_second) - 1) ** 2 / total
    return McNemar(exact=exact, mid_p=middle, chi2=float(chi2.sf(distance, 1)))


def difference_interval(only_first: int, only_second: int, count: int) -> Interval:
    """The 95 % interval of first less second accuracy on `count` images (Bonett and Price 2012, adjusted Wald)."""
    first, second = (only_first + 1) / (count + 2), (only_second + 1) / (count + 2)
    spread = Z * sqrt((first + second - (first - second) ** 2) / (count + 2))
    return max(-1.0, first - second - spread), min(1.0, first - second + spread)


def compare(first: StoredPredictions, second: StoredPredictions) -> Comparison:
    """Compares two models on the images that both have judged.

    Raises:
        BadInput: other classes, no image in common, or images that have other labels.
    """
    one, other, alone = _paired(first, second)
    count = len(one)
    only_one, only_other = one.correct & ~other.correct, other.correct & ~one.correct
    tested = mcnemar(int(only_one.sum()), int(only_other.sum()))
    bounds = difference_interval(int(only_one.sum()), int(only_other.sum()), count)
    accuracy = _row("accuracy", float(one.correct.mean()), float(other.correct.mean()), bounds)
    better = accuracy.better if tested.exact < LEVEL else None
    result = Comparison(
        sentence="",
        first=first.model,
        second=second.model,
        names=short(first.model, second.model),
        data=first.data,
        count=count,
        left_out=alone,
        both=int((one.correct & other.correct).sum()),
        only_first=int(only_one.sum()),
        only_second=int(only_other.sum()),
        neither=int((~one.correct & ~other.correct).sum()),
        same_answer=int((one.predicted == other.predicted).sum()),
        mcnemar=tested,
        better=better,
        rows=[replace(accuracy, better=better), *_others(one, other)],
        classes=_by_class(one, only_one, only_other, first.classes),
        examples=OnlyOneRight(
            only_first=_listed(one, other, only_one, first.classes),
            only_second=_listed(other, one, only_other, first.classes),
        ),
    )
    return replace(result, sentence=_sentence(result))


def _paired(first: StoredPredictions, second: StoredPredictions) -> tuple[Predictions, Predictions, int]:
    """The rows of both for the images that both have, with labels as places of the first's classes."""
    if set(first.classes) != set(second.classes):
        only = sorted(set(first.classes) ^ set(second.classes))[0]
        raise BadInput(
            f"{first.model} and {second.model} cannot be compared: only one of them judged the class {only!r}"
        )
    places = {key: i for i, key in enumerate(occurrences(second.outcomes.keys))}
    rows = [(i, places[key]) for i, key in enumerate(occurrences(first.outcomes.keys)) if key in places]
    if not rows:
        raise BadInput(
            f"{first.model} and {second.model} have no image in common: the first judged {first.outcomes.keys[0]!r} of "
            f"{first.data}, the second {second.outcomes.keys[0]!r} of {second.data}"
        )
    ours, theirs = np.array(rows).T
    place = {name: i for i, name in enumerate(first.classes)}
    named = np.array([place[name] for name in second.classes], np.int64)
    one, other = _some(first.outcomes, ours), _some(second.outcomes, theirs, named)
    unlike = np.flatnonzero(one.labels != other.labels)
    if len(unlike) and not (first.several and second.several):
        i = int(unlike[0])
        labels = first.classes[int(one.labels[i])], first.classes[int(other.labels[i])]
        raise BadInput(f"{one.keys[i]} is labelled {labels[0]!r} for one model and {labels[1]!r} for the other")
    return one, other, len(first.outcomes) + len(second.outcomes) - 2 * len(rows)


def _some(rows: Predictions, which: np.ndarray, named: np.ndarray | None = None) -> Predictions:
    labels, predicted = rows.labels[which], rows.predicted[which]
    return Predictions(
        [rows.keys[i] for i in which.tolist()],
        labels if named is None else named[labels],
        predicted if named is None else named[predicted],
        rows.confidence[which],
        rows.loss[which],
        None if rows.top5 is None else rows.top5[which],
    )


def _others(one: Predictions, other: Predictions) -> list[ComparedFigure]:
    """The figures other than accuracy: a bootstrap of the same resamples for both."""
    pairs: dict[Figures, tuple[Figure, Figure]] = {
        "balanced_accuracy": (balanced(one.labels, one.correct), balanced(other.labels, other.correct)),
        "loss": (mean_of(one.loss), mean_of(other.loss)),
    }
    if one.top5 is not None and other.top5 is not None:
        pairs = {"top5": (mean_of(one.top5), mean_of(other.top5)), **pairs}
    intervals = bootstrap({name: _difference(*pair) for name, pair in pairs.items()}, len(one))
    once = np.ones((1, len(one)))
    return [
        _row(name, float(ours(once)[0]), float(theirs(once)[0]), intervals[name])
        for name, (ours, theirs) in pairs.items()
    ]


def _difference(ours: Figure, theirs: Figure) -> Figure:
    def figure(weights: Weights) -> np.ndarray:
        return ours(weights) - theirs(weights)

    return figure


def _row(name: Figures, first: float, second: float, bounds: Interval) -> ComparedFigure:
    better: Better | None = None
    if not bounds[0] <= 0 <= bounds[1]:
        better = "first" if (bounds[0] > 0) != (name == "loss") else "second"
    difference = first - second
    return ComparedFigure(
        figure=name, first=first, second=second, difference=difference, interval=bounds, better=better
    )


def _by_class(
    rows: Predictions, only_first: np.ndarray, only_second: np.ndarray, classes: tuple[str, ...]
) -> list[ComparedClass]:
    """The classes in which the two differ, the largest p last; p times the number of classes (Bonferroni)."""
    size = len(classes)
    counts, ours, theirs = (
        np.bincount(rows.labels[which], minlength=size) for which in (slice(None), only_first, only_second)
    )
    differ = np.flatnonzero(ours + theirs)
    compared = [
        ComparedClass(
            name=classes[i],
            count=int(counts[i]),
            only_first=int(ours[i]),
            only_second=int(theirs[i]),
            p=min(1.0, mcnemar(int(ours[i]), int(theirs[i])).exact * len(differ)),
        )
        for i in differ.tolist()
    ]
    return sorted(compared, key=lambda row: (row.p, -abs(row.only_first - row.only_second)))


def _listed(right: Predictions, wrong: Predictions, which: np.ndarray, classes: tuple[str, ...]) -> list[Mistake]:
    """Images that one recognises and the other takes for something else; the surest errors first."""
    places = np.flatnonzero(which)
    order = places[np.argsort(-wrong.confidence[places], kind="stable")][:LISTED]
    return [
        Mistake(
            key=right.keys[i],
            label=classes[int(right.labels[i])],
            predicted=classes[int(wrong.predicted[i])],
            confidence=float(wrong.confidence[i]),
        )
        for i in order.tolist()
    ]


def short(first: str, second: str) -> tuple[str, str]:
    """The ends of two paths by which they can be told apart."""
    for parts in range(1, 4):
        ends = ["/".join(PurePath(name).parts[-parts:]) for name in (first, second)]
        if ends[0] != ends[1]:
            return ends[0], ends[1]
    return (first, second) if first != second else (f"{first} (first)", f"{second} (second)")


def _sentence(result: Comparison) -> str:
    """A sentence to quote: which model is better, by how much, on how many images, and how sure that is."""
    (first, second), row, count = result.names, result.rows[0], result.count
    low, high = (100 * end for end in row.interval)
    points = 100 * row.difference
    if points < 0:
        first, second, points, low, high = second, first, -points, -high, -low
    p = result.mcnemar.exact
    bounds = f"{low:.1f} to {high:.1f}".replace("-", "−")  # a minus, not a hyphen
    sure = f"95 % interval {bounds}; McNemar p {f'= {p:.2g}' if p >= 0.001 else '< 0.001'}"
    same = f"on the same {count:,} images"
    if result.better is None:
        return f"{first} and {second} cannot be told apart {same}: {points:.1f} points between them ({sure})"
    return f"{first} is better than {second} by {points:.1f} points ({sure}) {same}"
