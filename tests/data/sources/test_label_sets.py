"""Several classes an image, as people write them: separators, numbers, lists, a column for each class."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from PIL import Image

from vitrail.core.errors import BadInput
from vitrail.data.open.names import open_data
from vitrail.data.sources.base import ArraySource, Source
from vitrail.data.sources.relabelled import Relabelled
from vitrail.data.sources.subset import ConcatSource, Subset, shots, stratified

CAT_DOG = [[1, 1], [1, 0], [0, 0], [0, 1]]


def opened(folder: Path, name: str, text: str) -> Source:
    for i in range(4):
        Image.fromarray(np.full((8, 8, 3), i * 20, np.uint8)).save(folder / f"{i}.png")
    (folder / name).write_text(text)
    return open_data(str(folder / name), multi_label=True)


def rows(*labels: str) -> str:
    return "path,label\n" + "".join(f"{i}.png,{label}\n" for i, label in enumerate(labels))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", rows("cat|dog", "cat", "", "dog")),
        ("a.csv", rows("dog; cat", "cat", "", "dog")),
        ("a.csv", rows('"[""cat"", ""dog""]"', "['cat']", "[]", "['dog']")),
        ("a.csv", "path,cat,dog\n0.png,1,1\n1.png,1,0\n2.png,0,0\n3.png,0,1\n"),
        ("a.csv", "path,cat,dog\n0.png,1,1\n1.png,1,-1\n2.png,-1,-1\n3.png,-1,1\n"),
        (
            "a.jsonl",
            "\n".join(
                json.dumps({"path": f"{i}.png", "label": some})
                for i, some in enumerate([["dog", "cat"], ["cat"], [], ["dog"]])
            ),
        ),
    ],
)
def test_sets_of_classes_become_rows_of_ones(tmp_path: Path, name: str, text: str) -> None:
    source = opened(tmp_path, name, text)
    assert source.classes == ("cat", "dog")
    assert source.labels.tolist() == CAT_DOG
    assert source.labels.dtype == np.uint8
    assert source[0].label.tolist() == [1, 1]
    assert source.counts.tolist() == [2, 2]


def test_numbers_of_several_classes(tmp_path: Path) -> None:
    source = opened(tmp_path, "a.csv", rows("3 17", "3", "5", "17 5"))
    assert source.classes == ("3", "5", "17")
    assert source.labels.tolist() == [[1, 0, 1], [1, 0, 0], [0, 1, 0], [0, 1, 1]]


def test_splits_of_one_table_have_the_classes_of_train(tmp_path: Path) -> None:
    text = "path,label,split\n0.png,cat|dog,train\n1.png,cat,train\n2.png,dog,test\n3.png,dog|cat,train\n"
    opened(tmp_path, "a.csv", text)
    test = open_data(f"{tmp_path / 'a.csv'}@test", multi_label=True)
    assert test.classes == ("cat", "dog")
    assert test.labels.tolist() == [[0, 1]], "one class each there, and still a set"


@pytest.mark.parametrize(
    "labels", [("tench;Tinca", "crane;Grus", "cat", "dog;Canis"), ("1", "0", "1", "0"), ("a", "b", "a", "b")]
)
def test_one_class_an_image_stays_so(tmp_path: Path, labels: tuple[str, ...]) -> None:
    """Synonyms joined by a separator are one name: nothing between the marks occurs twice."""
    source = opened(tmp_path, "a.csv", rows(*labels))
    assert source.labels.dtype == np.int64
    assert [source.classes[i] for i in source.labels] == list(labels)


def test_who_expects_one_class_refuses_several(tmp_path: Path) -> None:
    opened(tmp_path, "a.csv", rows("cat|dog", "cat", "", "dog"))
    with pytest.raises(BadInput, match="have several classes each, and here an image has one"):
        open_data(str(tmp_path / "a.csv"))


def test_amounts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"column 'label' holds amounts, which are not predicted \(regression\)"):
        opened(tmp_path, "a.jsonl", "\n".join(json.dumps({"path": f"{i}.png", "label": i + 0.5}) for i in range(4)))
    many = "path,label\n" + "".join(f"{i % 4}.png,{i * 0.37:.2f}\n" for i in range(20))
    with pytest.raises(BadInput, match=r"the label '0.37' is an amount.*\(regression\)"):
        opened(tmp_path, "b.csv", many)
    with pytest.raises(BadInput, match="some hold other numbers than 0 and 1"):
        bits = "".join(f"{i % 4}.png,1,0\n" for i in range(5))
        opened(tmp_path, "c.csv", f"path,cat,dog\n{bits}0.png,0.3,1\n")


def test_lists_in_parquet_shards(tmp_path: Path) -> None:
    image = {"bytes": b"x", "path": "a.jpg"}
    names = {"label": {"feature": {"names": ["cat", "dog"], "_type": "ClassLabel"}, "_type": "Sequence"}}
    metadata = {b"huggingface": json.dumps({"info": {"features": names}}).encode()}
    for name, label in (("a", [[0, 1], [0], [], [1]]), ("b", [[1], [0], [0], [1]])):
        table = pa.table({"image": [image] * 4, "label": pa.array(label, pa.list_(pa.int64()))})
        parquet.write_table(table.replace_schema_metadata(metadata), tmp_path / f"{name}.parquet")
    several = open_data(str(tmp_path / "a.parquet"), multi_label=True)
    assert several.classes == ("cat", "dog")
    assert several.labels.tolist() == CAT_DOG
    assert open_data(str(tmp_path / "b.parquet")).labels.tolist() == [1, 0, 0, 1], "lists of one are as before"


def made(labels: np.ndarray) -> ArraySource:
    count = len(labels)
    names = tuple(f"c{i}" for i in range(labels.shape[1]))
    return ArraySource(np.zeros((count, 2, 2, 3), np.uint8), labels, names, [str(i) for i in range(count)])


def test_subsets_and_other_names_keep_the_sets() -> None:
    source = made(np.array([[1, 1, 0], [0, 0, 1], [0, 0, 0]]))
    assert Subset(source, np.array([2, 0])).labels.tolist() == [[0, 0, 0], [1, 1, 0]]
    assert Subset(source, np.array([0]), ("c1", "c0")).labels.tolist() == [[1, 1]]
    with pytest.raises(ValueError, match="without the class 'c2'"):
        Subset(source, np.array([1]), ("c0", "c1"))
    moved = Relabelled(source, (2, 0, 0), ("x", "y", "z"))
    assert moved.labels.tolist() == [[1, 0, 1], [1, 0, 0], [0, 0, 0]]
    assert moved[1].label.tolist() == [1, 0, 0]
    one = ArraySource(np.zeros((2, 2, 2, 3), np.uint8), np.array([1, 0]), ("a", "b"), ["0", "1"])
    assert Relabelled(one, (1, 0), ("b", "a"), multi_label=True).labels.tolist() == [[1, 0], [0, 1]]
    with pytest.raises(BadInput, match="cannot be joined"):
        ConcatSource([one, Relabelled(one, (0, 1), one.classes, multi_label=True)])
    with pytest.raises(BadInput, match="so none are drawn class by class"):
        shots(source, 1, 0)


def test_a_part_held_out_has_its_share_of_every_class() -> None:
    rng = np.random.default_rng(0)
    chances = np.array([0.5, 0.3, 0.1, 0.03, 0.01])
    labels = (rng.random((1000, 5)) < chances).astype(np.uint8)
    rest, held = stratified(made(labels), 0.2, 3)
    assert sorted([*rest.indices, *held.indices]) == list(range(1000))
    assert abs(len(held) - 200) <= 5
    wanted = 0.2 * labels.sum(axis=0)
    assert (abs(held.counts - wanted) <= np.maximum(1, 0.1 * wanted)).all()
    again = stratified(made(labels), 0.2, 3)[1]
    assert np.array_equal(again.indices, held.indices)
