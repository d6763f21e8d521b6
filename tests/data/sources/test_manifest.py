"""Manifests: columns, splits, labels, and what is said of rows that cannot be used."""

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from tests.data.pictures import encoded, folder_of_images, noise
from tests.memory import forget_peak, resident
from vitrail.core.errors import BadInput
from vitrail.data.decode.image import BrokenImage
from vitrail.data.open.names import open_data
from vitrail.data.sources.manifest import Manifest


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return folder_of_images(tmp_path, {"cat": 3, "dog": 2})


def manifest(folder: Path, text: str | bytes, name: str = "list.csv") -> str:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


@pytest.mark.parametrize(
    "header", ["path,label", "file,class", "image,label", "id,label,path", "filename,label", '"path","label"']
)
def test_columns_are_found_by_name(photos: Path, header: str) -> None:
    names = [name.strip('"') for name in header.split(",")]
    row = {"label": "cat", "class": "cat", "id": "17"}
    text = header + "\n" + ",".join(row.get(name, "cat/0.png") for name in names) + "\n"
    source = open_data(manifest(photos, text))
    assert source.classes == ("cat",)
    assert source[0].image == (photos / "cat/0.png").read_bytes()


@pytest.mark.parametrize(
    "text", ["path;label\ncat/0.png;a\n", "path\tlabel\ncat/0.png\ta", "\ufeffpath,label\r\ncat/0.png, a \r\n"]
)
def test_other_separators_line_ends_and_marks(photos: Path, text: str) -> None:
    assert open_data(manifest(photos, text)).classes == ("a",)


def test_paths_are_relative_to_the_manifest_or_absolute(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"path,label\ncat/0.png,x\n{photos}/dog/1.png,y\n"
    monkeypatch.chdir("/")
    source = open_data(manifest(photos, text))
    assert source[1].image == (photos / "dog/1.png").read_bytes()
    assert [source[i].key for i in (0, 1)] == [f"{photos}/cat/0.png", f"{photos}/dog/1.png"]
    monkeypatch.chdir(photos)
    assert open_data("list.csv")[0].image == (photos / "cat/0.png").read_bytes()


def test_labels_are_names_or_numbers(photos: Path) -> None:
    source = open_data(manifest(photos, "path,label\ncat/0.png,10\ncat/1.png,9\ncat/2.png,10\n"))
    assert source.classes == ("9", "10")
    assert source.labels.tolist() == [1, 0, 1]
    mixed = open_data(manifest(photos, "path,label\ncat/0.png,10\ncat/1.png,b\n"))
    assert mixed.classes == ("10", "b")


def test_a_split_column_makes_splits(photos: Path) -> None:
    text = "path,label,split\ncat/0.png,cat,train\ndog/0.png,dog,train\ndog/1.png,dog,val\ncat/1.png,,test\n"
    name = manifest(photos, text)
    assert len(open_data(name)) == 2
    test = open_data(f"{name}@validation")
    assert test.classes == ("cat", "dog")
    assert test.labels.tolist() == [1]
    with pytest.raises(BadInput, match=r"1 bad rows of 1: 1 without a label \(row 4\)"):
        open_data(name, "test")
    with pytest.raises(BadInput, match="unknown split .*'trian'; did you mean 'train'"):
        open_data(f"{name}@trian")


def test_a_class_that_train_lacks_is_refused(photos: Path) -> None:
    name = manifest(photos, "path,label,split\na.png,cat,train\nb.png,dog,train\nc.png,dogs,test\n")
    with pytest.raises(BadInput, match="has the class 'dogs', which train lacks; did you mean 'dog'"):
        open_data(name, "test")


def test_a_parquet_manifest_is_one_too(photos: Path) -> None:
    table = pa.table(
        {
            "path": ["cat/0.png", "dog/1.png"],
            "label": pa.array(["cat", "dog"]).dictionary_encode(),
            "split": ["train", "test"],
        }
    )
    parquet.write_table(table, photos / "list.parquet")
    assert open_data(f"{photos}/list.parquet")[0].image == (photos / "cat/0.png").read_bytes()
    numbers = pa.table({"file": ["cat/0.png", "dog/1.png"], "label": pa.array([3, 1], type=pa.int16())})
    parquet.write_table(numbers, photos / "numbers.parquet")
    assert open_data(f"{photos}/numbers.parquet").classes == ("1", "3")


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"path": [1, 2], "label": ["a", "b"]}, "column 'path' is int64, expected texts"),
        ({"path": ["x", "y"], "label": [0.5, 1.5]}, "column 'label' holds amounts, which are not predicted"),
        ({"path": ["x", None], "label": ["a", "b"]}, r"1 bad rows of 2: 1 without a path \(row 2\)"),
        ({"path": ["x", "y"], "label": [None, "b"]}, r"1 without a label \(row 1\)"),
        ({"path": [["x"], ["y"]], "label": ["a", "b"]}, "column 'path' is list"),
        ({"where": ["x"], "label": ["a"]}, "has the columns where, label; expected one named path or file or image"),
    ],
)
def test_parquet_of_wrong_types_is_refused(photos: Path, columns: dict[str, list[object]], sentence: str) -> None:
    parquet.write_table(pa.table(columns), photos / "x.parquet")
    with pytest.raises(BadInput, match=sentence):
        open_data(f"{photos}/x.parquet")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty; expected a header such as path,label"),
        ("path,label\n", "has no rows"),
        ("path,label", "has no rows"),
        ("name,label\na,b\n", "has the columns name, label; expected one named path or file or image"),
        ("path,name\na,b\n", "expected one named label or class"),
        ("path,path,label\na,b,c\n", "2 columns named 'path'"),
        ("a.png,cat\nb.png,dog\n", "the first line names them"),
        ("path,label\na.png,cat\n,dog\n", r"1 bad rows of 2: 1 without a path \(row 2\)"),
        (
            "path,label\na.png,\nb.png,\nc.png,\nd.png,\ne.png,x\n",
            r"4 bad rows of 5: 4 without a label \(row 1, row 2, row 3, …\)",
        ),
        (
            "path,label\na.png,cat,7\nb.png,dog\n",
            r"1 bad rows of 2: 1 with 3 columns instead of 2 \(line 2: 'a.png,cat,7'\)",
        ),
        (b"\xff\xfe\x00path", "is no text in UTF-8"),
        ("path,la\rbel,x\na,b,c\n", "the first line cannot be read"),
        ("path," * 20_000 + "label\n", "has a first line of more than 65,536 bytes"),
    ],
)
def test_bad_manifests_get_a_sentence(tmp_path: Path, text: str | bytes, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        open_data(manifest(tmp_path, text))


def test_a_file_that_is_missing_is_a_broken_image(tmp_path: Path) -> None:
    source = open_data(manifest(tmp_path, "path,label\nnone.png,a\n/dev/zero,b\nx\0y.png,c\n"))
    for index, reason in ((0, "No such file"), (1, "not a regular file"), (2, "null")):
        with pytest.raises(BrokenImage, match=reason):
            source[index]


def test_a_manifest_without_splits_has_none(photos: Path) -> None:
    with pytest.raises(BadInput, match="has no splits .* leave out @train"):
        open_data(manifest(photos, "path,label\ncat/0.png,a\n") + "@train")


def test_a_million_bad_rows_are_counted_in_bounded_memory(tmp_path: Path) -> None:
    rows = 1_000_000
    path = tmp_path / "bad.csv"
    with open(path, "w") as file:
        file.write("path,label\n")
        for start in range(0, rows, 1000):
            file.write("".join(f"photos/{i}.png,cat{',extra' * (1 + i % 40)}\n" for i in range(start, start + 1000)))
    forget_peak()
    before = resident()
    start_time = time.perf_counter()
    with pytest.raises(BadInput) as raised:
        open_data(str(path))
    seconds = time.perf_counter() - start_time
    grown = (resident() - before) / 2**20
    said = str(raised.value)
    print(f"{seconds:.1f} s, {grown:.0f} MiB more, {len(said)} characters")
    assert "has 1,000,000 bad rows of 1,000,000: 25,000 with 3 columns instead of 2 (line 2: 'photos/0.png" in said
    assert "left out for other reasons" in said
    assert len(said) < 8000
    assert seconds < 60
    assert grown < 256  # measured: below


def test_a_line_without_end_is_refused(tmp_path: Path) -> None:
    name = manifest(tmp_path, "path,label\n" + "x" * (9 << 20) + ",a\n")
    with pytest.raises(BadInput, match="cannot be read as a CSV"):
        open_data(name)


def test_rows_keep_their_order_and_repeat(photos: Path) -> None:
    rows = ["dog/1.png,dog", "cat/0.png,cat", "dog/1.png,dog", "cat/2.png,cat"]
    found = Manifest(manifest(photos, "path,label\n" + "\n".join(rows))).open()
    assert found.names.to_pylist() == [row.split(",")[0].encode() for row in rows]
    assert np.array_equal(found.labels, [1, 0, 1, 0])


def test_encoded_images_need_not_have_a_suffix(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(encoded(noise(3, 3)))
    assert open_data(manifest(tmp_path, "path,label\nblob,a\n"))[0].image == encoded(noise(3, 3))


def test_a_bad_row_that_is_no_text_is_refused_without_a_traceback(tmp_path: Path) -> None:
    """pyarrow decodes it before it asks what to do with it, and prints what that raises."""
    (tmp_path / "a.csv").write_bytes(b"path,label\na.jpg,1\n\xe9.jpg,1,2\n")
    with pytest.raises(BadInput, match="cannot be read as a CSV|bad rows"):
        Manifest(str(tmp_path / "a.csv"))
