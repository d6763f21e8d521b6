"""What lies in the folders and tables that people bring: splits, junk, links, suffixes, columns, layouts."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from PIL import Image

from tests.data.pictures import add_member, encoded, folder_of_images, noise, write_parquet, write_tar
from vitrail.core.errors import BadInput
from vitrail.data.decode.image import BrokenImage, decode
from vitrail.data.open.names import open_data, splits_of
from vitrail.data.sources.base import Source
from vitrail.data.sources.split_names import meaning

Stderr = pytest.CaptureFixture[str]
SIX = [encoded(noise(6, 6, i)) for i in range(6)]


def counts(source: Source) -> dict[str, int]:
    return dict(zip(source.classes, np.bincount(source.labels, minlength=len(source.classes)).tolist(), strict=True))


def jpeg(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(8, 8)).save(path, "JPEG")
    return path


# ---- splits


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("train", "train"), ("Training", "train"), ("TRAIN", "train"), ("train2017", "train"),
        ("train_images", "train"), ("trainset", "train"), ("Test", "test"), ("Testing", "test"),
        ("VALID", "validation"), ("val", "validation"),
        ("validation", "validation"), ("dev", "validation"), ("seen-train", None), ("train-test", None),
        ("train_tracks", None), ("train800", None), ("trainer", None), ("bus", None),
    ],
)  # fmt: skip
def test_what_names_of_splits_mean(name: str, kind: str | None) -> None:
    assert meaning(name) == kind


@pytest.mark.parametrize(
    ("train", "test"), [("Training", "Testing"), ("Train", "VALID"), ("train_images", "val_images")]
)
def test_splits_in_any_spelling(tmp_path: Path, train: str, test: str) -> None:
    folder_of_images(tmp_path / train, {"ant": 2, "bee": 1})
    folder_of_images(tmp_path / test, {"bee": 3})
    assert splits_of(str(tmp_path)) == (train, test)
    assert counts(open_data(str(tmp_path))) == {"ant": 2, "bee": 1}
    assert counts(open_data(str(tmp_path), "test")) == {"ant": 0, "bee": 3}
    assert counts(open_data(f"{tmp_path}@train")) == {"ant": 2, "bee": 1}


def test_two_splits_of_one_meaning_are_to_be_named(tmp_path: Path) -> None:
    for name in ("train", "val", "valid"):
        folder_of_images(tmp_path / name, {"ant": 1, "bee": 1})
    with pytest.raises(BadInput, match="has val and valid: name one, as in .*@val"):
        open_data(str(tmp_path), "test")
    assert len(open_data(f"{tmp_path}@valid")) == 2


def test_a_class_that_is_called_train(tmp_path: Path) -> None:
    folder_of_images(tmp_path, {"bus": 2, "car": 2, "train": 1})
    assert counts(open_data(str(tmp_path))) == {"bus": 2, "car": 2, "train": 1}
    assert splits_of(str(tmp_path)) == ()


def test_a_folder_train_that_may_be_both_is_to_be_named(tmp_path: Path) -> None:
    folder_of_images(tmp_path, {"bus": 2, "car": 2, "train/2020": 1, "train/2021": 1})
    with pytest.raises(
        BadInput, match=r"folder train, which may be a split or a class, beside bus, car: name .*@train"
    ):
        open_data(str(tmp_path))
    assert counts(open_data(f"{tmp_path}@train")) == {"2020": 1, "2021": 1}


def test_folders_beside_two_splits_are_left_out_and_said(tmp_path: Path, capsys: Stderr) -> None:
    for name in ("train", "test", "more"):
        folder_of_images(tmp_path / name, {"ant": 1, "bee": 1})
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/a.xml").write_text("<a/>")
    assert len(open_data(str(tmp_path))) == 2
    assert "left out are the folders more\n" in capsys.readouterr().err


@pytest.mark.parametrize("beginning", ["", "imagenet1k-", "my_set_"])
def test_tar_shards_with_and_without_a_beginning(tmp_path: Path, beginning: str) -> None:
    for name, labels in (("train-0000", "ab"), ("train-0001", "a"), ("validation-00", "bbb")):
        write_tar(tmp_path / f"{beginning}{name}.tar", SIX[: len(labels)], list(labels))
    assert splits_of(str(tmp_path)) == ("train", "validation")
    assert counts(open_data(str(tmp_path))) == {"a": 2, "b": 1}
    assert len(open_data(f"{tmp_path}@val")) == 3


def test_splits_of_which_one_name_holds_another_stay_apart(tmp_path: Path) -> None:
    for name in ("train", "seen-train", "unseen-test"):
        write_tar(tmp_path / f"{name}-000.tar", SIX[:2], ["a", "b"])
    assert splits_of(str(tmp_path)) == ("train", "seen-train", "unseen-test")
    assert len(open_data(f"{tmp_path}@train")) == 2


# ---- files in class folders


def test_images_are_known_by_what_is_in_them(tmp_path: Path, capsys: Stderr) -> None:
    for name in ("a.jfif", "b.jpe", "c.JPEG", "d", "e.dat"):
        jpeg(tmp_path / "ant" / name)
    Image.fromarray(noise(8, 8)).save(tmp_path / "ant/f.jp2")
    jpeg(tmp_path / "bee/a.jpg")
    for name in ("notes.txt", "list.csv", "more.txt"):
        (tmp_path / "bee" / name).write_text("text")
    source = open_data(str(tmp_path))
    assert counts(source) == {"ant": 6, "bee": 1}
    for i in range(7):
        assert decode(bytes(source[i].image)).shape == (8, 8, 3)
    said = capsys.readouterr().err
    assert "3 files and links are not used: " in said
    assert (
        "2 are no image (.txt) ('more.txt', 'notes.txt')" in said
        or "2 are no image (.txt) ('notes.txt', 'more.txt')" in said
    )
    assert source.skipped is not None
    assert len(source.skipped) == 3


def test_a_class_that_is_left_with_nothing_stops(tmp_path: Path) -> None:
    folder_of_images(tmp_path, {"ant": 2})
    (tmp_path / "bee").mkdir()
    (tmp_path / "bee/a.svg").write_text("<svg/>")
    with pytest.raises(
        BadInput, match=r"of the class bee not one file is an image \(1 are no image \(.svg\) \('a.svg'\)"
    ):
        open_data(str(tmp_path))


def test_heic_is_read_or_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heif = pytest.importorskip("pillow_heif")
    folder_of_images(tmp_path, {"ant": 1})
    (tmp_path / "bee").mkdir()
    heif.from_pillow(Image.new("RGB", (64, 48), (200, 30, 30))).save(tmp_path / "bee/a.HEIC")
    source = open_data(str(tmp_path))
    pixels = decode(bytes(source[1].image))
    assert pixels.shape == (48, 64, 3)
    assert np.abs(pixels.astype(int) - [200, 30, 30]).max() < 12
    monkeypatch.setattr("vitrail.data.decode.image.find_spec", lambda _: None)
    with pytest.raises(BadInput, match="of the class bee not one file .* HEIC, which needs `pip install 'vitrail"):
        open_data(str(tmp_path))


def test_junk_of_systems_is_no_class(tmp_path: Path) -> None:
    folder_of_images(tmp_path, {"ant": 1, "bee": 1, "__MACOSX/ant": 1, "@eaDir/ant": 1, ".ipynb_checkpoints": 1})
    folder_of_images(tmp_path, {"ant/@eaDir": 1, "#recycle": 1, "$RECYCLE.BIN": 1, "System Volume Information": 1})
    for name in ("Thumbs.db", "desktop.ini", "._0.png", ".DS_Store"):
        (tmp_path / "bee" / name).write_bytes(b"junk")
    source = open_data(str(tmp_path))
    assert counts(source) == {"ant": 1, "bee": 1}
    assert source.skipped is None


def test_links_are_followed_and_loops_cut(tmp_path: Path, capsys: Stderr) -> None:
    root = folder_of_images(tmp_path / "p", {"ant": 1, "bee": 1})
    folder_of_images(tmp_path / "elsewhere", {"more": 3})
    (root / "ant/batch2").symlink_to(tmp_path / "elsewhere/more")
    (root / "ant/round").symlink_to(root / "ant")
    (root / "ant/up").symlink_to(tmp_path)
    (root / "cat").symlink_to(tmp_path / "elsewhere/more")
    assert counts(open_data(str(root))) == {"ant": 4, "bee": 1, "cat": 3}
    assert "2 a link to a folder that is read already" in capsys.readouterr().err


def test_one_name_in_two_unicode_forms_is_one_class(tmp_path: Path) -> None:
    folder_of_images(tmp_path / "train", {"cafe\u0301": 1, "bee": 1})
    folder_of_images(tmp_path / "test", {"caf\u00e9": 2})
    assert open_data(str(tmp_path), "test").labels.tolist() == [1, 1]
    folder_of_images(tmp_path / "train", {"caf\u00e9": 1})
    with pytest.raises(BadInput, match="two classes have one name"):
        open_data(str(tmp_path))


def test_a_class_without_images_is_said(tmp_path: Path, capsys: Stderr) -> None:
    folder_of_images(tmp_path / "train", {"ant": 1, "bee": 1})
    (tmp_path / "train/okapi").mkdir()
    open_data(f"{tmp_path}@train")
    assert "1 of 3 classes have no image and cannot be learned: okapi" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a{b}", "q?m", "data[1]", "x*y"])
def test_paths_that_exist_are_no_patterns(tmp_path: Path, name: str) -> None:
    folder_of_images(tmp_path / name, {"ant": 1, "bee": 1})
    assert len(open_data(str(tmp_path / name))) == 2


# ---- pixels


@pytest.mark.parametrize(
    ("values", "kind"), [(np.linspace(0, 1, 64), "float32"), (np.linspace(0, 65535, 64), "uint16")]
)
def test_grey_of_many_bits_is_scaled(tmp_path: Path, values: np.ndarray, kind: str) -> None:
    Image.fromarray(values.astype(kind)[None].repeat(8, 0)).save(tmp_path / "x.tif")
    found = decode((tmp_path / "x.tif").read_bytes())[0, :, 0].astype(float)
    assert np.abs(found - np.linspace(0, 255, 64)).max() <= 1


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (np.linspace(0, 254, 64, dtype=np.float32), "floats from 0 to 254; expected 0 to 1"),
        (np.linspace(-1, 1, 64, dtype=np.float32), "floats from -1 to 1"),
        (np.full(64, np.nan, np.float32), "floats from nan to nan"),
        (np.linspace(0, 100_000, 64).astype(np.int32), "whole numbers from 0 to 100000; expected 16 bits"),
    ],
)
def test_numbers_that_could_mean_anything_are_refused(tmp_path: Path, values: np.ndarray, sentence: str) -> None:
    Image.fromarray(values[None].repeat(8, 0)).save(tmp_path / "x.tif")
    with pytest.raises(BrokenImage, match=sentence):
        decode((tmp_path / "x.tif").read_bytes())


# ---- the layouts of the Hugging Face hub


def test_the_converted_branch(tmp_path: Path) -> None:
    for split, count in (("train", 4), ("test", 2)):
        write_parquet(tmp_path / f"default/{split}/0000.parquet", SIX[:count], [0, 1] * (count // 2), ["a", "b"])
    for place in (tmp_path, tmp_path / "default"):
        assert splits_of(str(place)) == ("train", "test")
        assert [len(open_data(f"{place}@{split}")) for split in ("train", "test")] == [4, 2]


@pytest.mark.parametrize("inside", ["", "train/"])
def test_configurations_are_to_be_named(tmp_path: Path, inside: str) -> None:
    for config in ("coarse", "fine"):
        write_parquet(tmp_path / config / f"{inside}train-00000-of-00001.parquet", SIX[:2], [0, 1], ["a", "b"])
    with pytest.raises(BadInput, match=r"configurations coarse, fine; name one, as in .*/coarse"):
        open_data(str(tmp_path))
    assert len(open_data(f"{tmp_path}/fine@train")) == 2


def test_one_set_of_numbered_files(tmp_path: Path) -> None:
    for n in range(2):
        write_parquet(tmp_path / f"000{n}.parquet", SIX[:2], [0, 1], ["a", "b"])
    assert len(open_data(str(tmp_path))) == 4


def test_the_block_of_a_data_card_says_which_files_are_which_split(tmp_path: Path) -> None:
    for n, name in enumerate(("one", "two", "three")):
        write_parquet(tmp_path / f"{name}.parquet", SIX[: n + 2], [0, 1, 0, 1][: n + 2], ["a", "b"])
    card = (
        "---\nlicense: mit\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path:\n    - one.*\n"
    )
    (tmp_path / "README.md").write_text(card + "    - two.parquet\n  - split: test\n    path: thr*\n---\n# Card\n")
    assert splits_of(str(tmp_path)) == ("train", "test")
    assert [len(open_data(f"{tmp_path}@{split}")) for split in ("train", "test")] == [5, 4]
    (tmp_path / "README.md").write_text(card + "  - split: test\n    path: four.parquet\n---\n")
    with pytest.raises(BadInput, match="names four.parquet for default/test, and there is no such file"):
        open_data(str(tmp_path))


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_metadata_beside_images(tmp_path: Path, name: str) -> None:
    for split, labels in (("train", ["bee", "ant"]), ("test", ["ant", "ant", "ant"])):
        rows = []
        for i, label in enumerate(labels):
            jpeg(tmp_path / split / f"{i}.jpg")
            rows.append({"file_name": f"{i}.jpg", "label": label})
        lines = [json.dumps(row) for row in rows]
        if name.endswith("csv"):
            lines = ["file_name,label", *(f"{row['file_name']},{row['label']}" for row in rows)]
        (tmp_path / split / name).write_text("\n".join(lines) + "\n")
    assert counts(open_data(str(tmp_path))) == {"ant": 1, "bee": 1}
    assert counts(open_data(str(tmp_path), "test")) == {"ant": 3, "bee": 0}
    assert counts(open_data(f"{tmp_path}/train")) == {"ant": 1, "bee": 1}


# ---- tables as on Kaggle


@pytest.fixture
def table(tmp_path: Path) -> Path:
    for name in ("train_images/a1.jpg", "train_images/a2.jpg", "test_images/a1.jpg"):
        jpeg(tmp_path / name)
    return tmp_path / "train.csv"


@pytest.mark.parametrize(
    "text",
    [
        "image_id,label\na1,rust\na2,scab\n",
        "Id;Species\na1;rust\na2;scab\n",
        "when,photo_code,breed\n1,a1,rust\n2,a2,scab\n",
        "path,label\ntrain_images\\a1.jpg,rust\ntrain_images\\a2.jpg,scab\n",
        "image,rust,scab\na1,1,0\na2,0.0,1.0\n",
        "image,label\na1.jpg,rust\na2.jpg,scab\n",
    ],
)
def test_tables_of_many_kinds(table: Path, text: str) -> None:
    table.write_text(text)
    source = open_data(str(table))
    assert counts(source) == {"rust": 1, "scab": 1}
    assert [source[i].key for i in range(2)] == [f"{table.parent}/train_images/a{i}.jpg" for i in (1, 2)]


def test_columns_may_be_told(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table.write_text("one,two,three\na1,x,rust\na2,y,scab\n")
    with pytest.raises(BadInput, match="has the columns one, two, three; expected one named .*--columns label=NAME"):
        open_data(str(table))
    monkeypatch.setenv("VITRAIL_COLUMNS", '{"image": "one", "label": "three"}')
    assert counts(open_data(str(table))) == {"rust": 1, "scab": 1}
    monkeypatch.setenv("VITRAIL_COLUMNS", '{"image": "four"}')
    with pytest.raises(BadInput, match="has no column 'four'; it has one, two, three"):
        open_data(str(table))


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("image,label\na1,3 17\na2,5\n", ("3", "5", "17")),
        ("image,rust,scab\na1,1,0\na2,0,1\na1,0,1\na2,0,1\na1,0,1\na2,1,1\n", ("rust", "scab")),
    ],
)
def test_several_labels_are_read_where_they_are_welcome(table: Path, text: str, classes: tuple[str, ...]) -> None:
    table.write_text(text)
    source = open_data(str(table), multi_label=True)
    assert source.classes == classes
    assert source.labels.sum() == len(source) + 1, "one image has two"
    with pytest.raises(BadInput, match="several classes each, and here an image has one"):
        open_data(str(table))


def test_numbers_and_names_of_several_classes_are_not_mixed(table: Path) -> None:
    table.write_text("image,label\na1,rust\na2,3 17\n")
    with pytest.raises(BadInput, match="row 2 has the label '3 17', which names several classes by number"):
        open_data(str(table))


def test_a_name_that_may_be_two_images_is_refused(table: Path) -> None:
    other = table.with_name("labels.csv")
    other.write_text("image,label\na1,rust\na2,scab\n")
    with pytest.raises(BadInput, match=r"row 1, 'a1', may be .*a1\.jpg or .*a1\.jpg: write the folder into the table"):
        open_data(str(other))


def test_other_encodings(table: Path, capsys: Stderr) -> None:
    table.write_bytes("image,label\na1,ro\xfcille\na2,scab\n".encode("cp1252"))
    assert open_data(str(table)).classes == ("ro\xfcille", "scab")
    assert "are read as Windows-1252" in capsys.readouterr().err
    table.write_bytes("image,label\na1,ro\xfcille\na2,scab\n".encode("utf-16"))
    assert open_data(str(table)).classes == ("ro\xfcille", "scab")


def test_a_folder_with_a_table_says_how_to_name_it(table: Path) -> None:
    table.write_text("image_id,label\na1,rust\na2,scab\n")
    with pytest.raises(
        BadInput, match=r"has no sub-folders; .* a table of labels is DATA by its own name, as in .*train\.csv"
    ):
        open_data(str(table.parent))


def test_a_compressed_tar_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(BadInput, match="is compressed, which allows no random access; unpack it to a .tar once"):
        open_data(f"{tmp_path}/x.tar.gz")


def test_a_parquet_of_paths_is_a_table_and_one_of_images_a_set(tmp_path: Path) -> None:
    jpeg(tmp_path / "a.jpg")
    parquet.write_table(pa.table({"image": ["a.jpg"], "label": ["ant"]}), tmp_path / "list.parquet")
    assert open_data(f"{tmp_path}/list.parquet").classes == ("ant",)


# ---- what lies at another level, or is called otherwise


@pytest.mark.parametrize("inside", ["animals", "animals/animals", "."])
def test_folders_around_the_classes_are_looked_into(tmp_path: Path, inside: str) -> None:
    folder_of_images(tmp_path / "d" / inside, {"ant": 2, "bee": 1})
    assert counts(open_data(str(tmp_path / "d"))) == {"ant": 2, "bee": 1}


def test_splits_within_folders_of_their_own_names(tmp_path: Path) -> None:
    """As they come out of Kaggle's archives."""
    folder_of_images(tmp_path / "seg_train" / "seg_train", {"ant": 2, "bee": 1})
    folder_of_images(tmp_path / "seg_test" / "seg_test", {"bee": 3})
    folder_of_images(tmp_path, {"seg_pred": 2})
    assert splits_of(str(tmp_path)) == ("train", "test")
    assert counts(open_data(f"{tmp_path}@train")) == {"ant": 2, "bee": 1}
    assert counts(open_data(str(tmp_path), "test")) == {"ant": 0, "bee": 3}


def test_splits_within_classes_are_refused_and_other_levels_said(tmp_path: Path, capsys: Stderr) -> None:
    for top in ("ant", "bee"):
        folder_of_images(tmp_path / "a" / top, {"train": 1, "test": 1})
        folder_of_images(tmp_path / "b" / top, {"day": 1, "night": 1})
    with pytest.raises(BadInput, match="called like splits: make it test/ant"):
        open_data(str(tmp_path / "a"))
    assert counts(open_data(str(tmp_path / "b"))) == {"ant": 2, "bee": 2}
    assert "if it is the other way round, name" in capsys.readouterr().err


def test_a_tar_of_several_splits_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("train/ant/0.png", "train/bee/0.png", "val/ant/0.png"):
            add_member(tar, name, SIX[0])
    with pytest.raises(BadInput, match="holds the splits train, val in one"):
        open_data(str(tmp_path / "a.tar"))


def test_images_beside_the_folders_of_classes_are_said(tmp_path: Path, capsys: Stderr) -> None:
    folder_of_images(tmp_path, {"ant": 2, "bee": 1})
    jpeg(tmp_path / "stray.jpg")
    assert counts(open_data(str(tmp_path))) == {"ant": 2, "bee": 1}
    assert "1 lie beside the folders of the classes ('stray.jpg')" in capsys.readouterr().err


def test_a_link_from_class_to_class_is_refused(tmp_path: Path) -> None:
    """Its images would have two labels."""
    folder_of_images(tmp_path, {"ant": 2, "bee": 1})
    (tmp_path / "cat").symlink_to(tmp_path / "ant")
    with pytest.raises(BadInput, match="of the class cat not one file is an image"):
        open_data(str(tmp_path))


def test_case_of_names_in_train_and_test(tmp_path: Path, capsys: Stderr) -> None:
    folder_of_images(tmp_path / "train", {"Ant": 2, "bee": 1})
    folder_of_images(tmp_path / "test", {"ant": 1, "bee": 1})
    assert counts(open_data(str(tmp_path), "test")) == {"Ant": 1, "bee": 1}
    assert "the class 'ant' is taken for 'Ant' of train" in capsys.readouterr().err


def test_archives_get_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "train.zip").write_bytes(b"PK")
    with pytest.raises(BadInput, match=r"unpack train\.zip first"):
        open_data(str(tmp_path / "d"))
    with pytest.raises(BadInput, match="is an archive, which allows no random access"):
        open_data(str(tmp_path / "d" / "train.zip"))


# ---- further tables


@pytest.mark.parametrize(
    "text",
    [
        "path|label\n{0}0.jpg|ant\n{0}1.jpg|bee\n",
        "{0}0.jpg,ant\n{0}1.jpg,bee\n",
        "path,label\r{0}0.jpg,ant\r{0}1.jpg,bee\r",
        "path,label\n/kaggle/input/x/{0}0.jpg,ant\n/kaggle/input/x/{0}1.jpg,bee\n",
    ],
    ids=["bars", "no header", "an old Mac's", "paths of another machine"],
)
def test_further_tables(tmp_path: Path, text: str) -> None:
    for i in range(2):
        jpeg(tmp_path / "images" / f"{i}.jpg")
    (tmp_path / "t.csv").write_bytes(text.format("images/").encode())
    source = open_data(str(tmp_path / "t.csv"))
    assert counts(source) == {"ant": 1, "bee": 1}
    assert all(source[i].image for i in range(2))


@pytest.mark.parametrize(
    ("column", "values", "splits"),
    [
        ("subset", ("train", "train", "test"), ("train", "test")),
        ("is_train", ("1", "1", "0"), ("train", "test")),
        ("is_test", ("False", "True", "False"), ("train", "test")),
        ("split", ("TRAIN", "train", "TEST"), ("TRAIN", "TEST")),
    ],
)
def test_a_column_of_splits_by_what_is_in_it(
    tmp_path: Path, column: str, values: tuple[str, ...], splits: tuple[str, ...]
) -> None:
    rows = [f"{i}.jpg,{'ant' if i % 2 else 'bee'},{value}" for i, value in enumerate(values)]
    (tmp_path / "t.csv").write_text("\n".join([f"path,label,{column}", *rows]))
    assert splits_of(str(tmp_path / "t.csv")) == splits


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [(("ant,train", "bee,"), "1 without a split"), (("-1,train", "0,train"), "the label -1")],
)
def test_rows_of_no_split_and_no_class_are_refused(tmp_path: Path, labels: tuple[str, ...], sentence: str) -> None:
    rows = [f"{i}.jpg,{label}" for i, label in enumerate(labels)]
    (tmp_path / "t.csv").write_text("\n".join(["path,label,split", *rows]))
    with pytest.raises(BadInput, match=sentence):
        open_data(str(tmp_path / "t.csv"))


def test_floats_that_are_whole_are_numbers_and_names_nearly_one_are_said(tmp_path: Path, capsys: Stderr) -> None:
    for name, labels, classes in [
        ("floats", ["10.0", "2.0", "0.0"], ("0", "2", "10")),
        ("case", ["Cat", "cat", "dog"], ("Cat", "cat", "dog")),
        ("zeros", ["01", "1", "2"], ("01", "1", "2")),
    ]:
        rows = [f"{i}.jpg,{label}" for i, label in enumerate(labels)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["path,label", *rows]))
        assert open_data(str(tmp_path / f"{name}.csv")).classes == classes
    said = capsys.readouterr().err
    assert "kept apart: 'Cat' and 'cat'" in said
    assert "kept apart: '01' and '1'" in said
