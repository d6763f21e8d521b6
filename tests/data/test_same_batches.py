"""The same images give the same batches, however they are stored and however many processes read them."""

import io
import json
import tarfile
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from tests.data.pictures import encoded, noise, photograph, write_parquet
from vitrail.data.batches import Batch, training_batches
from vitrail.data.grammar import open_data
from vitrail.data.sources import Source
from vitrail.data.views import Augment, Preprocess

CLASSES = ["cat", "dog", "emu"]
EACH, BATCH, STEPS = 5, 8, 5


def images() -> list[bytes]:
    """Of each class some, large and small, JPEG and not, one of them broken."""
    made = []
    for i in range(EACH * len(CLASSES)):
        pixels = photograph(90 + 7 * i, 130 - 5 * i, i) if i % 3 else noise(20, 30, i)
        made.append(encoded(pixels, "JPEG") if i % 2 else encoded(pixels, "PNG"))
    made[7] = made[7][: len(made[7]) // 2]
    return made


def labels() -> list[int]:
    return [i // EACH for i in range(EACH * len(CLASSES))]


def name(i: int) -> str:
    return f"{i:03d}"


def folder(root: Path) -> str:
    for i, (data, label) in enumerate(zip(images(), labels(), strict=True)):
        (root / CLASSES[label]).mkdir(parents=True, exist_ok=True)
        (root / CLASSES[label] / f"{name(i)}.{'jpg' if i % 2 else 'png'}").write_bytes(data)
    return str(root)


def parquet(root: Path) -> str:
    write_parquet(root / "train-00000-of-00001.parquet", images(), labels(), CLASSES)
    return f"{root}@train"


def tar(root: Path) -> str:
    root.mkdir()
    (root / "classes.json").write_text(json.dumps(CLASSES))
    for shard in range(2):
        with tarfile.open(root / f"shard-{shard:06d}.tar", "w") as file:
            for i in [i for i in range(len(images())) if i // 8 == shard]:
                for suffix, data in ((".jpg", images()[i]), (".cls", str(labels()[i]).encode())):
                    member = tarfile.TarInfo(name(i) + suffix)
                    member.size = len(data)
                    file.addfile(member, io.BytesIO(data))
    return f"{root}/shard-{{000000..000001}}.tar"


def arrow(root: Path) -> str:
    root.mkdir()
    metadata = {b"vitrail": json.dumps({"format": 1, "classes": CLASSES}).encode()}
    schema = pa.schema([("image", pa.large_binary()), ("label", pa.int32()), ("key", pa.string())], metadata)
    columns = [images(), labels(), [name(i) for i in range(len(images()))]]
    table = pa.table(dict(zip(schema.names, columns, strict=True)), schema=schema)
    file = root / "shard-00000-of-00001.arrow"
    with pa.ipc.new_file(str(file), schema) as writer:
        writer.write_table(table, max_chunksize=4)
    return str(root)


LAYOUTS = {"folder": folder, "parquet": parquet, "tar": tar, "arrow": arrow}


def batches(source: Source, workers: int = 0, start: int = 0, rank: int = 0, world: int = 1) -> list[Batch]:
    return list(
        training_batches(
            source,
            Augment(),
            Preprocess((24, 32)),
            batch=BATCH,
            seed=3,
            start=start,
            stop=STEPS,
            workers=workers,
            rank=rank,
            world=world,
        )
    )


def same(ours: list[Batch], theirs: list[Batch]) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)
        assert len(a.broken) == len(b.broken)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[Batch]:
    return batches(open_data(folder(tmp_path_factory.mktemp("images") / "folder")))


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")  # more than there may be cores
@pytest.mark.parametrize("layout", LAYOUTS)
def test_batches_do_not_depend_on_storage_workers_processes_or_resuming(
    layout: str, tmp_path: Path, expected: list[Batch]
) -> None:
    source = open_data(LAYOUTS[layout](tmp_path / "data"))
    assert [c.lower() for c in source.classes] == CLASSES
    assert sum(len(batch.broken) for batch in expected) > 0
    for workers in (0, 1, 2, 4):
        same(batches(source, workers), expected)
    same(batches(source, workers=2, start=3), expected[3:])
    for world in (2, 4):
        parts = [batches(source, rank=rank, world=world) for rank in range(world)]
        for step, whole in enumerate(expected):
            assert torch.equal(torch.cat([part[step].images for part in parts]), whole.images)
            assert torch.equal(torch.cat([part[step].labels for part in parts]), whole.labels)
            assert len(list(chain(*(part[step].broken for part in parts)))) == len(whole.broken)
