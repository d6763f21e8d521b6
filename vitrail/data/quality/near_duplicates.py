"""Copies of images within and between data sets (section 4.1; BiT, section 4.1): the same pixels, or nearly the same.

Exact: equal digests of the pixels. Near: pairs that agree in their perceptual hash (`fingerprint`), of which each is
then compared after alignment (`alignment`). So a copy is found that was encoded anew, resized, cropped by some per
cent, mirrored, made grey, or made lighter or darker.
"""

from typing import Literal, NamedTuple

import numpy as np

from vitrail.data.quality import phash
from vitrail.data.quality.alignment import correlation
from vitrail.data.quality.scan import Scanned
from vitrail.data.quality.similar_pairs import candidates

ALIKE = 0.6  # product of two perceptual hashes from which a pair is looked at
SMALLEST = 16  # pixels of the shorter side below which only equal pixels count: any two small digits look alike
GREY, DETAIL = 0.9, 0.8  # correlations after alignment from which a pair is a copy (docs/doctor.md: how chosen)

Kind = Literal["exact", "near", "features"]


class Pair(NamedTuple):
    """Two images that are one: their places, first < second; `similarity` is 1 for equal ones."""

    first: int
    second: int
    kind: Kind
    similarity: float
    mirrored: bool


class DuplicatePairs:
    """Which images are copies of which. Places count on through all the tables that were compared.

    `original[i]` is the first image with exactly the pixels of i; `near` joins such first ones.
    """

    def __init__(self, original: np.ndarray, near: list[Pair]):
        self.original, self.near = original, near
        self._alike: dict[int, list[Pair]] = {}
        for pair in near:
            self._alike.setdefault(pair.first, []).append(pair)
            self._alike.setdefault(pair.second, []).append(pair)
        self._order = np.argsort(original, kind="stable")
        self._sorted = original[self._order]

    def places(self, among: range) -> list[int]:
        """Those of `among` that have a copy anywhere, in order."""
        counts = np.bincount(self.original, minlength=len(self.original))
        joined = np.zeros(len(self.original), bool)
        joined[list(self._alike)] = True
        has = (joined | (counts > 1))[self.original]
        found: list[int] = (np.flatnonzero(has[among.start : among.stop]) + among.start).tolist()
        return found

    def of(self, place: int, among: range, most: int = 8) -> list[Pair]:
        """The pairs of an image with its copies at the places `among`: the exact ones, then the most similar."""
        mine = int(self.original[place])
        found = [
            Pair(min(place, i), max(place, i), "exact", 1.0, False)
            for i in self._equal(mine, among, most + 1)
            if i != place
        ]
        for pair in sorted(self._alike.get(mine, ()), key=lambda pair: -pair.similarity):
            if len(found) >= most:
                break
            for i in self._equal(_other(pair, mine), among, most):
                found.append(Pair(min(place, i), max(place, i), pair.kind, pair.similarity, pair.mirrored))
        return found[:most]

    def _equal(self, original: int, among: range, most: int) -> list[int]:
        """Up to `most` places among `among` of images with exactly these pixels."""
        start, stop = np.searchsorted(self._sorted, [original, original + 1])
        group = self._order[start:stop]  # in rising order, as the sort was stable
        first = int(np.searchsorted(group, among.start))
        return [place for place in group[first : first + most].tolist() if place < among.stop]

    def kept(self, places: range) -> np.ndarray:
        """bool, for each of `places` in order: whether it is no copy of one before it that is kept.

        A copy of a copy counts only where it is a copy itself: a chain does not pull all its links away.
        """
        kept: set[int] = set()
        found = np.zeros(len(places), bool)
        for row, place in enumerate(places):
            mine = int(self.original[place])
            if mine not in kept and not any(_other(pair, mine) in kept for pair in self._alike.get(mine, ())):
                kept.add(mine)
                found[row] = True
        return found


def _other(pair: Pair, place: int) -> int:
    return pair.second if pair.first == place else pair.first


def find_near_duplicates(
    tables: list[Scanned], *, new: int = 0, features: np.ndarray | None = None, alike_features: float = 0.95
) -> DuplicatePairs:
    """Compares all images of `tables` with each other.

    Args:
        new: the last so many tables are compared with those before, not with each other (exact copies always are).
        features: float32 [n, D] of a model, one row for each image of all tables (NaN where unreadable); images with a
            cosine of `alike_features` and more are copies too.
    """
    digest = np.concatenate([table.digest for table in tables])
    readable = digest.any(axis=1)
    _, first, inverse = np.unique(digest.view("V16").ravel(), return_index=True, return_inverse=True)
    original = np.where(readable, first[inverse], np.arange(len(digest)))
    first_ones = readable & (original == np.arange(len(digest)))
    alone = sum(len(table) for table in tables[: len(tables) - new])
    thumbnails = tables[0].thumbnail if len(tables) == 1 else np.concatenate([table.thumbnail for table in tables])
    shown = ~phash.flat(thumbnails) & (np.concatenate([t.size for t in tables]).min(axis=1) >= SMALLEST)
    near = _near(thumbnails, np.flatnonzero(first_ones & shown), alone)
    if features is not None:
        seen = {pair[:2] for pair in near}
        like = _by_features(features, np.flatnonzero(first_ones), alone, alike_features)
        near += [pair for pair in like if pair[:2] not in seen]
    return DuplicatePairs(original, sorted(near))


def _near(thumbnails: np.ndarray, places: np.ndarray, alone: int) -> list[Pair]:
    """Pairs among `places` by the perceptual hash that are still alike after alignment."""
    vectors = phash.hashes(thumbnails)[places]
    found = candidates(vectors, ALIKE, even=phash.EVEN, alone=int(np.searchsorted(places, alone)))
    pairs = []
    for start in range(0, len(found.first), 1 << 16):  # so many pictures are held twice
        part = slice(start, start + (1 << 16))
        first, second, turned = places[found.first[part]], places[found.second[part]], found.mirrored[part]
        ours, theirs = thumbnails[first], thumbnails[second]
        theirs = np.where(turned[:, None, None], theirs[:, :, ::-1], theirs)
        grey, detail = correlation(ours, theirs)
        for i in np.flatnonzero((grey >= GREY) & (detail >= DETAIL)).tolist():
            pairs.append(Pair(int(first[i]), int(second[i]), "near", float(detail[i]), bool(turned[i])))
    return pairs


def _by_features(features: np.ndarray, places: np.ndarray, alone: int, threshold: float) -> list[Pair]:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    vectors = (features / np.maximum(lengths, 1e-6)).astype(np.float32)[places]
    found = candidates(vectors, threshold, alone=int(np.searchsorted(places, alone)))
    columns = (places[found.first].tolist(), places[found.second].tolist(), found.product.tolist())
    return [Pair(i, j, "features", round(min(1.0, cosine), 4), False) for i, j, cosine in zip(*columns, strict=True)]
