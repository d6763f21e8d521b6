"""SOURCE[@SPLIT[SLICE]]: every form, and what is said when it does not work."""

from pathlib import Path

import numpy as np
import pytest

from tests.data.pictures import encoded, folder_of_images, noise, write_arrow, write_parquet, write_tar
from vitrail.core.errors import BadInput
from vitrail.data.open.names import open_data, require_classes
from vitrail.data.sources.detect import expand


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with a training and a validation split."""
    folder_of_images(tmp_path / "photos" / "train", {"cat": 10, "dog": 10})
    folder_of_images(tmp_path / "photos" / "val", {"cat": 2, "dog": 1})
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("digits", 1352),
        ("digits@train", 1352),
        ("digits@test", 445),
        ("digits@train[:90%]", 1217),
        ("digits@train[90%:]", 135),
        ("digits@train[1000:1200]", 200),
        ("digits@train[-50:]", 50),
        ("digits@train[:]", 1352),
        ("digits@[:10%]", 135),
        ("scattered-digits@unseen-test", 132),
    ],
)
def test_every_form_of_a_name(text: str, count: int) -> None:
    assert len(open_data(text)) == count


def test_a_role_chooses_the_split_where_none_is_named(photos: Path) -> None:
    assert len(open_data("digits", "test")) == 445
    assert len(open_data(str(photos), "train")) == 20
    assert len(open_data(str(photos), "test")) == 3  # val serves, there is no test
    assert len(open_data(f"{photos}@[:50%]", "train")) == 10
    folder_of_images(photos / "test", {"cat": 1, "dog": 1})
    assert len(open_data(str(photos), "test")) == 2


def test_a_named_split_wins_over_the_role(photos: Path) -> None:
    assert len(open_data(f"{photos}@train", "test")) == 20
    assert len(open_data(f"{photos}@val[:2]", "train")) == 2


def test_the_two_parts_of_a_folder_share_nothing(photos: Path) -> None:
    parts = [open_data(f"{photos}@train[{cut}]") for cut in (":80%", "80%:")]
    keys = [{part[i].key for i in range(len(part))} for part in parts]
    assert len(keys[0]) == 16
    assert len(keys[0] | keys[1]) == 20
    assert set(parts[0].labels.tolist()) == {0, 1}


def test_a_folder_without_splits_is_one_source(tmp_path: Path) -> None:
    folder_of_images(tmp_path, {"cat": 2, "dog": 3})
    assert len(open_data(str(tmp_path))) == len(open_data(str(tmp_path), "test")) == 5
    with pytest.raises(BadInput, match="has no splits .* leave out @train"):
        open_data(f"{tmp_path}@train")


def test_parquet_by_folder_pattern_and_file(tmp_path: Path) -> None:
    images = [encoded(noise(4, 4, i)) for i in range(4)]
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        write_parquet(tmp_path / "data" / f"{name}.parquet", images, [0, 1, 0, 1], ["a", "b"])
    assert len(open_data(str(tmp_path))) == 8
    assert len(open_data(str(tmp_path), "test")) == 4
    assert len(open_data(f"{tmp_path}/data/train-*.parquet")) == 8
    assert len(open_data(f"{tmp_path}/data/train-*.parquet@[:2]")) == 2
    assert len(open_data(f"{tmp_path}/data/test-00000-of-00001.parquet")) == 4
    with pytest.raises(BadInput, match=r"unknown split .*'tets'; did you mean 'test'"):
        open_data(f"{tmp_path}@tets")
    with pytest.raises(BadInput, match=r"has no splits \(a pattern has none\)"):
        open_data(f"{tmp_path}/data/*.parquet@train")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("digitz", "neither a folder nor a named data set; did you mean 'digits'"),
        ("digits@trian", "did you mean 'train'"),
        ("scattered-digits@unseen", "did you mean 'unseen-t"),
        ("no/such/folder", "no such data: 'no/such/folder'"),
        ("nothing-*.parquet", "no file matches"),
        ("digits@train[90%]", r"expected SOURCE@SPLIT\[START:STOP\]"),
        ("digits@train[a:b]", "cannot read"),
        ("digits@train[:90%", "cannot read"),
        ("digits@train[%:]", "cannot read"),
        ("digits@train[-:]", "cannot read"),
        ("digits@train[50:50]", "is empty"),
        ("digits[:90%]", "no such data"),
        ("", "no such data"),
    ],
)
def test_what_cannot_be_opened_gets_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        open_data(text)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is empty; expected one folder of images for each class"):
        open_data(str(tmp_path))


def test_a_single_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(encoded(noise(3, 3)))
    with pytest.raises(BadInput, match="is a file; expected a folder of images"):
        open_data(str(tmp_path / "cat.png"))


def test_a_missing_role_says_how_to_name_a_split(tmp_path: Path) -> None:
    folder_of_images(tmp_path / "train", {"a": 1, "b": 1})
    with pytest.raises(BadInput, match=r"has no split for test; it has train: name one, as in .*@train"):
        open_data(str(tmp_path), "test")


def test_one_class_is_not_enough(tmp_path: Path) -> None:
    source = open_data(str(folder_of_images(tmp_path, {"only": 3})))
    with pytest.raises(BadInput, match=r"has one class \('only'\); a classifier needs at least two"):
        require_classes(source, "photos")
    require_classes(open_data("digits"), "digits")


def test_a_test_class_that_train_lacks_is_refused(photos: Path) -> None:
    folder_of_images(photos / "test", {"cat": 1, "dogs": 1})
    with pytest.raises(BadInput, match="has the class 'dogs', which train lacks; did you mean 'dog'"):
        open_data(f"{photos}@test")


def test_the_training_split_says_which_classes_there_are(photos: Path) -> None:
    folder_of_images(photos / "test", {"dog": 2})
    source = open_data(f"{photos}@test")
    assert source.classes == ("cat", "dog")
    assert source.labels.tolist() == [1, 1]


def test_a_named_set_without_its_root_says_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VITRAIL_DATA", raising=False)
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VITRAIL_OFFLINE", "1")
    with pytest.raises(BadInput, match="cifar10 is not on this machine: set VITRAIL_DATA"):
        open_data("cifar10")
    write_parquet(tmp_path / "cifar10" / "train-0.parquet", [encoded(noise(4, 4, i)) for i in range(3)], [0, 1, 1])
    monkeypatch.setenv("VITRAIL_DATA", str(tmp_path))
    assert np.array_equal(open_data("cifar10").labels, [0, 1, 1])
    with pytest.raises(BadInput, match="unknown split"):
        open_data("cifar10@test")


def test_braces_stand_for_numbers() -> None:
    assert expand("s-{08..11}.tar") == ["s-08.tar", "s-09.tar", "s-10.tar", "s-11.tar"]
    assert expand("s-{8..11}.tar") == ["s-8.tar", "s-9.tar", "s-10.tar", "s-11.tar"]
    assert expand("{0..1}/{00..01}.tar") == ["0/00.tar", "0/01.tar", "1/00.tar", "1/01.tar"]
    for wrong in ("s-{3..1}.tar", "s-{a..b}.tar", "s-{0..99999999}.tar"):
        with pytest.raises(BadInput, match="expected two numbers"):
            expand(wrong)


def test_tar_shards_by_pattern_braces_folder_and_split(tmp_path: Path) -> None:
    images = [encoded(noise(4, 4, i)) for i in range(4)]
    for name in ("train-000000", "train-000001", "test-000000"):
        write_tar(tmp_path / "split" / f"{name}.tar", images, ["a", "b", "a", "b"])
        write_tar(tmp_path / "whole" / f"shards-{name[-6:]}{name[1]}.tar", images, ["a", "b", "a", "b"])
    assert len(open_data(f"{tmp_path}/split")) == 8
    assert len(open_data(f"{tmp_path}/split", "test")) == 4
    assert len(open_data(f"{tmp_path}/split/*.tar")) == 12
    assert len(open_data(f"{tmp_path}/split/train-{{000000..000001}}.tar@[:3]")) == 3
    assert len(open_data(f"{tmp_path}/whole")) == 12
    with pytest.raises(BadInput, match="train-000002.tar does not exist"):
        open_data(f"{tmp_path}/split/train-{{000000..000002}}.tar")
    with pytest.raises(BadInput, match="has no splits"):
        open_data(f"{tmp_path}/whole@train")


def test_a_pattern_of_several_kinds_is_refused(tmp_path: Path) -> None:
    images = [encoded(noise(4, 4, i)) for i in range(2)]
    write_tar(tmp_path / "x.tar", images, ["a", "b"])
    write_arrow(tmp_path / "x.arrow", images, [0, 1], ["a", "b"])
    with pytest.raises(BadInput, match=r"matches several kinds of files, such as .*x\.arrow and .*x\.tar; name one"):
        open_data(f"{tmp_path}/x.*")
    with pytest.raises(BadInput, match="holds both .arrow and .tar files"):
        open_data(str(tmp_path))
    (tmp_path / "x.csv").write_text("path,label\n")
    with pytest.raises(BadInput, match=r"matches .*x\.csv; a pattern must match .parquet, .arrow, .tar files only"):
        open_data(f"{tmp_path}/x.*")


def test_the_sign_may_be_part_of_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "me@home" / "photos"
    folder_of_images(folder, {"cat": 2, "dog": 3})
    assert len(open_data(str(folder))) == 5
    assert len(open_data(f"{folder}@[:2]")) == 2
    assert len(open_data(str(folder_of_images(tmp_path / "cats@home", {"cat": 2, "dog": 3})))) == 5
    assert len(open_data(f"{tmp_path}/cats@home@[:2]")) == 2


def test_validation_goes_by_several_names(photos: Path) -> None:
    assert len(open_data(f"{photos}@validation")) == len(open_data(f"{photos}@valid")) == 3
