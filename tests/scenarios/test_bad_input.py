"""Bad input: each gets its sentence and exit code 2, from the command line, without a traceback."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.fake_store import FakeStore
from vitrail.cli import main
from vitrail.core.errors import BadInput
from vitrail.train.config import TrainConfig, check_training
from vitrail.train.optim import Momentum

TINY = (
    "--steps 3 --schedule.warmup 0 --batch 4 --log-every 1 --workers 0 "
    "--model.resolution 16 16 --model.patch 4 --validation None"
).split()


def image_folder(root: Path, classes: int = 2, each: int = 6, side: int = 20) -> Path:
    """Pictures of noise, one brightness a class."""
    rng = np.random.default_rng(0)
    for label in range(classes):
        folder = root / f"class-{label}"
        folder.mkdir(parents=True)
        for i in range(each):
            pixels = rng.integers(0, 60, (side, side, 3)) + 150 * label / max(1, classes - 1)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.jpg")
    return root


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return int(stopped.value.code or 0), captured.out, captured.err


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    code, _, err = run(capsys, *arguments)
    assert code == 2, err
    assert "Traceback" not in err
    assert err.strip(), "no sentence"
    return err


def pretrain(data: object, out: Path, *more: object) -> tuple[object, ...]:
    return ("pretrain", "digits", "--train", data, "--out", out, *TINY, *more)


def test_a_missing_folder(capsys, tmp_path: Path) -> None:
    assert "no such data: 'nowhere/at/all'" in refused(capsys, *pretrain("nowhere/at/all", tmp_path / "run"))


def test_a_store_that_does_not_answer_has_a_code_of_its_own(
    capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What schedules runs tries 75 again, and not 2, which an address of no store has."""
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path))
    with FakeStore(monkeypatch).away():
        code, _, err = run(capsys, *pretrain("digits", "memory://bucket/a"))
    assert code == 75
    assert err == "vitrail: memory://bucket/a/mirror.json: ConnectionError: no route to the store\n"
    said = refused(capsys, *pretrain("digits", "nothing://bucket/a"))
    assert said.startswith("vitrail: nothing://bucket/a cannot be opened: Protocol not known")


def test_a_track_that_there_is_not_is_said_before_a_folder_is_asked_for(capsys) -> None:
    assert "unknown track 'nope'" in refused(capsys, "speedrun", "nope")
    assert "give a folder to write: --out" in refused(capsys, "speedrun", "cifar10")


def test_a_misspelt_data_set(capsys, tmp_path: Path) -> None:
    assert "did you mean 'scattered-digits'" in refused(capsys, *pretrain("scatered-digits", tmp_path / "run"))


def test_an_empty_folder(capsys, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert "is empty" in refused(capsys, *pretrain(tmp_path / "data", tmp_path / "run"))


def test_a_folder_of_empty_classes(capsys, tmp_path: Path) -> None:
    (tmp_path / "data" / "cats").mkdir(parents=True)
    assert "holds no images" in refused(capsys, *pretrain(tmp_path / "data", tmp_path / "run"))


def test_a_folder_with_one_class(capsys, tmp_path: Path) -> None:
    data = image_folder(tmp_path / "data", classes=1)
    assert "one class ('class-0')" in refused(capsys, *pretrain(data, tmp_path / "run"))


def test_a_truncated_jpeg_among_good_ones_is_counted_and_named(capsys, tmp_path: Path) -> None:
    data = image_folder(tmp_path / "data", each=10)
    broken = data / "class-0" / "3.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    code, out, err = run(capsys, *pretrain(data, tmp_path / "run", "--json", "--steps", 8))
    assert code == 0, err
    assert [row["key"] for row in json.loads(out)["broken"]] == [str(broken)]
    assert str(broken) in (tmp_path / "run" / "report.html").read_text()


def test_all_images_broken(capsys, tmp_path: Path) -> None:
    data = image_folder(tmp_path / "data")
    for file in data.rglob("*.jpg"):
        file.write_bytes(b"no picture")
    err = refused(capsys, *pretrain(data, tmp_path / "run"))
    assert "images are broken" in err
    assert "class-0/0.jpg" in err


def test_all_images_broken_with_workers(capsys, tmp_path: Path) -> None:
    data = image_folder(tmp_path / "data")
    for file in data.rglob("*.jpg"):
        file.write_bytes(b"no picture")
    assert "images are broken" in refused(capsys, *pretrain(data, tmp_path / "run", "--workers", 1))


def test_a_resolution_smaller_than_a_patch(capsys, tmp_path: Path) -> None:
    data = image_folder(tmp_path / "data")
    err = refused(capsys, *pretrain(data, tmp_path / "run", "--model.resolution", 3, 3))
    assert "a resolution of 3 x 3 pixels is smaller than one patch of 4 x 4" in err


def test_a_resolution_that_is_no_multiple_drops_the_border_and_says_so(capsys, tmp_path: Path) -> None:
    data = image_folder(tmp_path / "data")
    code, _, err = run(capsys, *pretrain(data, tmp_path / "run", "--model.resolution", 18, 17))
    assert code == 0
    assert "the last 2 rows and 1 columns of pixels are dropped, the grid is 4 x 4" in err


def test_an_unknown_recipe(capsys) -> None:
    assert "unknown recipe 'cifar'; did you mean 'cifar10'?" in refused(capsys, "pretrain", "cifar", "--out", "x")


def test_an_unknown_option(capsys) -> None:
    err = refused(capsys, "pretrain", "digits", "--out", "x", "--optimiser.lr", "3")
    assert "--optimizer.lr" in err


def test_an_unknown_command(capsys) -> None:
    assert "did you mean 'pretrain'?" in refused(capsys, "pretain")


def test_a_run_folder_of_another_config(capsys, tmp_path: Path) -> None:
    data = image_folder(tmp_path / "data")
    assert run(capsys, *pretrain(data, tmp_path / "run"))[0] == 0
    err = refused(capsys, *pretrain(data, tmp_path / "run", "--seed", 5))
    assert "another config (seed: 0 → 5)" in err


def test_a_folder_with_other_files_is_not_written_into(capsys, tmp_path: Path) -> None:
    data = image_folder(tmp_path / "data")
    assert "holds other files and no run" in refused(capsys, *pretrain(data, data))


def test_a_bundle_without_its_weights(capsys, tmp_path: Path, bundle_copy: Path) -> None:
    (bundle_copy / "model.safetensors").unlink()
    err = refused(capsys, "evaluate", "--model", bundle_copy, "--data", "digits@test")
    assert "model.safetensors is missing" in err


def test_a_bundle_with_altered_weights(capsys, bundle_copy: Path) -> None:
    weights = bundle_copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    err = refused(capsys, "evaluate", "--model", bundle_copy, "--data", "digits@test")
    assert "is not the file this bundle was written with" in err


def test_data_with_a_class_that_the_model_does_not_know(capsys, tmp_path: Path, bundle_copy: Path) -> None:
    data = image_folder(tmp_path / "data")
    err = refused(capsys, "evaluate", "--model", bundle_copy, "--data", data)
    assert "has the class 'class-0', which" in err


def test_a_model_that_is_not_there(capsys, tmp_path: Path) -> None:
    data = image_folder(tmp_path / "data")
    assert "no such model: 'nowhere'" in refused(capsys, "predict", "--model", "nowhere", data)


def test_an_image_that_is_not_there(capsys, bundle_copy: Path) -> None:
    assert "no such image: 'nowhere.jpg'" in refused(capsys, "predict", "--model", bundle_copy, "nowhere.jpg")


def test_too_few_images_for_the_shots(capsys, tmp_path: Path, bundle_copy: Path) -> None:
    data = image_folder(tmp_path / "data", each=3)
    err = refused(capsys, "linear", "--model", bundle_copy, "--train", data, "--test", data, "--shots", 5)
    assert "5 shots asked for, but class 'class-0' has 3 images" in err


@pytest.fixture
def bundle_copy(digits_run: Path, tmp_path: Path) -> Path:
    """A bundle that a test may spoil."""
    import shutil

    return Path(shutil.copytree(digits_run / "bundle", tmp_path / "bundle"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"clip": -1.0}, "clip is -1.0, expected above 0"),
        ({"micro_batch": 0}, "micro_batch is 0, expected at least 1"),
        ({"optimizer": Momentum(lr=-0.1)}, "the learning rate is -0.1, expected 0 or more"),
    ],
)
def test_numbers_that_would_train_backwards_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        check_training(TrainConfig("digits", **changes))
