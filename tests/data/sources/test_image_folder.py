"""Listings of folders: remembered when large, made again when anything below has changed."""

import os
import pickle
import time
from pathlib import Path

import pytest

from tests.data.pictures import encoded, folder_of_images, noise
from vitrail.core.errors import BadInput
from vitrail.data.sources import image_folder
from vitrail.data.sources.image_folder import FolderSource, list_folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, and no folder too small to be remembered."""
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(image_folder, "REMEMBERED", 0)
    return tmp_path / "cache"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes, whose folders have not changed for an hour."""
    root = folder_of_images(tmp_path / "photos", {"cat": 3, "dog/deep": 2, "dog": 1})
    settle(root)
    return root


def settle(root: Path) -> None:
    then = time.time() - 3600
    for path in (root, *(p for p in root.rglob("*") if p.is_dir())):
        os.utime(path, (then, then))


def walks(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that are listed from disk from now on."""
    seen = []
    walk = image_folder._walk

    def noting(root: Path, *rest: object) -> image_folder.Listing:
        seen.append(root)
        return walk(root, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(image_folder, "_walk", noting)
    return seen


def test_a_listing_is_made_once(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = walks(monkeypatch)
    first, second = FolderSource(photos), FolderSource(photos)
    assert seen == [photos]
    assert [second[i] for i in range(6)] == [first[i] for i in range(6)]
    assert second.classes == first.classes == ("cat", "dog")
    assert second.labels.tolist() == [0, 0, 0, 1, 1, 1]
    again = pickle.loads(pickle.dumps(second))
    assert again[5] == first[5]


@pytest.mark.parametrize("change", ["new file", "new class", "gone", "deep file"])
def test_any_change_below_is_seen(photos: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    before = len(FolderSource(photos))
    data = encoded(noise(3, 3))
    match change:
        case "new file":
            (photos / "cat/new.png").write_bytes(data)
        case "deep file":
            (photos / "dog/deep/new.png").write_bytes(data)
        case "new class":
            (photos / "eel").mkdir()
            (photos / "eel/new.png").write_bytes(data)
        case _:
            (photos / "cat/0.png").unlink()
    assert len(FolderSource(photos)) == before + (-1 if change == "gone" else 1)


def test_a_folder_that_has_just_changed_is_not_remembered(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.utime(photos / "cat")
    seen = walks(monkeypatch)
    FolderSource(photos)
    FolderSource(photos)
    assert len(seen) == 2


def test_a_damaged_memory_is_made_again(photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = list_folder(photos)
    (memory,) = (cache / "folders").iterdir()
    data = memory.read_bytes()
    seen = walks(monkeypatch)
    for damaged in (b"", b"hello", data[: len(data) // 2], data[:-60] + b"\xff" * 40 + data[-20:]):
        memory.unlink()
        memory.write_bytes(damaged)
        found = list_folder(photos)
        assert found.names.to_pylist() == expected.names.to_pylist()
    assert len(seen) == 4


def test_a_cache_that_cannot_be_written_does_no_harm(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRAIL_CACHE", "/dev/null/cache")
    assert len(FolderSource(photos)) == 6


def test_small_folders_leave_nothing(photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_folder, "REMEMBERED", 7)
    FolderSource(photos)
    assert not cache.exists()


def test_the_order_is_that_of_parts_of_names(tmp_path: Path) -> None:
    root = folder_of_images(tmp_path / "x", {"a": 1, "a/b": 1, "a/b c": 1, "a/b-c": 1})
    names = [name.decode() for name in list_folder(root).names.to_pylist()]
    assert names == [str(p.relative_to(root)) for p in sorted(root.rglob("*.png"))]


def test_links_pipes_and_folders_called_like_images(tmp_path: Path) -> None:
    root = folder_of_images(tmp_path / "x", {"a": 1, "b": 1})
    (root / "a/loop").symlink_to(root)
    (root / "a/link.png").symlink_to(root / "b/0.png")
    (root / "a/folder.png").mkdir()
    os.mkfifo(root / "a/pipe.png")
    names = [name.decode() for name in list_folder(root).names.to_pylist()]
    assert names == ["a/0.png", "a/link.png", "b/0.png"]


def test_a_class_that_is_not_among_those_given_is_refused(photos: Path) -> None:
    with pytest.raises(BadInput, match="has the class 'dog', which train lacks"):
        FolderSource(photos, ("cat", "eel"))
    assert FolderSource(photos, ("ant", "cat", "dog")).labels.tolist() == [1, 1, 1, 2, 2, 2]
