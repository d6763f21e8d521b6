"""Folders whose names have a colon, relative to where one is: pyarrow would take `lr:0.1/a.parquet` for an address."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vitrail
from vitrail.core.device import Machine
from vitrail.core.files import atomic_path
from vitrail.jobs.predict import Predict, predict_table
from vitrail.jobs.pretrain import pretrain
from vitrail.recipes import pretraining
from vitrail.train.schedule import Cosine

HERE = Machine(device="cpu", workers=0)


def test_a_run_and_predictions_lie_in_a_folder_with_a_colon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = replace(pretraining("digits"), steps=2, schedule=Cosine(1), precision="float32")
    run = Path("lr:0.1")
    result = pretrain(config, run, HERE)
    assert result.accuracy is not None
    assert len(vitrail.read_run(run).predictions()["label"]) == 445
    photos = Path(vitrail.__file__).parent.parent / "tests/fixtures/v0.1.0/photos/test"
    predict_table(Predict(str(run), (str(photos),)), Path("to:here/out.parquet"), HERE)
    assert pq.read_table(tmp_path / "to:here/out.parquet").num_rows == len(list(photos.rglob("*.png")))


def test_parquet_of_images_is_read_from_a_folder_with_a_colon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    picture = (Path(vitrail.__file__).parent.parent / "tests/fixtures/v0.1.0/photos/test/red/0.png").read_bytes()
    table = pa.table({"image": [{"bytes": picture, "path": "0.png"}] * 3, "label": np.arange(3)})
    with atomic_path(Path("set:1/train.parquet")) as temporary:
        assert temporary.is_absolute()
        pq.write_table(table, temporary)
    assert len(vitrail.load_data("set:1@train")) == 3
