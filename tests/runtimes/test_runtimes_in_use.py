"""Commands that use a model say what computed it, and answer the same."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import vitrail
from vitrail.core.device import Machine
from vitrail.core.errors import BadInput
from vitrail.jobs.evaluate import Evaluate, evaluate
from vitrail.jobs.linear_probe import Linear, linear
from vitrail.jobs.predict import Predict, predict_table
from vitrail.runtimes import open_runtime

pytest.importorskip("openvino")
MACHINE = Machine("cpu", workers=0)
OPENVINO = replace(MACHINE, runtime="openvino")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path_factory.getbasetemp() / "graphs"))


def test_an_evaluation_by_openvino(digits_run: Path) -> None:
    config = Evaluate(str(digits_run), "digits@test", precision="float32")
    ours, theirs = evaluate(config, None, MACHINE), evaluate(config, None, OPENVINO)
    assert ours.runtime.name == "torch"
    assert (theirs.runtime.name, theirs.runtime.precision) == ("openvino", "float32")
    assert theirs.runtime.difference < theirs.runtime.tolerance
    assert ours.correct == theirs.correct
    assert abs(ours.loss - theirs.loss) < 1e-5


def test_predictions_by_openvino(digits_run: Path, tmp_path: Path) -> None:
    config = Predict(str(digits_run), ("digits@test[:50]",), all_probabilities=True)
    done = predict_table(config, tmp_path / "labels.jsonl", OPENVINO)
    assert done.question.runtime == done.runtime.name == "openvino"
    with pytest.raises(BadInput, match="another question"):
        predict_table(config, tmp_path / "labels.jsonl", MACHINE)


def test_features_by_openvino_are_kept_apart(digits_run: Path, tmp_path: Path) -> None:
    config = Linear(
        str(digits_run), "digits@train", "digits@test", shots=(5,), seeds=1, precision="float32", features=str(tmp_path)
    )
    ours, theirs = linear(config, None, MACHINE), linear(config, None, OPENVINO)
    assert len(list(tmp_path.iterdir())) == 4  # training and test images, by each
    assert theirs.runtime.name == "openvino"
    assert abs(ours.rows[0].mean - theirs.rows[0].mean) < 0.01
    with pytest.raises(BadInput, match="layers are read with --runtime torch"):
        linear(replace(config, layers=True), None, OPENVINO)
    values = [
        vitrail.features(digits_run, "digits@test", runtime=name, precision="float32", device="cpu").values
        for name in ("torch", "openvino")
    ]
    assert np.abs(values[0] - values[1]).max() < 1e-4 * np.abs(values[0]).max()


def test_auto_leaves_few_images_to_pytorch(digits_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_runtime, "fastest_runtime", lambda *_: "openvino")
    model = vitrail.load(digits_run)
    assert open_runtime.open_runtime(model, images=open_runtime.WORTH - 1).name == "torch"
    assert open_runtime.open_runtime(model, images=open_runtime.WORTH).name == "openvino"
