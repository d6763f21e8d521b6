"""Object stores, played by fsspec's `memory://`: layouts, the local cache and its bound."""

from pathlib import Path

import fsspec
import pytest

from tests.data.pictures import encoded, noise, write_arrow, write_parquet, write_tar
from vitrail.core import object_store
from vitrail.core.errors import BadInput, Unreachable
from vitrail.core.object_store import is_remote, local
from vitrail.data.decode.image import BrokenImage
from vitrail.data.open.names import open_data

PICTURES = [encoded(noise(4, 4, seed)) for seed in range(6)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(object_store._Since, "fetched", None)
    return tmp_path / "cache"


@pytest.fixture
def store() -> "fsspec.AbstractFileSystem":
    system = fsspec.filesystem("memory")
    system.rm("/", recursive=True) if system.exists("/") else None
    return system


def copies(cache: Path) -> list[Path]:
    return sorted(p for p in (cache / "objects").glob("*/*") if p.suffix != ".version")


def test_addresses() -> None:
    assert all(is_remote(name) for name in ("s3://bucket/x", "memory://x", "gs://a"))
    assert not any(is_remote(name) for name in ("hf://owner/name", "a/b", "/a:/b", "x@y", "s3:/x"))


def test_images_by_class_and_split(store: "fsspec.AbstractFileSystem", cache: Path) -> None:
    for i, name in enumerate(("train/cat/0.png", "train/dog/1.png", "test/dog/2.png", "train/.x/3.png", "README.md")):
        store.pipe(f"/photos/{name}", PICTURES[i])
    train = open_data("memory://photos")
    assert train.classes == ("cat", "dog")
    assert not copies(cache)  # nothing is fetched before it is asked for
    assert train[1] == (PICTURES[1], 1, "memory://photos/train/dog/1.png")
    assert len(copies(cache)) == 1
    test = open_data("memory://photos/", "test")
    assert test.classes == ("cat", "dog")
    assert test.labels.tolist() == [1]
    store.pipe("/photos/test/cats/4.png", PICTURES[4])
    with pytest.raises(BadInput, match="has the class 'cats', which train lacks; did you mean 'cat'"):
        open_data("memory://photos@test")


def test_shards_and_manifests(store: "fsspec.AbstractFileSystem", tmp_path: Path) -> None:
    made = {
        "p/train-0.parquet": tmp_path / "p.parquet",
        "h/data/train-0.parquet": tmp_path / "p.parquet",
        "a/train/shard-00000-of-00001.arrow": write_arrow(tmp_path / "a.arrow", PICTURES[:3], [0, 1, 0], ["x", "y"]),
        "t/shard-000000.tar": write_tar(tmp_path / "t.tar", PICTURES[:3], ["x", "y", "x"]),
    }
    write_parquet(tmp_path / "p.parquet", PICTURES[:3], [0, 1, 0], ["x", "y"])
    for name, path in made.items():
        store.pipe(f"/{name}", path.read_bytes())
    store.pipe("/c/list.csv", b"path,label\nin/0.png,x\nmemory://c/in/1.png,y\nin/2.png,x\n")
    for i in range(3):
        store.pipe(f"/c/in/{i}.png", PICTURES[i])
    for name in ("memory://p", "memory://h@train", "memory://a@train", "memory://t", "memory://c/list.csv", "memory://t/*.tar",
                 "memory://t/shard-{000000..000000}.tar", "memory://p/train-0.parquet"):  # fmt: skip
        source = open_data(name)
        assert [source[i].image for i in range(3)] == PICTURES[:3], name
        assert source.labels.tolist() == [0, 1, 0]
        assert source.classes == ("x", "y")


def test_what_is_not_there_gets_a_sentence(store: "fsspec.AbstractFileSystem") -> None:
    with pytest.raises(BadInput, match="memory://none holds no files|cannot be read: FileNotFoundError"):
        open_data("memory://none")
    with pytest.raises(BadInput, match="no file matches"):
        open_data("memory://none/*.tar")
    with pytest.raises(BadInput, match="nothing://x cannot be opened: Protocol not known"):
        open_data("nothing://x")
    store.pipe("/c/list.csv", b"path,label\nnone.png,x\n")
    with pytest.raises(BrokenImage, match="none.png does not exist"):
        open_data("memory://c/list.csv")[0]


@pytest.mark.parametrize("name", ["memory://c", "memory://c/list.csv", "memory://c/*.tar", "memory://c/a.tar"])
def test_a_store_that_does_not_answer_may_be_tried_again(
    store: "fsspec.AbstractFileSystem", name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders, lists, patterns and single shards."""
    store.pipe("/c/list.csv", b"path,label\n0.png,x\n")
    store.pipe("/c/a.tar", b"")

    def away(*_: object, **__: object) -> None:
        raise TimeoutError("no answer")

    for question in ("find", "glob", "isfile", "ls", "info", "cat_file", "get_file", "size"):
        monkeypatch.setattr(type(store), question, away)
    with pytest.raises(Unreachable, match=r"memory://c.*: TimeoutError: no answer"):
        open_data(name)


@pytest.mark.parametrize("name", ["c/list.csv", "c/*.tar", "c/a.tar", "c/p-0.parquet", "d@train"])
def test_nor_is_it_where_a_file_that_was_found_cannot_be_fetched(
    store: "fsspec.AbstractFileSystem", name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store.pipe("/c/list.csv", b"path,label\n0.png,x\n")
    store.pipe("/c/a.tar", b"")
    store.pipe("/c/p-0.parquet", b"")
    arrow = write_arrow(tmp_path / "a.arrow", PICTURES[:3], [0, 1, 0], ["x", "y"])
    store.pipe("/d/train/shard-00000-of-00001.arrow", arrow.read_bytes())

    def away(*_: object, **__: object) -> None:
        raise TimeoutError("no answer")

    for question in ("info", "cat_file", "get_file", "size"):
        monkeypatch.setattr(type(store), question, away)
    with pytest.raises(Unreachable, match=r"memory:///?[cd].*: TimeoutError: no answer"):
        open_data(f"memory://{name}")


def test_a_manifest_that_changes_in_the_store_is_read_anew(store: "fsspec.AbstractFileSystem") -> None:
    store.pipe("/c/list.csv", b"path,label\n0.png,x\n")
    assert len(open_data("memory://c/list.csv")) == 1
    store.pipe("/c/list.csv", b"path,label\n0.png,x\n1.png,y\n")
    assert len(open_data("memory://c/list.csv")) == 2


def test_the_cache_stays_below_its_limit_and_keeps_what_was_used_last(
    store: "fsspec.AbstractFileSystem", cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 1 << 20
    monkeypatch.setenv("VITRAIL_CACHE_GIB", str(limit / 2**30))
    for i in range(64):
        store.pipe(f"/big/{i}.png", bytes([i]) * 60_000)
    fetch, fetched = object_store._fetch, []
    monkeypatch.setattr(object_store, "_fetch", lambda name, copy: (fetched.append(name), fetch(name, copy)))
    for i in range(64):
        assert local(f"memory://big/{i}.png").read_bytes()[:1] == bytes([i])
        local("memory://big/0.png")
        assert sum(p.stat().st_size for p in copies(cache)) <= limit
    assert sorted(fetched) == sorted(f"memory://big/{i}.png" for i in range(64))  # each once: 0 was always in use
    left = {p.read_bytes()[0] for p in copies(cache)}
    assert {0, 63, 62} <= left
    assert 1 not in left
    with pytest.raises(OSError, match="does not fit into the cache"):
        store.pipe("/big/huge.png", bytes(limit))
        local("memory://big/huge.png")
    monkeypatch.setenv("VITRAIL_CACHE_GIB", "much")
    with pytest.raises(BadInput, match="VITRAIL_CACHE_GIB is 'much', expected a number"):
        local("memory://big/1.png")


def test_a_copy_that_was_removed_is_fetched_again(store: "fsspec.AbstractFileSystem", cache: Path) -> None:
    store.pipe("/x/a/0.png", PICTURES[0])
    store.pipe("/x/b/1.png", PICTURES[1])
    source = open_data("memory://x")
    assert source[0].image == PICTURES[0]
    for copy in copies(cache):
        copy.unlink()
    assert source[0].image == PICTURES[0]
