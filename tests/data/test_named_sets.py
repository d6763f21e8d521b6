"""The named data sets that are too large for the repository; VITRAIL_DATA says where they lie."""

import numpy as np
import pytest

from vitrail.core.errors import BadInput
from vitrail.data.batches import to_pixels
from vitrail.data.grammar import open_data
from vitrail.data.named import NAMED, data_root

FACTS = {
    "cifar10": {"splits": {"train": 50_000, "test": 10_000}, "classes": 10, "side": 32},
    "cifar100": {"splits": {"train": 50_000, "test": 10_000}, "classes": 100, "side": 32},
    "tiny-imagenet": {"splits": {"train": 100_000, "validation": 10_000}, "classes": 200, "side": 64},
}


def test_every_set_without_its_files_says_where_to_put_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VITRAIL_DATA", raising=False)
    for name in FACTS:
        with pytest.raises(BadInput, match=r"set VITRAIL_DATA \(or --data-root\)"):
            open_data(name)


def test_every_set_with_files_has_its_facts() -> None:
    assert FACTS.keys() == NAMED.keys() - {"digits", "scattered-digits"}


@pytest.mark.parametrize("name", FACTS)
def test_counts_classes_and_sizes(name: str) -> None:
    root = data_root()
    if root is None or not (root / name).is_dir():
        pytest.skip(f"VITRAIL_DATA has no {name}")
    facts = FACTS[name]
    for split, count in facts["splits"].items():
        source = open_data(f"{name}@{split}")
        assert len(source) == count
        assert len(source.classes) == len(set(source.classes)) == facts["classes"]
        assert len(np.unique(source.labels)) == facts["classes"]
        for index in (0, count // 2, count - 1):
            assert to_pixels(source[index].image).shape == (facts["side"], facts["side"], 3)
