"""A run read back in Python."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import vitrail
from vitrail.records.finetune import FinetuneResult
from vitrail.records.run import RunResult

OLD = Path(__file__).parent.parent / "fixtures/v0.1.0"


def test_a_finished_run() -> None:
    run = vitrail.read_run(OLD / "run")
    assert (run.job, run.recipe) == ("pretrain", "digits")
    assert run.config["optimizer"]["type"] == "Adam"
    assert isinstance(run.result, RunResult)
    assert run.result.steps == 40
    assert run.environment is not None
    assert run.environment.vitrail == "0.1.0"
    assert run.evaluation().count == run.result.count == 445


def test_metrics_are_columns() -> None:
    rows = [json.loads(line) for line in (OLD / "run/metrics.jsonl").read_text().splitlines()]
    train = [row for row in rows if row["kind"] == "train"]
    metrics = vitrail.read_run(OLD / "run").metrics()
    assert metrics.rows == len(train) == 4
    assert metrics["step"].dtype == np.int64
    np.testing.assert_array_equal(metrics["loss"], [row["loss"] for row in train])
    assert np.isnan(metrics["communicating"]).all()  # null: one process
    assert vitrail.read_run(OLD / "run").metrics("validation")["step"].tolist() == [20, 40]


def test_predictions_are_columns() -> None:
    run = vitrail.read_run(OLD / "run")
    assert run.result is not None
    predictions = run.predictions()
    right = predictions["label"] == predictions["predicted"]
    assert right.mean() == pytest.approx(run.result.accuracy)


def test_an_unfinished_run() -> None:
    run = vitrail.read_run(OLD / "halfway")
    assert run.result is None
    assert "not finished" in repr(run)
    assert run.metrics().rows == 2
    with pytest.raises(vitrail.BadInput, match=r"predictions\.parquet does not exist"):
        run.predictions()


def test_a_sweep() -> None:
    run = vitrail.read_run(OLD / "sweep")
    assert isinstance(run.result, FinetuneResult)
    assert [trial.learning_rate for trial in run.result.trials] == [0.01, 0.03]
    with pytest.raises(vitrail.BadInput, match=r"its runs have them: .*final/seed-0"):
        run.metrics()


def test_repr_says_what_was_reached() -> None:
    text = repr(vitrail.read_run(OLD / "run"))
    assert "pretrain run in" in text
    assert "40 steps" in text
    assert "accuracy 23.4% (95 % interval 19.7% to 27.5%) of 445 images" in text
    assert repr(vitrail.read_run(OLD / "run").metrics("validation")) == (
        "Columns(2 rows of step, accuracy, loss, count, seconds)"
    )


def test_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = vitrail.read_run(OLD / "run").metrics()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(vitrail.BadInput, match="pip install pandas"):
        metrics.to_pandas()


def test_a_frame() -> None:
    pandas = pytest.importorskip("pandas")
    frame = vitrail.read_run(OLD / "run").metrics().to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame["step"]) == [10, 20, 30, 40]


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(vitrail.BadInput, match="holds no run"):
        vitrail.read_run(tmp_path)


def test_a_damaged_result(tmp_path: Path) -> None:
    shutil.copytree(OLD / "run", tmp_path / "run")
    (tmp_path / "run/result.json").write_text('{"steps": 3}')
    with pytest.raises(vitrail.BadInput, match=r"result\.json lacks the key"):
        vitrail.read_run(tmp_path / "run")
