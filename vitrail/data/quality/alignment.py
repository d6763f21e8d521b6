"""How alike two small pictures are after one is moved and stretched onto the other: a copy may be cropped a little.

n pairs · s pixels of a side
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

CHUNK = 256  # pairs at a time: their pictures stay in the caches
STEPS = 3  # Gauss-Newton steps on blurred pictures, which agree from further away, and as many on sharp ones
HOPEFUL = 0.8  # correlation after the first steps below which the others are spared
LARGEST = 0.25  # of half a side: how far a picture may be moved, and how much stretched
COVERED = 0.6  # share of the picture that must be left to compare
FRAME = 3  # pixels at each edge without which details must agree too: frames are as alike as their pictures are not


class Correlation(NamedTuple):
    """Of the best alignment: the correlations of the grey values, and of the differences between neighbours."""

    grey: Float32[np.ndarray, " n"]
    detail: Float32[np.ndarray, " n"]


def correlation(first: UInt8[np.ndarray, "n s s"], second: UInt8[np.ndarray, "n s s"]) -> Correlation:
    """Compares each picture of `first` with the one of `second`, whatever their brightness and contrast.

    Lucas and Kanade (1981) with a shift and a stretch in each direction: the second picture is sampled at
    x -> (1 + stretch) x + shift, and the four numbers follow from the gradients. 1: the same, 0: unrelated.
    """
    parts = [
        _aligned(first[i : i + CHUNK].astype(np.float32), second[i : i + CHUNK].astype(np.float32))
        for i in range(0, len(first), CHUNK)
    ]
    if not parts:
        return Correlation(np.zeros(0, np.float32), np.zeros(0, np.float32))
    return Correlation(np.concatenate([p.grey for p in parts]), np.concatenate([p.detail for p in parts]))


def _aligned(first: np.ndarray, second: np.ndarray) -> Correlation:
    found = _score(first, second, np.zeros((len(first), 4), np.float32))
    moves = np.zeros((len(first), 4), np.float32)
    one, two = _blur(_blur(first)), _blur(_blur(second))
    for _ in range(STEPS):
        moves = _step(one, two, moves)
    found = _better(found, _score(first, second, moves))
    hopeful = np.flatnonzero(found.grey >= HOPEFUL)
    one, two, moves = first[hopeful], second[hopeful], moves[hopeful]
    best = Correlation(found.grey[hopeful], found.detail[hopeful])
    for _ in range(STEPS):
        moves = _step(one, two, moves)
        best = _better(best, _score(one, two, moves))
    found.grey[hopeful], found.detail[hopeful] = best
    return found


def _better(one: Correlation, two: Correlation) -> Correlation:
    better = two.detail > one.detail
    return Correlation(np.where(better, two.grey, one.grey), np.where(better, two.detail, one.detail))


def _step(first: np.ndarray, second: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Moves that bring the second picture nearer to the first: least squares on the gradients."""
    side = first.shape[1]
    moved, weight = _moved(second, moves)
    target, _ = _normal(first, weight)
    normal, spread = _normal(moved, weight)
    along = (np.arange(side, dtype=np.float32) + 0.5) * 2 / side - 1
    slope_y, slope_x = np.gradient(moved, axis=(1, 2))
    slope_x = slope_x * (side / 2 * weight) / spread
    slope_y = slope_y * (side / 2 * weight) / spread
    slopes = np.stack([slope_x * along, slope_x, slope_y * along[:, None], slope_y], axis=1)
    slopes = slopes.reshape(len(first), 4, side * side)
    wanted = ((target - normal) * weight).reshape(len(first), side * side, 1)
    system = slopes @ slopes.transpose(0, 2, 1)
    ridge = 1e-3 * np.trace(system, axis1=1, axis2=2)[:, None, None] / 4 + 1e-6
    change = np.linalg.solve(system + ridge * np.eye(4, dtype=np.float32), slopes @ wanted)[..., 0]
    changed: np.ndarray = np.clip(moves + np.clip(change, -0.1, 0.1), -LARGEST, LARGEST)
    return changed


def _score(first: np.ndarray, second: np.ndarray, moves: np.ndarray) -> Correlation:
    moved, weight = _moved(second, moves)
    one, two = _normal(first, weight)[0], _normal(moved, weight)[0]
    area = weight.sum(axis=(1, 2))
    grey = (one * two * weight).sum(axis=(1, 2)) / area
    inner = weight.copy()
    inner[:, :FRAME] = inner[:, -FRAME:] = inner[:, :, :FRAME] = inner[:, :, -FRAME:] = 0
    detail = np.minimum(_detail(first, moved, weight), _detail(first, moved, inner))
    enough = area >= COVERED * first.shape[1] * first.shape[2]
    return Correlation(np.where(enough, grey, 0), np.where(enough, detail, 0))


def _detail(first: np.ndarray, second: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The correlation of the roots of the differences between neighbours; 0 where there are none.

    Without the root two strong edges decide alone: any two bottles before a wall would be copies.
    """
    products, one, two = 0.0, 0.0, 0.0
    for axis in (1, 2):
        inside = weight[:, 1:] * weight[:, :-1] if axis == 1 else weight[:, :, 1:] * weight[:, :, :-1]
        a, b = _root(np.diff(first, axis=axis) * inside), _root(np.diff(second, axis=axis) * inside)
        products = products + (a * b).sum(axis=(1, 2))
        one, two = one + (a * a).sum(axis=(1, 2)), two + (b * b).sum(axis=(1, 2))
    found: np.ndarray = products / np.sqrt(np.maximum(one * two, 1.0))
    return found


def _root(values: np.ndarray) -> np.ndarray:
    rooted: np.ndarray = np.sign(values) * np.sqrt(np.abs(values))
    return rooted


def _moved(pictures: np.ndarray, moves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pictures sampled elsewhere, bilinear, and 1 where that lies inside of them."""
    columns, inside_x = _samples(moves[:, 0], moves[:, 1], pictures.shape[2])
    rows, inside_y = _samples(moves[:, 2], moves[:, 3], pictures.shape[1])
    return rows @ pictures @ columns.transpose(0, 2, 1), inside_y[:, :, None] * inside_x[:, None, :]


def _samples(stretch: np.ndarray, shift: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights [n, s, s] that take each sample from its two neighbours; and 1 for those inside."""
    grid = np.arange(side, dtype=np.float32)
    along = (grid + 0.5) * 2 / side - 1
    places = ((1 + stretch[:, None]) * along + shift[:, None] + 1) * (side / 2) - 0.5
    inside = (places > -0.51) & (places < side - 0.49)
    weights = np.maximum(0, 1 - np.abs(places.clip(0, side - 1)[:, :, None] - grid))
    return weights.astype(np.float32), inside.astype(np.float32)


def _normal(pictures: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean 0 and deviation 1 where the weight is 1; and the deviation [n, 1, 1]."""
    area = weight.sum(axis=(1, 2), keepdims=True)
    centred = pictures - (pictures * weight).sum(axis=(1, 2), keepdims=True) / area
    spread = np.sqrt((centred**2 * weight).sum(axis=(1, 2), keepdims=True) / area) + 1e-3
    return centred / spread, spread


def _blur(pictures: np.ndarray) -> np.ndarray:
    padded = np.pad(pictures, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    blurred: np.ndarray = (rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) / 16
    return blurred
