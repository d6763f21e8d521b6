"""Another identity when an image, a label or the order changes; no image of a file is read for it."""

import os
from pathlib import Path

import numpy as np
import pytest

from tests.scenarios.test_bad_input import image_folder
from vitrail.data.catalog.digits import digits
from vitrail.data.decode import image
from vitrail.data.open.names import open_data
from vitrail.data.sources.base import ArraySource
from vitrail.data.sources.subset import ConcatSource, Subset


def test_a_folder_is_known_by_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = image_folder(tmp_path / "photos")
    monkeypatch.setattr(image, "read", None)
    first = open_data(str(root)).content_hash()
    assert open_data(str(root)).content_hash() == first
    moved = root.rename(tmp_path / "moved")
    assert open_data(str(moved)).content_hash() == first
    file = moved / "class-0" / "3.jpg"
    about = file.stat()
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns + 1_000_000))
    touched = open_data(str(moved)).content_hash()
    assert touched != first
    file.write_bytes(file.read_bytes() + b"\0")
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns + 1_000_000))
    assert open_data(str(moved)).content_hash() not in (first, touched)


def test_an_array_is_known_by_its_pixels_labels_and_order() -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 255, (6, 4, 4, 3)).astype(np.uint8), np.arange(6) % 2
    keys = [str(i) for i in range(6)]
    first = ArraySource(images, labels, ("a", "b"), keys)
    other = images.copy()
    other[3, 1, 1, 0] ^= 1
    seen = [
        first.content_hash(),
        ArraySource(other, labels, ("a", "b"), keys).content_hash(),
        ArraySource(images, 1 - labels, ("a", "b"), keys).content_hash(),
        ArraySource(images, labels, ("a", "c"), keys).content_hash(),
        Subset(first, np.arange(6)).content_hash(),
        Subset(first, np.arange(6)[::-1]).content_hash(),
        Subset(first, np.arange(5)).content_hash(),
        ConcatSource([first, first]).content_hash(),
    ]
    assert len(set(seen)) == len(seen)
    assert ArraySource(images.copy(), labels, ("a", "b"), keys).content_hash() == seen[0]


def test_what_has_no_files_is_read() -> None:
    train, test = open_data("scattered-digits@test[:20]"), open_data("scattered-digits@test[1:21]")
    assert train.content_hash() != test.content_hash()
    assert train.content_hash() == open_data("scattered-digits@test[:20]").content_hash()
    assert digits("train").content_hash() != digits("test").content_hash()
