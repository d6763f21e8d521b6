"""Tar shards: the index against `tarfile`, labels, and members that are an attack."""

import io
import json
import os
import tarfile
import time
from pathlib import Path

import pytest

from tests.data.pictures import add_member, encoded, noise, write_tar
from vitrail.core.errors import BadInput
from vitrail.data.decode.image import BrokenImage
from vitrail.data.sources.skipped import Skipped
from vitrail.data.sources.tar_index import index
from vitrail.data.sources.tar_members import members
from vitrail.data.sources.webdataset import TarSource

PICTURES = [encoded(noise(4, 4, seed)) for seed in range(7)]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_those_of_tarfile(tmp_path: Path, kind: int) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=kind) as tar:
        for name, size in (("a/b.png", 0), ("c" * 90 + ".png", 511), ("deep/" * 24 + "n" * 60, 512), ("x.cls", 513)):
            add_member(tar, name, os.urandom(size))
        if kind != tarfile.USTAR_FORMAT:
            add_member(tar, "long/" * 60 + "é" * 100 + ".png", b"123")
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        add_member(tar, "last.png", b"z" * 2000)
    refused = Skipped()
    with tarfile.open(path) as tar:
        theirs = [(m.name, m.offset_data, m.size) for m in tar if m.isfile()]
    assert [tuple(m) for m in members(path, refused)] == theirs
    assert len(refused) == 0


def test_labels_are_names_or_numbers(tmp_path: Path) -> None:
    source = TarSource([str(write_tar(tmp_path / "x.tar", PICTURES[:4], ["dog", "cat", "dog", "eel"]))])
    assert source.classes == ("cat", "dog", "eel")
    assert source.labels.tolist() == [1, 0, 1, 2]
    numbers = TarSource([str(write_tar(tmp_path / "y.tar", PICTURES[:3], ["10", "9", "2"]))])
    assert numbers.classes == ("2", "9", "10")
    assert numbers.labels.tolist() == [2, 1, 0]
    (tmp_path / "classes.json").write_text(json.dumps([f"k{i}" for i in range(11)]))
    named = TarSource([str(tmp_path / "y.tar")])
    assert named.labels.tolist() == [10, 9, 2]
    assert named.classes[10] == "k10"
    (tmp_path / "classes.json").write_text('["a", "b"]')
    with pytest.raises(BadInput, match="holds the label 10, but there are 2 classes"):
        TarSource([str(tmp_path / "y.tar")])


def test_numbers_are_places_even_where_classes_are_called_like_them(tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_text('["1", "0"]')
    source = TarSource([str(write_tar(tmp_path / "x.tar", PICTURES[:2], ["0", "1"]))])
    assert source.labels.tolist() == [0, 1]


def test_labels_in_json(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for i, about in enumerate(({"label": 3}, {"cls": "7"}, {"class": 5, "caption": "no"})):
            add_member(tar, f"s/{i}.jpg", PICTURES[i])
            add_member(tar, f"s/{i}.json", json.dumps(about).encode())
    source = TarSource([str(tmp_path / "x.tar")])
    assert source.classes == ("3", "5", "7")
    assert source.labels.tolist() == [0, 2, 1]
    assert source[1].image == PICTURES[1]
    assert source[1].key == f"{tmp_path}/x.tar:s/1.jpg"


@pytest.mark.parametrize(
    ("suffix", "labels"),
    [
        ("index", ["3", "5", "3"]),
        ("txt", ["tabby cat", "ant", "tabby cat"]),
        (
            "json",
            [
                '{"annotation": {"label": "cat"}}',
                '{"image": {"id": 7}, "m": {"class": 1}}',
                '{"label": ["cat"]}',
            ],
        ),
        ("json", ['{"label": {"id": 3, "name": "cat"}}', '{"label": {"name": "ant"}}', '{"label": {"name": "cat"}}']),
    ],
)
def test_labels_in_other_members(tmp_path: Path, suffix: str, labels: list[str]) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for i, label in enumerate(labels):
            add_member(tar, f"{i}.jpg", PICTURES[i])
            add_member(tar, f"{i}.{suffix}", label.encode())
    source = TarSource([str(tmp_path / "x.tar")])
    assert len(source.classes) == 2
    assert source.labels[0] == source.labels[2] != source.labels[1]


def test_captions_are_no_labels(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for i in range(3):
            add_member(tar, f"{i}.jpg", PICTURES[i])
            add_member(tar, f"{i}.txt", b"a photograph of " + bytes(str(i), "ascii") * 60)
    with pytest.raises(BadInput, match="holds no image with a label: 3 a caption, not a label"):
        TarSource([str(tmp_path / "x.tar")])


def test_names_with_dots_are_taken_whole(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for i in range(4):
            add_member(tar, f"n0144.{i}.jpg", PICTURES[i])
            add_member(tar, f"n0144.{i}.cls", str(i % 2).encode())
    source = TarSource([str(tmp_path / "x.tar")])
    assert source.labels.tolist() == [0, 1, 0, 1]
    assert source.skipped is not None
    assert len(source.skipped) == 0


def test_folders_are_the_labels_where_there_are_no_others(tmp_path: Path) -> None:
    for n, names in enumerate((["./ant/0.jpg", "./ant/1.jpg"], ["./ant/2.jpg", "./bee/a.b.jpg", "./bee/a.c.jpg"])):
        with tarfile.open(tmp_path / f"{n}.tar", "w") as tar:
            for i, name in enumerate(names):
                add_member(tar, name, PICTURES[i])
    source = TarSource([str(tmp_path / f"{n}.tar") for n in range(2)])
    assert source.classes == ("ant", "bee")
    assert source.labels.tolist() == [0, 0, 0, 1, 1]


def hostile(path: Path, outside: Path) -> Path:
    with tarfile.open(path, "w") as tar:
        for name in ("../escape.png", f"{outside}/absolute.png", "a/../../up.png", "C:evil.png", "ok.png"):
            add_member(tar, name, PICTURES[0])
            add_member(tar, name.replace(".png", ".cls"), b"1")
        for name, kind, target in (
            ("soft.png", tarfile.SYMTYPE, "/etc/passwd"),
            ("hard.png", tarfile.LNKTYPE, "ok.png"),
            ("pipe.png", tarfile.FIFOTYPE, ""),
            ("device.png", tarfile.CHRTYPE, ""),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            tar.addfile(info)
        add_member(tar, "unlabelled.png", PICTURES[1])
        add_member(tar, "notes.txt", b"hello")
        add_member(tar, "._ok.png", b"shadow")
        add_member(tar, "odd.cls", b"\xff\xfe")
    return path


def test_hostile_members_are_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = tmp_path / "data"
    folder.mkdir()
    source = TarSource([str(hostile(folder / "x.tar", outside))])
    assert len(source) == 1
    assert source[0].image == PICTURES[0]
    said = str(source.skipped)
    kinds = ("'../escape.png'", "absolute name", "leaves the folder", "a link", "a pipe", "a device", "without a label")
    for words in (*kinds, "neither an image nor a label", "hidden", "no text"):
        assert words in said, words
    assert len(source.skipped) == 16
    assert "16 members are not used" in " ".join(capsys.readouterr().err.split())
    assert not any(outside.iterdir())
    assert sorted(p.name for p in folder.iterdir()) == ["x.tar", "x.tar.index"]
    assert str(TarSource([str(folder / "x.tar")]).skipped) == said  # from the index, too


def test_the_index_is_made_once_and_again_when_the_tar_changes(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", PICTURES[:3], ["a", "b", "a"])
    index(path)
    made = (tmp_path / "x.tar.index").stat()
    time.sleep(0.01)
    assert index(path).keys.to_pylist() == ["000000.png", "000001.png", "000002.png"]
    assert (tmp_path / "x.tar.index").stat().st_mtime_ns == made.st_mtime_ns
    write_tar(path, PICTURES[:5], ["a", "b", "a", "b", "c"])
    os.utime(path, (1, 1))
    source = TarSource([str(path)])
    assert [source[i].image for i in range(5)] == PICTURES[:5]
    write_tar(path, PICTURES[:5][::-1], ["c", "b", "a", "b", "a"])  # as long as before
    os.utime(path, (2, 2))
    source = TarSource([str(path)])
    assert source.labels.tolist() == [2, 1, 0, 1, 0]
    assert [source[i].image for i in range(5)] == PICTURES[:5][::-1]
    (tmp_path / "x.tar.index").write_bytes(b"ARROW1 or so it says")
    assert len(index(path).keys) == 5
    (tmp_path / "x.tar.index").write_bytes((tmp_path / "x.tar.index").read_bytes()[:-100])
    assert len(index(path).keys) == 5


def test_a_folder_that_cannot_be_written_has_its_index_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vitrail.data.sources import tar_index

    path = write_tar(tmp_path / "x.tar", PICTURES[:3], ["a", "b", "a"])
    write = tar_index._write

    def refusing(place: Path, *rest: object) -> None:
        if place.parent == tmp_path:
            raise PermissionError(13, "read-only")
        write(place, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(tar_index, "_write", refusing)
    assert len(index(path).keys) == 3
    assert not (tmp_path / "x.tar.index").exists()
    monkeypatch.setattr(tar_index, "samples", None)  # would fail if it were read again
    assert index(path).labels.to_pylist() == ["a", "b", "a"]


def test_what_is_no_tar_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    for data, sentence in (
        (b"", "not a tar file"),
        (b"hello " * 1000, "not a tar file"),
        (b"\x1f\x8b" + bytes(600), "is compressed, which allows no random access"),
        (bytes(1024), "not a tar file"),
    ):
        path.write_bytes(data)
        with pytest.raises(BadInput, match=sentence):
            TarSource([str(path)])
    with pytest.raises(BadInput, match="No such file"):
        TarSource([str(tmp_path / "none.tar")])


def test_a_tar_that_is_cut_off_or_damaged_says_where(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", PICTURES[:3], ["a", "b", "a"])
    data = path.read_bytes()
    path.write_bytes(data[:600])
    with pytest.raises(BadInput, match="cut off or damaged: the member at byte 0"):
        TarSource([str(path)])
    path.write_bytes(data[:1024] + b"x" * 512 + data[1536:])
    with pytest.raises(BadInput, match="is damaged at byte 1024"):
        TarSource([str(path)])


def test_a_tar_that_shrinks_later_breaks_its_images_only(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", PICTURES[:3], ["a", "b", "a"])
    source = TarSource([str(path)])
    os.truncate(path, 600)
    with pytest.raises(BrokenImage, match="cut off after"):
        source[2]
    path.unlink()
    gone = TarSource.__new__(TarSource)
    gone.__dict__.update(source.__getstate__())
    with pytest.raises(BrokenImage, match="No such file"):
        gone[0]


def test_an_enormous_name_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("a.png")
        info.pax_headers = {"comment": "x" * 200_000}
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    with pytest.raises(BadInput, match=r"the name of the member at byte 512 has 200,\d+ bytes"):
        TarSource([str(path)])


def test_many_mutated_tars_neither_crash_nor_write(tmp_path: Path) -> None:
    import random

    folder = tmp_path / "data"
    whole = write_tar(folder / "x.tar", PICTURES, list("abcabca")).read_bytes()
    rng = random.Random(0)
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 30)):
            start = rng.randrange(0, len(data), 512)
            data[start + rng.randrange(512)] = rng.randrange(256)
        (folder / "x.tar").write_bytes(data[: rng.randrange(len(data)) if rng.random() < 0.3 else len(data)])
        (folder / "x.tar.index").unlink(missing_ok=True)
        try:
            source = TarSource([str(folder / "x.tar")])
            for i in range(len(source)):
                source[i]
        except BadInput:
            pass
        assert {p.name for p in folder.iterdir()} <= {"x.tar", "x.tar.index"}


def test_the_doctor_names_what_is_not_used(tmp_path: Path) -> None:
    from vitrail.jobs.data_check import Check, check

    (tmp_path / "outside").mkdir()
    result = check(Check(str(hostile(tmp_path / "x.tar", tmp_path / "outside")), quick=True))
    (finding,) = [finding for finding in result.findings if finding.kind == "not used"]
    said = [item.said for item in finding.items]
    assert "2 not a file but a link ('soft.png', 'hard.png')" in said
    assert any(line.startswith("4 with a name that leaves the folder ('../escape.png'") for line in said)
    assert not any((tmp_path / "outside").iterdir())
