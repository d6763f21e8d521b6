"""The same images in every layout make the same batches: for any workers, ranks, and from any step."""

import os
import pickle
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch

from tests.data.pictures import BytesSource, encoded, noise, write_arrow, write_parquet, write_tar
from vitrail.data.loader.batch import Batch
from vitrail.data.loader.loader import train_loader
from vitrail.data.open.names import open_data
from vitrail.data.sources.base import Source
from vitrail.data.transforms.pipeline import Augment, Preprocess

CLASSES = ["ape", "bee", "cat"]
COUNTS = (9, 7, 8)
LABELS = [label for label, count in enumerate(COUNTS) for _ in range(count)]
IMAGES = [encoded(noise(20, 24, i)) for i in range(len(LABELS))]
STEPS, BATCH = 5, 6

LAYOUTS = ("folder", "csv", "manifest", "parquet", "tar", "arrow", "memory")


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Each layout's name in the grammar of data."""
    root, store = tmp_path_factory.mktemp("layouts"), fsspec.filesystem("memory")
    names = [f"{CLASSES[label]}/{i:04d}.png" for i, label in enumerate(LABELS)]
    for name, data in zip(names, IMAGES, strict=True):
        (root / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "folder" / name).write_bytes(data)
        store.pipe(f"/same-batches/{name}", data)
    rows = "".join(f"{name},{CLASSES[label]}\n" for name, label in zip(names, LABELS, strict=True))
    (root / "folder" / "list.csv").write_text("path,label\n" + rows)
    absolute = [str(root / "folder" / name) for name in names]
    parquet.write_table(pa.table({"file": absolute, "class": [CLASSES[k] for k in LABELS]}), root / "list.parquet")
    for n, cut in enumerate([slice(0, 10), slice(10, 11), slice(11, 24)]):
        write_parquet(root / f"parquet/train-{n:05d}-of-00003.parquet", IMAGES[cut], LABELS[cut], CLASSES)
        write_tar(root / f"tar/train-{n:06d}.tar", IMAGES[cut], [str(k) for k in LABELS[cut]])
        write_arrow(root / f"arrow/train/shard-{n:05d}-of-00003.arrow", IMAGES[cut], LABELS[cut], CLASSES)
    (root / "tar/classes.json").write_text('["ape", "bee", "cat"]')
    return {
        "folder": f"{root}/folder",
        "csv": f"{root}/folder/list.csv",
        "manifest": f"{root}/list.parquet",
        "parquet": f"{root}/parquet@train",
        "tar": f"{root}/tar/train-{{000000..000002}}.tar",
        "arrow": f"{root}/arrow@train",
        "memory": "memory://same-batches",
    }


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path / "cache"))


def batches(source: Source, workers: int = 0, start: int = 0, rank: int = 0, world: int = 1) -> list[Batch]:
    return list(
        train_loader(
            source,
            Augment(),
            Preprocess((12, 12)),
            batch=BATCH,
            seed=3,
            start=start,
            stop=STEPS,
            workers=workers,
            rank=rank,
            world=world,
        )
    )


@pytest.fixture(scope="module")
def expected() -> list[Batch]:
    """The batches of the images in memory."""
    return batches(BytesSource(IMAGES, LABELS, tuple(CLASSES)))


def assert_same(ours: list[Batch], theirs: list[Batch]) -> None:
    assert len(ours) == len(theirs) > 0
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)
        assert not a.broken


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores
@pytest.mark.parametrize("layout", LAYOUTS)
def test_batches_for_any_workers_ranks_and_from_any_step(
    layout: str, layouts: dict[str, str], expected: list[Batch]
) -> None:
    source = open_data(layouts[layout])
    assert source.classes == tuple(CLASSES)
    assert source.labels.tolist() == LABELS
    for workers in (0, 1, 2, 4):
        assert_same(batches(source, workers), expected)
        assert_same(batches(source, workers, start=2), expected[2:])
    for world in (2, 4):
        parts = [batches(source, workers=2, rank=rank, world=world) for rank in range(world)]
        for step, whole in enumerate(expected):
            assert torch.equal(torch.cat([part[step].images for part in parts]), whole.images)
            assert torch.equal(torch.cat([part[step].labels for part in parts]), whole.labels)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_pickled_source_reads_the_same(layout: str, layouts: dict[str, str]) -> None:
    source = open_data(layouts[layout])
    before = source[5]
    again = pickle.loads(pickle.dumps(source))
    assert again.classes == source.classes
    assert np.array_equal(again.labels, source.labels)
    assert [again[i] for i in range(len(again))] == [source[i] for i in range(len(source))]
    assert again[5] == before
    assert again[5].image == IMAGES[5]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_example_has_a_key_of_its_own(layout: str, layouts: dict[str, str]) -> None:
    source = open_data(layouts[layout])
    assert len({source[i].key for i in range(len(source))}) == len(IMAGES)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_slices_hold_the_same_images(layout: str, layouts: dict[str, str]) -> None:
    text = layouts[layout]
    part = open_data(f"{text}[:50%]" if "@" in text else f"{text}@[:50%]")
    whole = open_data(layouts["folder"] + "@[:50%]")
    assert [part[i].image for i in range(len(part))] == [whole[i].image for i in range(12)]


def test_names_need_not_be_utf8(tmp_path: Path) -> None:
    for label in ("a", "b"):
        folder = os.fsencode(tmp_path / label)
        (tmp_path / label).mkdir()
        with open(folder + b"/caf\xe9.png", "wb") as file:
            file.write(IMAGES[0])
    source = open_data(str(tmp_path))
    assert len(source) == 2
    assert source[1].image == IMAGES[0]
    assert source[1].key.endswith("b/caf\\xe9.png")
