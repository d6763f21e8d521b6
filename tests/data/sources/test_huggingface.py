"""`hf://owner/name`: what is said without the library, and, where it is installed, a set opened as it would be."""

import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.data.pictures import encoded, noise
from vitrail.core.errors import BadInput
from vitrail.data.decode.image import BrokenImage
from vitrail.data.open.names import open_data
from vitrail.data.sources.huggingface import HubSource

PICTURES = [encoded(noise(4, 4, seed)) for seed in range(5)]


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(BadInput, match=r"hf://owner/name needs the library `datasets`: pip install 'vitrail\[hub\]'"):
        open_data("hf://owner/name@train")


@pytest.mark.parametrize("name", ["hf://", "hf://owner", "hf://owner/", "hf://a/b/c/d"])
def test_a_name_has_an_owner(name: str) -> None:
    with pytest.raises(BadInput, match="is no data set of the hub: expected hf://owner/name"):
        open_data(name)


@pytest.fixture
def datasets(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return pytest.importorskip("datasets")


def made(datasets: Any, images: list[Any], labels: list[Any], names: list[str]) -> Any:
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    return datasets.Dataset.from_dict({"img": images, "label": labels}, features=features)


def test_a_split_is_a_source(datasets: Any, tmp_path: Path) -> None:
    (tmp_path / "file.png").write_bytes(PICTURES[4])
    images = [{"bytes": data, "path": None} for data in PICTURES[:3]] + [
        {"bytes": None, "path": f"{tmp_path}/file.png"}
    ]
    source = HubSource("hf://o/n@train", made(datasets, images, [1, 0, 1, 1], ["cat", "dog"]))
    assert source.classes == ("cat", "dog")
    assert source.labels.tolist() == [1, 0, 1, 1]
    assert [source[i].image for i in range(4)] == [*PICTURES[:3], PICTURES[4]]
    assert source[2].key == "hf://o/n@train:2"


def test_the_role_chooses_the_split_and_a_third_part_the_config(datasets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(name: str, config: str | None, split: str) -> Any:
        asked.append((name, config, split))
        return made(datasets, [{"bytes": PICTURES[0], "path": None}] * 2, [0, 1], ["cat", "dog"])

    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda name, config: ["train", "validation"])
    monkeypatch.setattr(datasets, "load_dataset", load)
    assert open_data("hf://o/n@[:1]")[0].image == PICTURES[0]
    open_data("hf://o/n/small", "test")
    assert asked == [("o/n", None, "train"), ("o/n", "small", "validation")]
    with pytest.raises(BadInput, match="unknown split of hf://o/n 'trian'; did you mean 'train'"):
        open_data("hf://o/n@trian")
    again = pickle.loads(pickle.dumps(open_data("hf://o/n@train")))
    assert again[1] == (PICTURES[0], 1, "hf://o/n@train:1")


def test_missing_labels_and_images(datasets: Any) -> None:
    rows = [{"bytes": PICTURES[0], "path": None}] * 2
    with pytest.raises(BadInput, match="has 1 rows without a label"):
        HubSource("hf://o/n@test", made(datasets, rows, [None, 0], ["cat"]))
    with pytest.raises(BadInput, match=r"has the columns text \(Value\); expected one of images"):
        HubSource("hf://o/n@test", datasets.Dataset.from_dict({"text": ["x"]}))
    source = HubSource("hf://o/n@test", made(datasets, [None, rows[0]], [0, 0], ["cat"]))
    with pytest.raises(BrokenImage, match="no image bytes"):
        source[0]


def test_without_a_network_it_says_so(datasets: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(
        BadInput, match="hf://o/n cannot be opened: .*without a network only what the hub's cache holds"
    ):
        open_data("hf://o/n@train")
