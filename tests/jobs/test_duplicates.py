"""Training data lose the images that are also in the test sets, and nothing else."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.data.pictures import encoded
from tests.data.scenes import scene
from vitrail.cli import main
from vitrail.core.errors import BadInput
from vitrail.data.open.names import open_data
from vitrail.jobs.duplicates import Duplicates, duplicates, summary
from vitrail.records.duplicates import CopiedSet, DuplicatesResult
from vitrail.records.record import load_record


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve training and eight test images, of which two are copies: one mirrored, one encoded again."""
    for split, start, each in (("train", 0, 6), ("test", 100, 3)):
        for c, name in enumerate(("cat", "dog")):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for i in range(each):
                (folder / f"{i}.png").write_bytes(encoded(scene(start + 50 * c + i)))
    test = tmp_path / "photos" / "test"
    (test / "cat" / "mirrored.png").write_bytes(encoded(np.ascontiguousarray(scene(2)[:, ::-1])))
    (test / "cat" / "again.jpg").write_bytes(encoded(scene(53), "JPEG", quality=40))
    return tmp_path / "photos"


def test_copies_of_test_images_leave_the_training_set(photos: Path, tmp_path: Path) -> None:
    config = Duplicates(f"{photos}@train", (f"{photos}@test",))
    result = duplicates(config, tmp_path / "out", workers=1)
    told = {(Path(p.first.key).name, Path(p.second.key).name, p.mirrored) for p in result.pairs}
    assert told == {("2.png", "mirrored.png", True), ("3.png", "again.jpg", False)}
    (row,) = result.sets
    assert row == CopiedSet(data=f"{photos}@test", count=8, copies=2, share=0.25, conflicts=1)  # the dog under cat
    assert (result.dropped, result.kept) == (2, 10)
    kept = open_data(str(tmp_path / "out" / "kept.json"))
    assert len(kept) == 10
    again = duplicates(Duplicates(str(tmp_path / "out" / "kept.json"), (f"{photos}@test",)), workers=1)
    assert (again.found, again.dropped) == (0, 0)
    rows = list(csv.DictReader((tmp_path / "out" / "duplicates.csv").read_text().splitlines()))
    assert {Path(row["copy_key"]).name for row in rows} == {"mirrored.png", "again.jpg"}
    assert "2 of 8 images" in summary(result)


def test_within_one_set_the_first_of_each_copy_stays(tmp_path: Path) -> None:
    for i, pixels in enumerate([scene(0), scene(1), scene(0), (scene(1) * 0.85).astype(np.uint8), scene(2)]):
        (tmp_path / "p" / "a").mkdir(parents=True, exist_ok=True)
        (tmp_path / "p" / "a" / f"{i}.png").write_bytes(encoded(pixels))
    result = duplicates(Duplicates(str(tmp_path / "p")), tmp_path / "out", workers=1)
    assert {(p.first.index, p.second.index, p.kind) for p in result.pairs} == {
        (0, 2, "exact"),
        (1, 3, "near"),
    }
    kept = open_data(str(tmp_path / "out" / "kept.json"))
    assert [Path(kept[i].key).name for i in range(len(kept))] == ["0.png", "1.png", "4.png"]


def test_a_broken_image_is_named_and_hides_no_copy(photos: Path) -> None:
    (photos / "train" / "cat" / "0.png").write_bytes(b"broken")
    result = duplicates(Duplicates(f"{photos}@train", (f"{photos}@test",)), workers=1)
    assert [Path(b.key).name for b in result.unreadable] == ["0.png"]
    assert result.found == 2


def test_the_features_of_a_model_find_copies_too(digits_run: Path, tmp_path: Path) -> None:
    source = open_data("digits@test")
    for split, chosen in (("train", range(20)), ("test", range(3, 6))):
        for i in chosen:
            folder = tmp_path / "d" / split / str(source[i].label)
            folder.mkdir(parents=True, exist_ok=True)
            pixels = source[i].image
            assert isinstance(pixels, np.ndarray)
            shown = (pixels * 0.95).astype(np.uint8) if split == "test" else pixels
            (folder / f"{i}.png").write_bytes(encoded(shown))
    for name in {source[i].label for i in range(3, 6)}:
        (tmp_path / "d" / "train" / str(name)).mkdir(exist_ok=True)
    config = Duplicates(f"{tmp_path / 'd'}@train", (f"{tmp_path / 'd'}@test",), str(digits_run), 0.95)
    result = duplicates(config, workers=1)
    same = {Path(p.first.key).name for p in result.pairs if _same(p)}
    assert same == {"3.png", "4.png", "5.png"}
    assert {p.kind for p in result.pairs} == {"features"}  # 8 pixels are too few for the hash
    assert duplicates(replace(config, model=None), workers=1).found == 0


def _same(pair: dict) -> bool:
    return Path(pair.first.key).name == Path(pair.second.key).name


def test_the_command_makes_a_page_with_pictures(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as exit_:
        main(["data", "duplicates", f"{photos}@train", "--against", f"{photos}@test", "--out", str(out), "--json"])
    assert exit_.value.code == 1
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads((out / "duplicates.json").read_text())
    page = (out / "report.html").read_text()
    assert page.count("data:image/png") == 4
    assert "mirrored" in page


def test_two_test_sets_are_both_looked_at(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "more" / "a").mkdir(parents=True)
    (tmp_path / "more" / "a" / "x.jpg").write_bytes(encoded(scene(1), "JPEG"))
    with pytest.raises(SystemExit) as exit_:
        arguments = ["--against", f"{photos}@test", "--against", str(tmp_path / "more"), "--json"]
        main(["data", "duplicates", f"{photos}@train", *arguments, "--out", str(tmp_path / "out")])
    assert exit_.value.code == 1
    result = load_record(DuplicatesResult, tmp_path / "out" / "duplicates.json")
    assert [one.copies for one in result.sets] == [2, 1]
    assert [one.conflicts for one in result.sets] == [1, None]  # other classes: no label to compare


def test_bad_input_is_a_sentence(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cosine"):
        duplicates(Duplicates(str(photos), features=0.0))
    (tmp_path / "b" / "a").mkdir(parents=True)
    (tmp_path / "b" / "a" / "1.png").write_bytes(b"broken")
    with pytest.raises(BadInput, match="not one image"):
        duplicates(Duplicates(str(tmp_path / "b")), workers=1)
