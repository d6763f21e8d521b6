"""The older few-shot evaluation of Google's code, of the time of the paper: a ridge that is chosen across data sets.

The first `shots` images of each class, no seeds; every ridge of a grid is tried, and for each number of shots the one
of the best mean rank over the data sets is used for all of them. Ranks come from test accuracies, as in the original:
with "all", a set has a say in its own choice, so its accuracy is a little optimistic (with one set alone, as much as
choosing on the test images is). "leave-self-out" chooses for each set by the others.

N images · D features · K classes · R ridges
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int, Int64

from vitrail.core.errors import BadInput
from vitrail.evals.fewshot import few_shot_fits

GRID = tuple(2.0**power for power in range(-10, 20))

Selection = Literal["all", "leave-self-out"]


class FewShotSet(NamedTuple):
    """The features of a data set, training images in their order, and how many classes there are."""

    train: Float[np.ndarray, "n d"]
    labels: Int[np.ndarray, " n"]
    test: Float[np.ndarray, "m d"]
    test_labels: Int[np.ndarray, " m"]
    classes: int


def grid_accuracies(one: FewShotSet, shots: int, ridges: Sequence[float] = GRID) -> Float64[np.ndarray, " r"]:
    """The test accuracy of each ridge with the first `shots` images of each class; one eigendecomposition for all."""
    rows = first_shots(one.labels, one.classes, shots)
    fits = few_shot_fits(one.train[rows], one.labels[rows], one.classes, ridges)
    return np.array([(fit.scores(one.test).argmax(axis=1) == one.test_labels).mean() for fit in fits])


def first_shots(labels: Int[np.ndarray, " n"], classes: int, count: int) -> Int64[np.ndarray, " m"]:
    """The places of the first `count` images of each class, class by class.

    Raises:
        BadInput: a class has fewer.
    """
    places = [np.flatnonzero(labels == label)[:count] for label in range(classes)]
    for label, members in enumerate(places):
        if len(members) < count:
            raise BadInput(f"{count} shots asked for, but class number {label} has {len(members)} images")
    return np.concatenate(places)


def choose_ridges(accuracies: Mapping[str, Float64[np.ndarray, " r"]], selection: Selection) -> dict[str, int]:
    """Chooses for each set the ridge of the best mean rank, by its index in the grid; of equal ones the smallest.

    Equal accuracies of one set rank by their place, the larger ridge higher, as in the original.
    """
    if selection == "leave-self-out" and len(accuracies) < 2:
        raise BadInput("leave-self-out chooses by the other data sets, and there is one; give several, or say all")
    ranks = {name: np.argsort(np.argsort(row, kind="stable")) for name, row in accuracies.items()}
    chosen = {}
    for name in ranks:
        voters = [rank for other, rank in ranks.items() if selection == "all" or other != name]
        chosen[name] = int(np.argmax(np.mean(voters, axis=0)))
    return chosen
