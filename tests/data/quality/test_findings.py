"""What the doctor makes of copies: chains, and labels that do not agree."""

import numpy as np

from tests.data.pictures import BytesSource
from vitrail.data.quality.findings import Finding, findings
from vitrail.data.quality.near_duplicates import DuplicatePairs, Pair
from vitrail.data.quality.scan import Scanned, ScannedSet


def scanned(labels: list[int], start: int = 0, *, judged: bool = True) -> ScannedSet:
    """Images that can be read, of which nothing else is known."""
    table = Scanned.empty(len(labels))
    table.index[:] = np.arange(len(labels))
    table.digest[:] = 1 + start + np.arange(len(labels))[:, None]
    table.size[:] = 64
    table.thumbnail[:, ::2] = 255
    source = BytesSource([b""] * len(labels), labels, ("a", "b"))
    return ScannedSet("train" if judged else "test", source, table, start, judged)


def near(*pairs: tuple[int, int]) -> list[Pair]:
    return [Pair(i, j, "near", 0.9, False) for i, j in pairs]


def rows(found: list[Finding], kind: str) -> dict[int | None, bool]:
    """The rows that a finding names, and whether each is to be dropped."""
    return {item.row: item.drop for finding in found if finding.kind == kind for item in finding.items}


def test_a_chain_of_copies_loses_every_second_link_only() -> None:
    one = scanned([0, 0, 0, 0, 0])
    found = findings([one], DuplicatePairs(np.arange(5), near((0, 1), (1, 2), (2, 3))), few=0)
    assert rows(found, "near") == {1: True, 2: False, 3: True}


def test_a_leak_is_dropped_from_the_first_set_and_the_other_is_not_touched() -> None:
    one, other = scanned([0, 0, 0]), scanned([0, 0], 3, judged=False)
    found = findings([one, other], DuplicatePairs(np.array([0, 1, 2, 1, 4]), near((2, 4))), few=0)
    assert rows(found, "leak") == {1: True, 2: True}
    assert not rows(found, "near")
    (leak,) = [finding for finding in found if finding.kind == "leak"]
    assert [item.other[1] for item in leak.items if item.other] == [0, 1]


def test_both_sides_of_a_conflict_go() -> None:
    found = findings([scanned([0, 1, 1, 1])], DuplicatePairs(np.array([0, 1, 0, 1]), []), few=0)
    assert rows(found, "conflict") == {0: True, 2: True}
    assert rows(found, "exact") == {2: True, 3: True}


def test_the_worst_comes_first() -> None:
    one = scanned([0, 0, 1])
    one.table.digest[0] = 0
    one.table.reason[0] = "empty file"
    found = findings([one], DuplicatePairs(np.array([0, 1, 2]), near((1, 2))), few=10)
    assert [finding.kind for finding in found] == ["unreadable", "conflict", "near", "few"]
