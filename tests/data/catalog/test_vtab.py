"""VTAB-1k: 19 tasks in three groups, 800 + 200 examples, and what is said where data are absent."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.data.pictures import encoded, folder_of_images, noise
from vitrail.core.errors import BadInput
from vitrail.data.catalog.catalog import NAMED, VTAB
from vitrail.data.catalog.vtab import FEW_TRAIN, GROUPS, TASKS, VtabTask, open_task
from vitrail.data.open.names import open_data
from vitrail.data.sources.base import ArraySource
from vitrail.data.sources.subset import ConcatSource


def numbered(count: int, classes: int, *, ordered: bool = False) -> ArraySource:
    """Images that are their own number."""
    labels = np.arange(count) % classes
    images = np.arange(count, dtype=np.uint32).view(np.uint8).reshape(count, 1, 1, 4)[..., :3].copy()
    labels = np.sort(labels) if ordered else labels
    return ArraySource(images, labels, tuple(f"class-{i}" for i in range(classes)), [str(i) for i in range(count)])


def keys(source: object) -> list[str]:
    return [source[i].key for i in range(len(source))]  # type: ignore[index, arg-type]


def test_there_are_seven_four_and_eight_tasks() -> None:
    assert [sum(task.group == group for task in TASKS) for group in GROUPS] == [7, 4, 8]
    assert len({task.name for task in TASKS}) == 19
    assert NAMED.keys() >= set(VTAB)


def test_the_exceptions_of_flip_and_crop_are_those_of_the_protocol() -> None:
    assert {task.name for task in TASKS if not task.flip} == {
        "dsprites-orientation", "smallnorb-azimuth", "dsprites-location",
    }  # fmt: skip
    assert {task.name for task in TASKS if not task.crop} == {
        "clevr-count", "clevr-distance", "dmlab", "kitti-distance", "dsprites-location",
    }  # fmt: skip


# What the base sets hold, which tests/data/catalog/test_catalog.py checks where they are on the machine.
BASES = {
    "caltech101": {"train": 3_060, "test": 6_084},
    "cifar100": {"train": 50_000, "test": 10_000},
    "dtd": {"train": 1_880, "validation": 1_880, "test": 1_880},
    "flowers": {"train": 1_020, "validation": 1_020, "test": 6_149},
    "pets": {"train": 3_680, "test": 3_669},
    "sun397": {"train": 76_128, "validation": 10_875, "test": 21_750},
    "svhn": {"train": 73_257, "test": 26_032},
    "eurosat": {"train": 27_000},
    "resisc45": {"train": 31_500},
}


@pytest.mark.parametrize("task", [task for task in TASKS if task.base], ids=lambda task: task.name)
def test_the_splits_have_the_sizes_of_the_protocol(task: VtabTask) -> None:
    sources = {split: numbered(count, task.classes) for split, count in BASES[task.base].items()}
    lengths = [len(open_task(task, sources.__getitem__, split)) for split in ("train", "validation", "test")]
    assert tuple(lengths) == task.sizes
    train, held, both = (open_task(task, sources.__getitem__, s) for s in ("train800", "val200", "train800val200"))
    assert (len(train), len(held), len(both)) == (800, 200, 1000)
    assert keys(both) == keys(train) + keys(held)
    if len(sources) < 3:  # where all come from one split of the base, none is in two of ours
        parts = [open_task(task, sources.__getitem__, split) for split in ("train", "validation")]
        assert not set(keys(parts[0])) & set(keys(parts[1]))


def test_the_first_800_of_a_set_that_lies_class_by_class_have_all_classes() -> None:
    task = next(task for task in TASKS if task.name == "pets")
    source = numbered(3_680, 37, ordered=True)
    train = open_task(task, lambda split: source, "train800")
    assert len(np.unique(train.labels)) == 37
    assert not set(keys(train)) & set(keys(open_task(task, lambda split: source, "val200")))


def test_joined_data_hold_the_labels_and_images_of_their_parts() -> None:
    first, second = numbered(5, 3), numbered(4, 3)
    joined = ConcatSource([first, second])
    assert joined.labels.tolist() == [*first.labels, *second.labels]
    assert [joined[i].key for i in (0, 4, 5, 8)] == ["0", "4", "0", "3"]
    assert [joined[i].label for i in range(9)] == joined.labels.tolist()
    with pytest.raises(IndexError):
        joined[9]
    with pytest.raises(BadInput, match="classes must be the same"):
        ConcatSource([first, numbered(4, 2)])


def test_an_absent_task_says_which_folder_it_wants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRAIL_DATA", str(tmp_path))
    monkeypatch.setenv("VITRAIL_OFFLINE", "1")
    with pytest.raises(BadInput, match=r"vtab-clevr-count/train\|validation\|test/CLASS/FILE.*number of objects"):
        open_data("vtab-clevr-count@train800")
    with pytest.raises(BadInput, match="pets is not on this machine"):
        open_data("vtab-pets@train800")


def test_a_task_is_opened_from_the_users_folder_and_small_ones_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VITRAIL_DATA", str(tmp_path))
    for split, count in (("train", 4), ("validation", 2), ("test", 3)):
        folder_of_images(tmp_path / "vtab-clevr-count" / split, {str(n): count for n in range(3, 5)})
    assert len(open_data("vtab-clevr-count@test")) == 6
    assert len(open_data("vtab-clevr-count", "test")) == 6
    with pytest.raises(BadInput, match=f"has 8 images in train.*fewer than the {FEW_TRAIN}"):
        open_data("vtab-clevr-count@train800")


def test_clevr_is_read_as_it_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects are counted, and the nearest one's depth is put between VTAB's ends."""
    monkeypatch.setenv("VITRAIL_DATA", str(tmp_path))
    depths = [7.9, 8.0, 8.01, 8.7, 9.2, 9.6, 10.5, 12.0, 11.0, 10.0]
    for part in ("train", "val"):
        scenes = []
        for i, depth in enumerate(depths):
            name = f"CLEVR_{part}_{i:06d}.png"
            path = tmp_path / "clevr/CLEVR_v1.0/images" / part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(noise(4, 4)))
            far = [{"pixel_coords": [0, 0, 20.0]}] * (2 + i % 8)
            scenes.append({"image_filename": name, "objects": [*far, {"pixel_coords": [1, 2, depth]}]})
        file = tmp_path / f"clevr/CLEVR_v1.0/scenes/CLEVR_{part}_scenes.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"info": {}, "scenes": scenes}))
    test = open_data("vtab-clevr-count@test")
    assert test.classes == tuple(f"{n} objects" for n in range(3, 11))
    assert test.labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 0, 1]
    assert isinstance(test[3].image, bytes)
    assert open_data("vtab-clevr-distance@test").labels.tolist() == [0, 0, 1, 2, 3, 4, 5, 5, 5, 4]
    train, held = open_data("vtab-clevr-distance@train"), open_data("vtab-clevr-distance@validation")
    assert (len(train), len(held)) == (9, 1)
    assert held.labels.tolist() == [4]
