"""Folders and parquet files of images: random access, picklable, refused with a sentence when they do not fit."""

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as compute
import pyarrow.parquet as parquet
import pytest

from tests.data.pictures import encoded, folder_of_images, noise, write_parquet
from vitrail.core.errors import BadInput
from vitrail.data.decode.image import BrokenImage
from vitrail.data.sources.base import Source
from vitrail.data.sources.image_folder import FolderSource
from vitrail.data.sources.parquet import ParquetSource, _Values

PICTURES = [encoded(noise(4, 4, seed)) for seed in range(17)]


def as_bytes(source: Source, index: int) -> bytes:
    data = source[index].image
    assert isinstance(data, bytes)
    return data


def test_folders_are_classes_in_alphabetical_order(tmp_path: Path) -> None:
    folder_of_images(tmp_path, {"zebra": 2, "Ant": 1, "bee": 3})
    source = FolderSource(tmp_path)
    assert source.classes == ("Ant", "bee", "zebra")
    assert source.labels.tolist() == [0, 1, 1, 1, 2, 2]
    assert [source[i].label for i in range(6)] == source.labels.tolist()
    assert source[5].key == str(tmp_path / "zebra" / "1.png")
    assert as_bytes(source, 5) == (tmp_path / "zebra" / "1.png").read_bytes()


def test_nested_files_belong_to_the_class_and_other_files_do_not(tmp_path: Path) -> None:
    folder_of_images(tmp_path, {"a": 1, "b": 1})
    folder_of_images(tmp_path / "a", {"deep/er": 2})
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "a" / "PHOTO.JPG").write_bytes(encoded(noise(3, 3), "JPEG"))
    (tmp_path / "README.md").write_text("not a class")
    source = FolderSource(tmp_path)
    assert source.classes == ("a", "b")
    assert np.bincount(source.labels).tolist() == [4, 1]


def test_hidden_folders_are_no_classes_and_hold_no_examples(tmp_path: Path) -> None:
    folder_of_images(tmp_path, {"a": 2, "b": 1, ".cache": 1, "a/.ipynb_checkpoints": 2})
    source = FolderSource(tmp_path)
    assert source.classes == ("a", "b")
    assert np.bincount(source.labels).tolist() == [2, 1]


def test_a_folder_without_classes_or_images_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(PICTURES[0])
    with pytest.raises(BadInput, match="has no sub-folders"):
        FolderSource(tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(BadInput, match=r"holds no images in its 1 sub-folders .*\.png"):
        FolderSource(tmp_path)


def test_a_file_that_vanished_is_a_broken_image(tmp_path: Path) -> None:
    source = FolderSource(folder_of_images(tmp_path, {"a": 1, "b": 1}))
    (tmp_path / "a" / "0.png").unlink()
    with pytest.raises(BrokenImage, match="No such file"):
        source[0]


@pytest.fixture
def several(tmp_path: Path) -> list[Path]:
    """17 images in three files of several row groups."""
    files, start = [], 0
    for number, count in enumerate((7, 1, 9)):
        path = tmp_path / f"train-{number:05d}-of-00003.parquet"
        part = slice(start, start + count)
        write_parquet(path, PICTURES[part], [i % 3 for i in range(17)][part], ["cat", "dog", "eel"])
        files.append(path)
        start += count
    return files


def test_random_access_equals_reading_in_order(several: list[Path]) -> None:
    source = ParquetSource(several)
    assert source.classes == ("cat", "dog", "eel")
    assert source.labels.tolist() == [i % 3 for i in range(17)]
    assert [as_bytes(source, i) for i in range(17)] == PICTURES
    order = np.random.default_rng(0).permutation(17)
    again = ParquetSource(several)
    assert [as_bytes(again, int(i)) for i in order] == [PICTURES[i] for i in order]
    assert len({source[i].key for i in range(17)}) == 17


def test_a_small_budget_changes_nothing(several: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ParquetSource, "budget", 1)
    source = ParquetSource(several)
    for i in (16, 0, 8, 3, 16, 7):
        assert as_bytes(source, i) == PICTURES[i]
        assert len(source._cache) == 1


def test_a_pickled_source_reads_the_same_and_carries_no_images(several: list[Path]) -> None:
    source = ParquetSource(several)
    before = len(pickle.dumps(source))
    assert as_bytes(source, 12) == PICTURES[12]
    pickled = pickle.dumps(source)
    assert len(pickled) == before
    assert as_bytes(pickle.loads(pickled), 12) == PICTURES[12]


def test_classes_without_names_are_numbered(tmp_path: Path) -> None:
    write_parquet(tmp_path / "x.parquet", PICTURES[:3], [0, 2, 1])
    assert ParquetSource([tmp_path / "x.parquet"]).classes == ("0", "1", "2")


def test_more_labels_than_names_are_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "x.parquet", PICTURES[:3], [0, 2, 1], ["cat", "dog"])
    with pytest.raises(BadInput, match="holds label 2, but the schema names 2 classes"):
        ParquetSource([tmp_path / "x.parquet"])


def test_negative_labels_are_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "x.parquet", PICTURES[:3], [0, -1, 1])
    with pytest.raises(BadInput, match="negative labels"):
        ParquetSource([tmp_path / "x.parquet"])


def test_no_rows_are_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "x.parquet", [], [])
    with pytest.raises(BadInput, match="without a row"):
        ParquetSource([tmp_path / "x.parquet"])


@pytest.mark.parametrize(
    "labels",
    [
        pa.array(["cat", "ant", "cat"]),
        pa.array(["cat", "ant", "cat"]).dictionary_encode(),
        pa.array([["cat"], ["ant"], ["cat"]]),
    ],
)
def test_labels_may_be_texts_dictionaries_and_lists_of_one(tmp_path: Path, labels: pa.Array) -> None:
    images = [{"bytes": data, "path": "0"} for data in PICTURES[:3]]
    parquet.write_table(pa.table({"image": images, "label": labels}), tmp_path / "x.parquet")
    source = ParquetSource([tmp_path / "x.parquet"])
    assert source.classes == ("ant", "cat")
    assert source.labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ([[0], [0.5, 2.0], [0]], "'label' is list.* expected whole numbers or texts"),
        ([[0], None, [0]], "1 rows of column 'label' are empty"),
        ([0.5, 1.0, 0.0], "'label' is double, expected whole numbers or texts"),
    ],
)
def test_labels_of_other_kinds_are_refused(tmp_path: Path, labels: list[object], sentence: str) -> None:
    images = [{"bytes": data, "path": "0"} for data in PICTURES[:3]]
    parquet.write_table(pa.table({"image": images, "label": labels}), tmp_path / "x.parquet")
    with pytest.raises(BadInput, match=sentence):
        ParquetSource([tmp_path / "x.parquet"])


def test_the_only_columns_that_fit_are_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pa.table({"picture": PICTURES[:2], "species": ["cat", "ant"]})
    parquet.write_table(table, tmp_path / "x.parquet")
    assert ParquetSource([tmp_path / "x.parquet"]).classes == ("ant", "cat")
    assert "the label is taken from the column 'species'" in capsys.readouterr().err


def test_a_missing_column_lists_the_columns(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"picture": [b""], "mask": [b""], "label": [0]}), tmp_path / "x.parquet")
    with pytest.raises(BadInput, match=r"has the columns picture, mask, label; expected one named image or img"):
        ParquetSource([tmp_path / "x.parquet"])


def test_a_second_file_of_other_columns_is_named(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", PICTURES[:1], [0])
    parquet.write_table(pa.table({"img": [PICTURES[0]], "label": [0]}), tmp_path / "b.parquet")
    with pytest.raises(BadInput, match=r"b\.parquet has no column 'image', unlike .*a\.parquet"):
        ParquetSource([tmp_path / "a.parquet", tmp_path / "b.parquet"])


def test_another_kind_of_file_is_no_parquet(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 or so it says")
    with pytest.raises(BadInput, match="not a readable parquet file"):
        ParquetSource([tmp_path / "x.parquet"])


def test_a_row_without_an_image_is_broken(tmp_path: Path) -> None:
    table = pa.table({"image": [{"bytes": PICTURES[0], "path": "0"}, None], "label": [0, 1]})
    parquet.write_table(table, tmp_path / "x.parquet")
    source = ParquetSource([tmp_path / "x.parquet"])
    assert as_bytes(source, 0) == PICTURES[0]
    with pytest.raises(BrokenImage, match="no image bytes"):
        source[1]


@pytest.mark.parametrize("binary", [pa.binary(), pa.large_binary()], ids=str)
@pytest.mark.parametrize(
    "path", [pa.string(), pa.large_string(), pa.null(), pa.dictionary(pa.int32(), pa.string())], ids=str
)
def test_values_of_a_row_group_are_those_that_arrow_gives(binary: pa.DataType, path: pa.DataType) -> None:
    kind = pa.struct([("bytes", binary), ("path", path)])
    rows: list[dict[str, object] | None] = [
        {"bytes": bytes([i] * i) if i % 4 else None, "path": None if i % 3 else f"ü{i}"} for i in range(20)
    ]
    rows[7] = None
    if pa.types.is_null(path):
        rows = [row and {**row, "path": None} for row in rows]
    whole = pa.array(rows, kind)
    column = pa.chunked_array([whole[:3], whole[3:3], whole[3:11], whole[11:]])
    for name in ("bytes", "path"):
        values = compute.struct_field(column, name)
        read = _Values(values)
        assert len(read) == 20
        found = [read[i] for i in range(20)]
        assert [v.decode() if name == "path" and isinstance(v, bytes) else v for v in found] == values.to_pylist()


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ({"image": [1, 2], "label": [0, 1]}, "'image' is int64, expected bytes, or a struct with a field 'bytes'"),
        ({"image": [{"path": "x"}], "label": [0]}, "'image' is struct<path: string>, expected bytes"),
        ({"image": [{"bytes": "text"}], "label": [0]}, "'image' is struct<bytes: string>, expected bytes"),
        ({"image": [b"x"], "label": [0.5]}, "'label' is double, expected whole numbers"),
        ({"image": [b"x", b"y"], "label": [0, None]}, "1 rows of column 'label' are empty"),
        ({"image": [b"x"], "label": [10**12]}, "holds the label 1,000,000,000,000, with 1 rows"),
    ],
)
def test_wrong_types_are_refused(tmp_path: Path, table: dict[str, list[object]], sentence: str) -> None:
    parquet.write_table(pa.table(table), tmp_path / "x.parquet")
    with pytest.raises(BadInput, match=sentence):
        ParquetSource([tmp_path / "x.parquet"])


def test_damaged_parquet_is_a_sentence_or_a_broken_image(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write_parquet(tmp_path / "x.parquet", PICTURES, [i % 3 for i in range(17)])
    whole = (tmp_path / "x.parquet").read_bytes()
    outcomes = set()
    for n in range(100):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), rng.integers(1, 10)):
            data[place] = rng.integers(256)
        other = tmp_path / f"{n}.parquet"
        other.write_bytes(data)
        try:
            source = ParquetSource([other])
        except BadInput:
            outcomes.add("refused")
            continue
        for i in range(len(source)):
            try:
                source[i]
                outcomes.add("read")
            except BrokenImage:
                outcomes.add("broken")
    assert {"refused", "read"} <= outcomes


def test_a_row_group_that_is_shorter_than_stated_breaks_its_images(
    several: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ParquetSource(several)
    group = source._group
    monkeypatch.setattr(source, "_group", lambda which: ([group(which)[0][0], group(which)[0][1]], None))
    assert as_bytes(source, 1) == PICTURES[1]
    with pytest.raises(BrokenImage, match="fewer rows than the file says"):
        source[2]


def test_a_parquet_file_that_vanishes_breaks_its_images(several: list[Path]) -> None:
    source = ParquetSource(several)
    several[1].unlink()
    assert as_bytes(source, 0) == PICTURES[0]
    with pytest.raises(BrokenImage, match=r"unreadable: .*No such file") as raised:
        source[7]
    assert raised.value.key == f"{several[1].name}:7"
