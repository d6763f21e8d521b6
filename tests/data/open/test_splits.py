"""Which splits a DATA has, in every layout."""

from pathlib import Path

import pytest

from tests.data.pictures import encoded, folder_of_images, noise, write_parquet
from vitrail.data.open.names import open_data, splits_of
from vitrail.data.sources.split_names import DataName


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("photos", ("photos", None, "")),
        ("photos@train", ("photos", "train", "")),
        ("photos@train[:90%]", ("photos", "train", "[:90%]")),
        ("photos@[5:]", ("photos", None, "[5:]")),
        ("me@home/photos", ("me@home/photos", None, "")),
        ("me@home/photos@val", ("me@home/photos", "val", "")),
    ],
)
def test_a_name_has_three_parts(text: str, parts: tuple[str, str | None, str]) -> None:
    name = DataName.parse(text)
    assert (name.place, name.split, name.slice) == parts
    assert str(name) == text


def test_folders_with_splits_and_without(tmp_path: Path) -> None:
    folder_of_images(tmp_path / "flat", {"a": 1, "b": 1})
    for split in ("val", "train"):
        folder_of_images(tmp_path / "split" / split, {"a": 1, "b": 1})
    assert splits_of(str(tmp_path / "flat")) == ()
    assert splits_of(str(tmp_path / "split")) == ("train", "val")
    assert splits_of(f"{tmp_path / 'split'}@[:50%]") == ("train", "val")
    assert splits_of(f"{tmp_path / 'split'}@val") == ()


def test_parquet_files_and_named_sets_and_manifests(tmp_path: Path) -> None:
    for split in ("test", "train"):
        write_parquet(tmp_path / "sets" / f"{split}-00000-of-00001.parquet", [encoded(noise(4, 4))] * 2, [0, 1])
    assert splits_of(str(tmp_path / "sets")) == ("train", "test")
    assert splits_of(str(tmp_path / "sets" / "train-00000-of-00001.parquet")) == ()
    assert splits_of("digits") == ("train", "test")
    assert splits_of("nothing-of-that-name") == ()
    (tmp_path / "rows.csv").write_text("path,label,split\na.png,x,val\nb.png,y,train\n")
    assert splits_of(str(tmp_path / "rows.csv")) == ("train", "val")


def test_every_split_that_is_found_can_be_opened(tmp_path: Path) -> None:
    for split in ("test", "train"):
        folder_of_images(tmp_path / split, {"a": 2, "b": 1})
    assert [len(open_data(f"{tmp_path}@{split}")) for split in splits_of(str(tmp_path))] == [3, 3]
