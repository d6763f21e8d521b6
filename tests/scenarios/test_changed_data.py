"""A stopped run and data that changed meanwhile: refused by name, or accepted by an option."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.data.pictures import folder_of_images
from vitrail.core.device import Machine
from vitrail.core.errors import BadInput
from vitrail.data.transforms.pipeline import Augment, WholeImage
from vitrail.jobs.pretrain import Pretrain, pretrain
from vitrail.models.vit import ViTConfig
from vitrail.train.schedule import Cosine

MODEL = ViTConfig(patch=8, width=16, depth=1, heads=2, mlp=32, resolution=(16, 16))


def config(data: Path) -> Pretrain:
    return Pretrain(
        train=str(data),
        steps=4,
        batch=4,
        model=MODEL,
        augment=Augment(crop=WholeImage()),
        schedule=Cosine(warmup=1),
        save_every=2,
        precision="float32",
    )


@pytest.fixture
def stopped(tmp_path: Path) -> tuple[Path, Path]:
    """A folder of three classes, and a run over it that has a checkpoint and no result."""
    data, run = tmp_path / "photos", tmp_path / "run"
    folder_of_images(data, {"ant": 4, "bee": 4, "cat": 4})
    pretrain(config(data), run, Machine("cpu", 0))
    (run / "result.json").unlink()
    shutil.rmtree(run / "bundle")
    return data, run


def goes_on(data: Path, run: Path, accept: bool = False) -> dict:
    return pretrain(config(data), run, replace(Machine("cpu", 0), accept_changed_data=accept))


def test_the_same_data_go_on_also_where_files_are_new_copies(stopped: tuple[Path, Path]) -> None:
    data, run = stopped
    moved = data.with_name("moved")
    shutil.copytree(data, moved)
    shutil.rmtree(data)
    moved.rename(data)
    assert goes_on(data, run).restarts == 1


@pytest.mark.parametrize("added", [True, False])
def test_images_that_were_added_or_removed_are_counted(
    added: bool, stopped: tuple[Path, Path], capsys: pytest.CaptureFixture
) -> None:
    data, run = stopped
    first = sorted((data / "ant").iterdir())[0]
    if added:
        shutil.copy(first, first.with_name(f"new-{first.name}"))
    else:
        first.unlink()
    after = 5 if added else 3
    with pytest.raises(
        BadInput, match=rf"the train data changed since .*12 images, now {8 + after} \(ant 4 → {after}\)"
    ):
        goes_on(data, run)
    assert goes_on(data, run, accept=True).restarts == 1
    assert "going on with what is there" in capsys.readouterr().err
    assert json.loads((run / "data.json").read_text())["parts"]["train"]["count"] == 8 + after


def test_an_image_that_was_renamed_is_noticed(stopped: tuple[Path, Path]) -> None:
    data, run = stopped
    first = sorted((data / "ant").iterdir())[0]
    first.rename(first.with_name(f"z-{first.name}"))
    with pytest.raises(BadInput, match="as many of each class, with other names or in another order"):
        goes_on(data, run)


@pytest.mark.parametrize("accept", [True, False])
def test_other_classes_are_always_refused(accept: bool, stopped: tuple[Path, Path]) -> None:
    data, run = stopped
    (data / "ant").rename(data / "zebra")
    with pytest.raises(BadInput, match=r"the classes of the train data changed since .* \(gone: ant; new: zebra\)"):
        goes_on(data, run, accept)
    shutil.copytree(data / "zebra", data / "ant")
    with pytest.raises(BadInput, match=r"\(new: zebra\): bring the data back"):
        goes_on(data, run, accept)


def test_an_old_run_without_the_note_goes_on(stopped: tuple[Path, Path]) -> None:
    data, run = stopped
    (run / "data.json").unlink()
    assert goes_on(data, run).restarts == 1
    assert (run / "data.json").exists()
