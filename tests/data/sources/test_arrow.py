"""Prepared Arrow folders: order, splits, damage, and shards that are missing."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from tests.data.pictures import encoded, noise, write_arrow
from vitrail.core.errors import BadInput
from vitrail.data.decode.image import BrokenImage
from vitrail.data.open.names import open_data
from vitrail.data.sources.arrow import ArrowSource

PICTURES = [encoded(noise(4, 4, seed)) for seed in range(10)]
CLASSES = ["cat", "dog", "eel"]


def prepared(folder: Path, counts: tuple[int, ...] = (7, 3)) -> list[str]:
    files, start = [], 0
    for n, count in enumerate(counts):
        part = slice(start, start + count)
        labels = [i % 3 for i in range(10)][part]
        path = folder / f"shard-{n:05d}-of-{len(counts):05d}.arrow"
        files.append(str(write_arrow(path, PICTURES[part], labels, CLASSES)))
        start += count
    rows = [
        {"file": Path(f).name, "count": c, "bytes": Path(f).stat().st_size} for f, c in zip(files, counts, strict=True)
    ]
    (folder / "prepared.json").write_text(json.dumps({"format": 1, "shards": rows}))
    return files


def test_examples_are_those_written(tmp_path: Path) -> None:
    source = ArrowSource(prepared(tmp_path))
    assert source.classes == tuple(CLASSES)
    assert [source[i].image for i in reversed(range(10))] == PICTURES[::-1]
    assert source[8] == (PICTURES[8], 2, "shard-00001-of-00002/1")


def test_a_shard_of_which_everything_was_dropped_is_empty(tmp_path: Path) -> None:
    source = ArrowSource(prepared(tmp_path, (6, 0, 4)))
    assert [source[i].image for i in range(10)] == PICTURES


def test_splits_are_folders_of_any_name(tmp_path: Path) -> None:
    prepared(tmp_path / "train")
    prepared(tmp_path / "validation", (4, 2))
    prepared(tmp_path / "unseen-test", (2,))
    assert len(open_data(str(tmp_path))) == 10
    assert len(open_data(str(tmp_path), "test")) == 6
    assert len(open_data(f"{tmp_path}@val")) == 6
    assert len(open_data(f"{tmp_path}@unseen-test")) == 2
    assert len(open_data(f"{tmp_path}/train")) == 10
    with pytest.raises(BadInput, match="did you mean 'unseen-test'"):
        open_data(f"{tmp_path}@unsen-test")


def test_a_missing_shard_and_one_of_another_length_are_refused(tmp_path: Path) -> None:
    first, second = (Path(f) for f in prepared(tmp_path))
    data = second.read_bytes()
    second.unlink()
    with pytest.raises(BadInput, match=r"holds 1 shards of 2: `vitrail data prepare` did not end there"):
        open_data(str(tmp_path))
    second.write_bytes(data + b"more")
    with pytest.raises(
        BadInput, match=r"shard-00001-of-00002.arrow has [\d,]+ bytes, and .* says [\d,]+: it is damaged"
    ):
        open_data(str(tmp_path))
    assert len(open_data(str(first))) == 7  # one shard alone is data too


@pytest.mark.parametrize(
    ("schema", "sentence"),
    [
        ({"image": pa.binary(), "label": pa.int32(), "key": pa.string()}, "'image' is binary, expected large_binary"),
        ({"image": pa.large_binary(), "label": pa.int64(), "key": pa.string()}, "'label' is int64, expected int32"),
        ({"image": pa.large_binary(), "label": pa.int32()}, "'key' is missing, expected string"),
    ],
)
def test_other_columns_are_refused(tmp_path: Path, schema: dict[str, pa.DataType], sentence: str) -> None:
    with pa.ipc.new_file(str(tmp_path / "x.arrow"), pa.schema(schema)):
        pass
    with pytest.raises(BadInput, match=sentence):
        ArrowSource([str(tmp_path / "x.arrow")])


def test_labels_beyond_the_classes_are_refused(tmp_path: Path) -> None:
    write_arrow(tmp_path / "x.arrow", PICTURES[:2], [0, 3], CLASSES)
    with pytest.raises(BadInput, match="holds the labels 0 to 3, but names 3 classes"):
        ArrowSource([str(tmp_path / "x.arrow")])


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    for data in (b"", b"hello", b"ARROW1\0\0 or so it says ARROW1"):
        (tmp_path / "x.arrow").write_bytes(data)
        with pytest.raises(BadInput, match="is not a readable Arrow file"):
            ArrowSource([str(tmp_path / "x.arrow")])


def test_damage_is_a_broken_image_or_a_sentence(tmp_path: Path) -> None:
    import random

    path = write_arrow(tmp_path / "x.arrow", PICTURES, [0] * 10, CLASSES)
    whole, rng = path.read_bytes(), random.Random(1)
    for _ in range(200):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 20)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        other = tmp_path / "y.arrow"
        other.unlink(missing_ok=True)
        other.write_bytes(data)
        try:
            source = ArrowSource([str(other)])
            for i in range(len(source)):
                source[i]
        except (BadInput, BrokenImage):
            pass
