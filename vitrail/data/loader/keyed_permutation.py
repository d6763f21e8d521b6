"""Permutations of any size by arithmetic: where each place goes is computed, and nothing is held.

A Feistel network: the bits of a place are cut in two, and each half in turn is changed by a keyed hash of the other,
which can be undone whatever the hash is. So it permutes 0 to 2^bits - 1; a place that leaves 0 to size - 1 goes on
through the network until it is back, as every cycle of a permutation ends where it began (Black and Rogaway 2002).
"""

import numpy as np
from jaxtyping import Int64, UInt64

ROUNDS = 8  # four are provably enough for strong hashes; these are quick ones


class KeyedPermutation:
    """A permutation of 0…size-1. `[places]` is where these places go."""

    def __init__(self, size: int, rng: np.random.Generator):
        """Draws the keys; `size` is below 2^62."""
        self.size = size
        bits = max(2, (size - 1).bit_length())
        self._low = np.uint64(bits // 2)
        self._masks = np.uint64((1 << bits - bits // 2) - 1), np.uint64((1 << bits // 2) - 1)
        self._keys = rng.integers(0, 2**64, ROUNDS, dtype=np.uint64)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, places: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        found = self._network(places.astype(np.uint64))
        outside = np.flatnonzero(found >= self.size)
        while len(outside):
            found[outside] = self._network(found[outside])
            outside = outside[found[outside] >= self.size]
        return found.astype(np.int64)

    def _network(self, values: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
        halves = [values >> self._low, values & self._masks[1]]
        for number, key in enumerate(self._keys):
            changed = number % 2
            halves[changed] = (halves[changed] ^ _hash(halves[1 - changed], key)) & self._masks[changed]
        return (halves[0] << self._low) | halves[1]


def _hash(values: UInt64[np.ndarray, " n"], key: np.uint64) -> UInt64[np.ndarray, " n"]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014) of the sum with the key, modulo 2^64."""
    mixed = values + key
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
