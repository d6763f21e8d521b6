"""Pairs of vectors that point the same way, of all pairs: exactly by matrix products, or within cells of the space."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int64

from vitrail.core.seeds import generator

ROWS, COLUMNS = 1024, 2048  # of a block of products: 8 MB, which the caches hold
MOST = 64  # pairs of an image that are kept: in a set where all look the same, their number would grow as its square
EXACT_UP_TO = 300_000  # vectors; 45 thousand million products, minutes on two cores
PROBES = 4  # cells that each vector lies in


class Candidates(NamedTuple):
    """Places of two vectors each, first < second; whether the second is mirrored; their product."""

    first: Int64[np.ndarray, " k"]
    second: Int64[np.ndarray, " k"]
    mirrored: Bool[np.ndarray, " k"]
    product: Float32[np.ndarray, " k"]


def candidates(
    vectors: Float32[np.ndarray, "n d"], threshold: float, *, even: int | None = None, alone: int | None = None
) -> Candidates:
    """The pairs whose product is at least `threshold`, of each vector the MOST nearest.

    Args:
        vectors: of length 1.
        even: the first so many numbers keep their sign when an image is mirrored; then mirrored pairs are found too.
        alone: from this place on vectors are not compared with each other, only with those before; None: all are.
    """
    search = exact if len(vectors) <= EXACT_UP_TO else within_cells
    return search(vectors, threshold, even=even, alone=len(vectors) if alone is None else alone)


def exact(vectors: Float32[np.ndarray, "n d"], threshold: float, *, even: int | None, alone: int) -> Candidates:
    """Every pair of which one at least lies before `alone` is compared."""
    found = []
    for top in range(0, alone, ROWS):
        rows = vectors[top : min(top + ROWS, alone)]
        parts = []
        for left in range(top // COLUMNS * COLUMNS, len(vectors), COLUMNS):
            parts.append(_block(rows, vectors[left : left + COLUMNS], threshold, even, top, left))
        found.append(_nearest(_joined(parts)))
    return _joined(found)


def within_cells(vectors: Float32[np.ndarray, "n d"], threshold: float, *, even: int | None, alone: int) -> Candidates:
    """Only pairs that share a cell: each vector, and its mirror, lies in the cells of its PROBES nearest centres.

    The centres are vectors of the set, as many as the root of their number, so that the work grows as its power 1.5.
    """
    count = len(vectors)
    centres = vectors[np.sort(generator(0, "cells").permutation(count)[: max(1, round(count**0.5))])]
    views = [vectors]
    if even is not None:
        turned = vectors.copy()
        turned[:, even:] *= -1
        views.append(turned)
    cells, members = [], []
    for view in views:
        for start in range(0, count, ROWS):
            products = view[start : start + ROWS] @ centres.T
            best = np.argpartition(-products, min(PROBES, len(centres)) - 1, axis=1)[:, :PROBES]
            cells.append(best.ravel())
            members.append(np.repeat(np.arange(start, start + len(best)), best.shape[1]))
    cell, member = np.concatenate(cells), np.concatenate(members)
    order = np.lexsort((member, cell))
    cell, member = cell[order], member[order]
    ends = np.flatnonzero(np.diff(cell)) + 1
    found = []
    for inside in np.split(member, ends):
        inside = np.unique(inside)
        here = exact(vectors[inside], threshold, even=even, alone=int(np.searchsorted(inside, alone)))
        found.append(Candidates(inside[here.first], inside[here.second], here.mirrored, here.product))
    every = _joined(found)
    _, once = np.unique(every.first * count + every.second, return_index=True)
    return _nearest(Candidates(*(column[once] for column in every)))


def _block(
    rows: np.ndarray, columns: np.ndarray, threshold: float, even: int | None, top: int, left: int
) -> Candidates:
    if even is None:
        products = rows @ columns.T
        turned = np.zeros((0, 0), np.float32)
    else:  # the product with the mirror differs in the sign of the second part
        products, turned = rows[:, :even] @ columns[:, :even].T, rows[:, even:] @ columns[:, even:].T
        products += np.abs(turned)
    if left < top + len(rows):  # on the diagonal each pair is met twice, and each vector meets itself
        products[np.arange(left, left + len(columns)) <= np.arange(top, top + len(rows))[:, None]] = -1
    if len(columns) > MOST and np.count_nonzero(products >= threshold) > MOST * len(rows):
        last = np.partition(products, -MOST, axis=1)[:, -MOST, None]
        products[products < last] = -1
    y, x = np.nonzero(products >= threshold)
    mirrored = turned[y, x] < 0 if even is not None else np.zeros(len(y), bool)
    return Candidates(y + top, x + left, mirrored, products[y, x])


def _nearest(found: Candidates) -> Candidates:
    """Of each first vector, the MOST nearest."""
    order = np.lexsort((-found.product, found.first))
    first = found.first[order]
    starts = np.concatenate([[0], np.flatnonzero(np.diff(first)) + 1]).astype(np.int64)
    rank = np.arange(len(first)) - np.repeat(starts, np.diff([*starts, len(first)])) if len(first) else order
    kept = np.sort(order[rank < MOST])
    return Candidates(*(column[kept] for column in found))


def _joined(parts: list[Candidates]) -> Candidates:
    if not parts:
        none = np.zeros(0, np.int64)
        return Candidates(none, none, np.zeros(0, bool), np.zeros(0, np.float32))
    return Candidates(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
