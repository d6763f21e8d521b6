"""A filtered view is a file that is DATA: it opens anywhere, and notices when its data have changed."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.data.pictures import BytesSource, encoded, folder_of_images, noise
from vitrail.core.errors import BadInput
from vitrail.data.open.filtered import in_full, read_filtered, write_filtered
from vitrail.data.open.names import open_data


def test_a_view_leaves_out_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of_images(tmp_path / "photos" / "train", {"cat": 3, "dog": 4})
    monkeypatch.chdir(tmp_path)
    source = open_data("photos@train")
    write_filtered(tmp_path / "out" / "kept.json", "photos@train", source, np.array([1, 4, 4]))
    keys = [str(tmp_path / source[i].key) for i in (0, 2, 3, 5, 6)]
    monkeypatch.chdir("/")
    kept = open_data(str(tmp_path / "out" / "kept.json"), "test")
    assert [kept[i].key for i in range(len(kept))] == keys
    assert kept.classes == source.classes
    assert len(open_data(f"{tmp_path / 'out' / 'kept.json'}@[:2]")) == 2


def test_a_view_of_other_data_is_refused(tmp_path: Path) -> None:
    folder = folder_of_images(tmp_path / "photos", {"cat": 3, "dog": 4})
    write_filtered(tmp_path / "kept.json", str(folder), open_data(str(folder)), np.array([0]))
    (folder / "cat" / "new.png").write_bytes(encoded(noise(4, 4)))
    with pytest.raises(BadInput, match="has changed since"):
        open_data(str(tmp_path / "kept.json"))


def test_a_view_of_data_with_other_labels_is_refused(tmp_path: Path) -> None:
    folder = folder_of_images(tmp_path / "photos", {"cat": 3, "dog": 4})
    write_filtered(tmp_path / "kept.json", str(folder), open_data(str(folder)), np.array([0]))
    (folder / "cat" / "2.png").rename(folder / "dog" / "new.png")
    with pytest.raises(BadInput, match="has changed since"):
        open_data(str(tmp_path / "kept.json"))


def test_what_is_no_view_is_refused_in_a_sentence(tmp_path: Path) -> None:
    source = BytesSource([encoded(noise(4, 4))] * 3, [0, 1, 1], ("a", "b"))
    path = tmp_path / "view.json"
    write_filtered(path, "digits@train", source, np.array([1]))
    good = json.loads(path.read_text())
    for change, said in [
        ({"kind": "x"}, "no filtered view"),
        ({"format": 2}, "format 2"),
        ({"left_out": [5]}, "images 5 to 5 of 3"),
        ({"left_out": [-1]}, "of 3"),
        ({"left_out": "all"}, "expected data"),
        ({"data": 3}, "expected data"),
    ]:
        path.write_text(json.dumps({**good, **change}))
        with pytest.raises(BadInput, match=said):
            read_filtered(path)
    path.write_text("[1]")
    with pytest.raises(BadInput, match="no filtered view"):
        read_filtered(path)
    path.write_text(json.dumps({**good, "left_out": [0, 1, 2]}))
    with pytest.raises(BadInput, match="leaves out all"):
        read_filtered(path).of(source)


def test_a_view_without_splits_says_so(tmp_path: Path) -> None:
    folder = folder_of_images(tmp_path / "photos", {"cat": 3, "dog": 4})
    write_filtered(tmp_path / "kept.json", str(folder), open_data(str(folder)), np.array([0]))
    with pytest.raises(BadInput, match="no splits"):
        open_data(f"{tmp_path / 'kept.json'}@train")


def test_names_stay_and_paths_are_written_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "digits").mkdir()  # the named set goes before the folder, as in the grammar
    assert in_full("digits@train") == "digits@train"
    assert in_full("photos@2/class@train") == f"{tmp_path}/photos@2/class@train"
    assert in_full("cifar10@train[:10%]") == "cifar10@train[:10%]"
    assert in_full("hf://owner/name@train") == "hf://owner/name@train"
    assert in_full("photos@train") == f"{tmp_path}/photos@train"
    assert in_full("shards/*.parquet") == f"{tmp_path}/shards/*.parquet"
