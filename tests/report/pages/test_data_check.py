"""Pages of a check and of copies: what was found is on them, whatever the names are; half a folder is a page."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.report.folders import HOSTILE, pictures, write
from vitrail.report.index import make


def picture_file(folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "pictures.npz", **{str(i): image for i, image in enumerate(pictures(count))})


def about(key: str, label: str = "cat") -> dict[str, Any]:
    return {"data": "photos@train", "index": 3, "key": key, "label": label}


def test_a_check_shows_each_finding_with_its_pictures(tmp_path: Path) -> None:
    picture_file(tmp_path, 2)
    item = {**about(HOSTILE), "said": "as cat, and as dog", "drop": True, "other": about("b.png"), "pictures": [0, 1]}
    tiny = {"data": "photos@train", "index": None, "key": None, "label": "rare", "said": "rare: 1 image", "drop": False}
    sizes = [{"name": "cat", "count": 12}, {"name": HOSTILE, "count": 1}]
    content = {
        "data": "photos",
        "examined": 13,
        "count": 13,
        "dropped": 1,
        "views": {"photos@train": "kept.json"},
        "sets": [{"data": "photos@train", "judged": True, "count": 13, "readable": 13, "classes": sizes}],
        "findings": [
            {"kind": "conflict", "title": "Two labels", "advice": "Correct them.", "count": 1, "items": [item]},
            {"kind": "few", "title": "Few images", "advice": "Collect more.", "count": 1, "items": [tiny]},
        ],
    }
    write(tmp_path / "check.json", content)
    page = make(tmp_path).read_text()
    assert HOSTILE not in page
    assert page.count("data:image/png") == 2
    for said in (
        "Two labels",
        "Correct them.",
        "as cat, and as dog",
        "b.png",
        "rare: 1 image",
        "kept.json",
        "13 images",
    ):
        assert said in page, said


def test_copies_show_the_least_similar_first(tmp_path: Path) -> None:
    picture_file(tmp_path, 4)
    pairs = [
        {
            "first": about("a", "cat"),
            "second": about("b", "dog"),
            "kind": "exact",
            "similarity": 1.0,
            "pictures": [0, 1],
        },
        {
            "first": about("c"),
            "second": about("d"),
            "kind": "near",
            "similarity": 0.81,
            "mirrored": True,
            "pictures": [2, 3],
        },
    ]
    sets = [{"data": "photos@test", "count": 200, "copies": 2, "share": 0.01, "conflicts": 1}]
    content = {"train": "photos@train", "against": ["photos@test"], "count": 50, "dropped": 2, "found": 2}
    write(tmp_path / "duplicates.json", {**content, "pairs": pairs, "sets": sets, "view": "kept.json"})
    page = make(tmp_path).read_text()
    assert page.index("0.81 alike, mirrored") < page.index("cat and dog; the same pixels")
    assert "2 of 50 images" in page
    assert "1.00\u00a0%" in page


@pytest.mark.parametrize("name", ["check.json", "duplicates.json"])
@pytest.mark.parametrize(
    "content",
    [
        {},
        {"findings": [{}], "sets": [{}], "pairs": [{}]},
        {"findings": 3, "sets": "x", "pairs": None, "views": []},
        {
            "findings": [{"items": [{"pictures": [7], "other": 3}]}],
            "pairs": [{"pictures": [1], "first": 2, "similarity": 0.5}],
        },
    ],
)
def test_half_a_folder_is_a_page_too(tmp_path: Path, name: str, content: dict[str, Any]) -> None:
    write(tmp_path / name, content)
    (tmp_path / "pictures.npz").write_bytes(b"broken")
    page = make(tmp_path).read_text()
    assert "pictures.npz" in page


def test_the_table_of_a_folder_of_them(tmp_path: Path) -> None:
    write(tmp_path / "checked" / "check.json", {"seconds": 3.0})
    write(tmp_path / "copies" / "duplicates.json", {"seconds": 4.0})
    page = make(tmp_path).read_text()
    assert "data check" in page
    assert "duplicates" in page
