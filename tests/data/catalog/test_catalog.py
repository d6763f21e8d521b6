"""The named data sets that are too large for the repository; VITRAIL_DATA says where they lie."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from tests.data.pictures import encoded, folder_of_images, noise, write_arrow
from vitrail.core.errors import BadInput
from vitrail.data.catalog import catalog
from vitrail.data.catalog.catalog import NAMED, VTAB, data_root
from vitrail.data.decode.image import to_pixels
from vitrail.data.open.names import open_data

FACTS = {
    "cifar10": {"splits": {"train": 50_000, "test": 10_000}, "classes": 10, "side": 32},
    "cifar100": {"splits": {"train": 50_000, "test": 10_000}, "classes": 100, "side": 32},
    "tiny-imagenet": {"splits": {"train": 100_000, "validation": 10_000}, "classes": 200, "side": 64},
    "pets": {"splits": {"train": 3_680, "test": 3_669}, "classes": 37},
    "flowers": {"splits": {"train": 1_020, "validation": 1_020, "test": 6_149}, "classes": 102},
    "imagenet": {"splits": {"train": 1_281_167, "validation": 50_000}, "classes": 1_000},
    "caltech101": {"splits": {"train": 3_060, "test": 6_084}, "classes": 102},
    "dtd": {"splits": {"train": 1_880, "validation": 1_880, "test": 1_880}, "classes": 47},
    "svhn": {"splits": {"train": 73_257, "test": 26_032}, "classes": 10, "side": 32},
    "sun397": {"splits": {"train": 76_128, "validation": 10_875, "test": 21_750}, "classes": 397},
    "eurosat": {"splits": {"train": 27_000}, "classes": 10, "side": 64},
    "resisc45": {"splits": {"train": 31_500}, "classes": 45, "side": 256},
}


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """VITRAIL_DATA is an empty folder, and there is no network."""
    monkeypatch.setenv("VITRAIL_OFFLINE", "1")
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VITRAIL_DATA", str(tmp_path))
    return tmp_path


def test_every_set_without_its_files_says_where_to_put_them(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FACTS:
        with pytest.raises(BadInput, match=f"{name} is not on this machine: {empty / name} does not exist"):
            open_data(name)
    monkeypatch.delenv("VITRAIL_DATA")
    for name in FACTS:
        with pytest.raises(BadInput, match=r"set VITRAIL_DATA \(or --data-root\)"):
            open_data(name)
    with pytest.raises(BadInput, match="its authors give it only by hand"):
        open_data("imagenet")


DIGITS = {"digits", "scattered-digits", "strewn-digits", "placed-digits"}  # with scikit-learn, without files


def test_every_set_with_files_has_its_facts() -> None:
    assert FACTS.keys() == NAMED.keys() - {*DIGITS, "imagenet-real", *VTAB}
    for name, facts in FACTS.items():
        assert tuple(facts["splits"]) == NAMED[name].splits
        assert f"{facts['classes']:,} " in NAMED[name].about
        assert f"{sum(facts['splits'].values()):,} " in NAMED[name].about


@pytest.mark.parametrize("name", FACTS)
def test_counts_classes_and_sizes(name: str) -> None:
    root = data_root()
    if root is None or not (root / name).is_dir():
        pytest.skip(f"VITRAIL_DATA has no {name}")
    facts = FACTS[name]
    for split, count in facts["splits"].items():
        source = open_data(f"{name}@{split}")
        assert len(source) == count
        assert len(source.classes) == len(set(source.classes)) == facts["classes"]
        assert len(np.unique(source.labels)) == facts["classes"]
        for index in (0, count // 2, count - 1) if "side" in facts else ():
            assert to_pixels(source[index].image).shape == (facts["side"], facts["side"], 3)


def test_any_layout_serves_a_name(empty: Path) -> None:
    folder_of_images(empty / "pets/train", {"cat": 2, "dog": 3})
    folder_of_images(empty / "pets/test", {"cat": 1, "dog": 1})
    assert len(open_data("pets")) == 5
    assert len(open_data("pets@test")) == 2
    write_arrow(empty / "cifar10/train/shard-00000-of-00001.arrow", [encoded(noise(4, 4))] * 2, [0, 1], ["a", "b"])
    assert len(open_data("cifar10@train")) == 2
    folder_of_images(empty / "imagenet/val", {"n01": 2, "n02": 1})
    assert len(open_data("imagenet", "test")) == len(open_data("imagenet@validation")) == 3


def cifar(folder: Path, labels: int, files: dict[str, int], names: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    made = {}
    for name, count in files.items():
        rows = rng.integers(0, 256, (count, labels + 3072), dtype=np.uint8)
        rows[:, :labels] %= 3
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        rows.tofile(folder / name)
        made[name] = rows
    (folder / names).write_text("ant\nbee\ncat\n\n")
    return made


def test_cifar_as_published(empty: Path) -> None:
    batches = {f"cifar-10-batches-bin/data_batch_{i}.bin": 2 for i in range(1, 6)}
    made = cifar(
        empty / "cifar10",
        1,
        {**batches, "cifar-10-batches-bin/test_batch.bin": 3},
        "cifar-10-batches-bin/batches.meta.txt",
    )
    train, test = open_data("cifar10"), open_data("cifar10@test")
    assert (len(train), len(test)) == (10, 3)
    assert train.classes == ("ant", "bee", "cat")
    row = made["cifar-10-batches-bin/data_batch_2.bin"][1]
    pixels = np.asarray(train[3].image)
    assert train[3].label == row[0]
    assert pixels[5, 7].tolist() == [row[1 + c * 1024 + 5 * 32 + 7] for c in range(3)]
    made = cifar(
        empty / "cifar100", 2, {"cifar-100-binary/train.bin": 4, "cifar-100-binary/test.bin": 2},
        "cifar-100-binary/fine_label_names.txt",
    )  # fmt: skip
    assert open_data("cifar100").labels.tolist() == made["cifar-100-binary/train.bin"][:, 1].tolist()
    (empty / "cifar100/cifar-100-binary/test.bin").write_bytes(b"short")
    with pytest.raises(BadInput, match="has 5 bytes, which is no number of records"):
        open_data("cifar100@test")


def test_tiny_imagenet_as_published(empty: Path) -> None:
    root = empty / "tiny-imagenet/tiny-imagenet-200"
    for i, name in enumerate(("n02", "n01")):
        (root / f"train/{name}/images").mkdir(parents=True)
        (root / f"train/{name}/images/{name}_0.JPEG").write_bytes(encoded(noise(4, 4, i), "JPEG"))
    (root / "val/images").mkdir(parents=True)
    (root / "val/images/val_0.JPEG").write_bytes(b"x")
    (root / "val/val_annotations.txt").write_text("val_0.JPEG\tn02\t0\t0\t62\t62\n")
    (root / "wnids.txt").write_text("n02\nn01\n")
    train, validation = open_data("tiny-imagenet"), open_data("tiny-imagenet", "test")
    assert train.classes == validation.classes == ("n01", "n02")
    assert train.labels.tolist() == [0, 1]
    assert validation.labels.tolist() == [1]
    assert validation[0].image == b"x"


def test_pets_as_published(empty: Path) -> None:
    (empty / "pets/images").mkdir(parents=True)
    (empty / "pets/annotations").mkdir()
    (empty / "pets/images/great_dane_7.jpg").write_bytes(b"dane")
    (empty / "pets/annotations/trainval.txt").write_text("great_dane_7 2 2 1\nAbyssinian_1 1 1 1\n")
    (empty / "pets/annotations/test.txt").write_text("Abyssinian_2 1 1 1\n")
    train = open_data("pets")
    assert train.classes == ("Abyssinian", "great_dane")
    assert train[0] == (b"dane", 1, f"{empty}/pets/images/great_dane_7.jpg")
    assert open_data("pets", "test").labels.tolist() == [0]


def test_flowers_textures_and_house_numbers_as_published(empty: Path) -> None:
    (empty / "flowers/jpg").mkdir(parents=True)
    (empty / "flowers/jpg/image_00003.jpg").write_bytes(b"flower")
    savemat(empty / "flowers/imagelabels.mat", {"labels": np.array([[77, 1, 102, 5]], dtype=np.uint8)})
    savemat(
        empty / "flowers/setid.mat",
        {
            "trnid": np.array([[3, 1]], np.uint16),
            "valid": np.array([[2]], np.uint16),
            "tstid": np.array([[4]], np.uint16),
        },
    )
    flowers = open_data("flowers")
    assert flowers.labels.tolist() == [101, 76]
    assert flowers[0].image == b"flower"
    assert len(flowers.classes) == 102
    folder_of_images(empty / "dtd/dtd/images", {"banded": 2, "woven": 1})
    (empty / "dtd/dtd/labels").mkdir()
    (empty / "dtd/dtd/labels/train1.txt").write_text("woven/0.png\nbanded/1.png\n")
    assert open_data("dtd").labels.tolist() == [1, 0]
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (32, 32, 3, 2), dtype=np.uint8)
    (empty / "svhn").mkdir()
    savemat(empty / "svhn/train_32x32.mat", {"X": X, "y": np.array([[10], [3]], np.uint8)})
    houses = open_data("svhn")
    assert houses.labels.tolist() == [0, 3]
    assert np.array_equal(np.asarray(houses[1].image), X[..., 1])
    with pytest.raises(BadInput, match="svhn lacks test_32x32.mat"):
        open_data("svhn@test")


def test_a_download_is_read_as_it_lies(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way: VITRAIL_DATA has no such set, the archive comes (from a file here), and is read."""
    published = Path(empty / "at-home")
    cifar(
        published, 2, {"cifar-100-binary/train.bin": 4, "cifar-100-binary/test.bin": 2},
        "cifar-100-binary/fine_label_names.txt",
    )  # fmt: skip
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(published / "cifar-100-binary", "cifar-100-binary")
    (empty / "cifar.tar.gz").write_bytes(buffer.getvalue())
    from hashlib import md5

    from vitrail.data.catalog.downloads import Archive

    archive = Archive((empty / "cifar.tar.gz").as_uri(), md5(buffer.getvalue()).hexdigest())
    here = catalog.Downloadable((archive,), catalog.CIFAR100.read, catalog.CIFAR100.marks)
    monkeypatch.setenv("VITRAIL_OFFLINE", "0")
    assert len(catalog._open("cifar100", here, "", "train")) == 4
    assert (empty / "cifar100/cifar-100-binary/train.bin").exists()
    missing = catalog.Downloadable(
        (Archive("file:///nowhere/x.zip", "0" * 32),), catalog.CIFAR10.read, catalog.CIFAR10.marks
    )
    with pytest.raises(
        BadInput, match=r"cifar10 is not on this machine: .*; file:///nowhere/x.zip could not be downloaded"
    ):
        catalog._open("cifar10", missing, "", "train")
