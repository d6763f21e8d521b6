"""Training and test data that do not fit each other: a sentence for each, before anything is trained."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch

from tests.jobs.finetune.test_sweep import HERE, config, model_bundle
from tests.scenarios.test_bad_input import image_folder, refused
from tests.weights.test_names_and_numbers import TIMM, random_state
from vitrail.core.errors import BadInput
from vitrail.core.files import read_json
from vitrail.data.leakage import check_labels, check_train_test, overlap
from vitrail.data.open.names import open_data
from vitrail.data.sources.base import ArraySource
from vitrail.jobs.finetune.finetune import finetune


@pytest.fixture
def data(tmp_path: Path) -> Path:
    image_folder(tmp_path / "data" / "train", classes=3, each=8)
    other = image_folder(tmp_path / "other", classes=3, each=14)
    for label in range(3):
        (tmp_path / "data" / "test" / f"class-{label}").mkdir(parents=True)
        for i in range(8, 14):
            shutil.move(other / f"class-{label}" / f"{i}.jpg", tmp_path / "data" / "test" / f"class-{label}")
    return tmp_path / "data"


def names(data: Path) -> dict[str, str]:
    return {"train": f"{data}@train", "test": f"{data}@test"}


def test_a_class_that_train_lacks_names_the_nearest(data: Path, tmp_path: Path) -> None:
    (data / "test" / "class-1").rename(data / "test" / "clas-1")
    with pytest.raises(BadInput, match="has the class 'clas-1', which train lacks; did you mean 'class-1'"):
        finetune(config(tmp_path, **names(data)), tmp_path / "out", HERE)
    assert not (tmp_path / "out").exists()


def test_a_class_without_test_images_is_allowed_and_said(data: Path, tmp_path: Path, capsys) -> None:
    shutil.rmtree(data / "test" / "class-1")
    result = finetune(config(tmp_path, **names(data)), tmp_path / "out", HERE)
    assert result.count == 12
    assert "has no image of 1 of 3 classes (class-1): nothing judges them" in capsys.readouterr().err


def test_labels_out_of_range_are_refused() -> None:
    source = ArraySource(np.zeros((4, 2, 2, 3), np.uint8), np.array([0, 1, 7, -1]), ("a", "b"), list("wxyz"))
    with pytest.raises(BadInput, match="the label of image 2 is 7, and 2 of 4 are out of range; there are 2 classes"):
        check_labels(source, "photos.parquet")


def test_labels_out_of_range_in_a_file(data: Path, tmp_path: Path) -> None:
    """Hugging Face's layout names two classes, and a row has the label 5."""
    image = next((data / "train").rglob("*.jpg")).read_bytes()
    table = pa.table({"image": [{"bytes": image, "path": "a.jpg"}] * 4, "label": [0, 1, 1, 5]})
    features = {"label": {"_type": "ClassLabel", "names": ["class-0", "class-1"]}, "image": {"_type": "Image"}}
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    parquet.write_table(table.replace_schema_metadata(about), tmp_path / "photos.parquet")
    with pytest.raises(BadInput, match=r"5"):
        finetune(config(tmp_path, train=str(tmp_path / "photos.parquet"), test=None), tmp_path / "out", HERE)


def test_the_training_set_again_is_no_test_set(data: Path, tmp_path: Path, capsys) -> None:
    shutil.copytree(data / "train", tmp_path / "copy")
    for test in (f"{data}@train", f"{data}@train[:100%]", str(tmp_path / "copy")):
        with pytest.raises(BadInput, match=r"is the training set .* again"):
            finetune(config(tmp_path, train=f"{data}@train", test=test), tmp_path / "out", HERE)
    model = model_bundle(tmp_path)
    words = ("finetune", "transfer", "--init", model, "--train", data / "train", "--test", tmp_path / "copy")
    assert "Test on other images" in refused(capsys, *words, "--out", tmp_path / "out")


def test_slices_that_overlap_are_counted(data: Path) -> None:
    train, test = (open_data(f"{data}@train[{part}]") for part in (":75%", "50%:"))
    with pytest.raises(BadInput, match=r"6 of the 12 images of .* are among those of"):
        check_train_test(train, test, f"{data}@train[:75%]", f"{data}@train[50%:]")


def test_a_copy_in_part_and_renamed_folders_is_found_and_other_images_are_not(data: Path, tmp_path: Path) -> None:
    train = open_data(f"{data}@train")
    for label in range(3):
        (tmp_path / "part" / f"class-{label}").mkdir(parents=True)
        for i in range(3):
            shutil.copy(data / "train" / f"class-{label}" / f"{i}.jpg", tmp_path / "part" / f"class-{label}")
    part = open_data(str(tmp_path / "part"))
    assert overlap(train, part, str(data), str(tmp_path / "part")) == 9
    assert overlap(train, open_data(f"{data}@test"), f"{data}@train", f"{data}@test") == 0
    digits = [open_data(name) for name in ("digits@train", "digits@test")]
    assert overlap(*digits, "digits@train", "digits@test") == 0


def test_one_name_without_a_split_is_two_sources_where_there_are_splits(data: Path) -> None:
    train, test = open_data(str(data), "train"), open_data(str(data), "test")
    assert check_train_test(train, test, str(data), str(data)) == []


def test_preparation_that_nobody_knows_is_said_and_kept_in_the_plan(data: Path, tmp_path: Path, capsys) -> None:
    torch.save(random_state(TIMM), tmp_path / "weights.pth")  # 16 pixels, and how they were prepared is not in it
    asked = config(tmp_path, **names(data), sweep=(0.01, 0.1), init=str(tmp_path / "weights.pth"), resolution=16)
    finetune(asked, tmp_path / "out", HERE)
    assert "nothing says how its images were prepared; assumed are mean" in capsys.readouterr().err
    assert any("assumed are mean" in why for why in read_json(tmp_path / "out" / "plan.json")["plan"]["why"])


def test_a_rate_is_not_chosen_by_images_that_are_tested_on_or_learned_from(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data / "test", tmp_path / "copy")
    asked = config(tmp_path, **names(data), sweep=(0.01, 0.1))
    for validation, other in ((f"{data}@test", "test"), (str(tmp_path / "copy"), "test"), (f"{data}@train", "train")):
        with pytest.raises(BadInput, match=rf"is to be chosen by .* has \d+ images of .*@{other}: what is chosen by"):
            finetune(replace(asked, validation=validation), tmp_path / "out", HERE)
    assert not (tmp_path / "out").exists()
