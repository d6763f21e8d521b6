"""An exported folder answers as the model does, without vitrail; what is not near enough is not there."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.export.models import CLASSES, bundle
from tests.export.test_preprocessing import photograph
from tests.models.small import POOLS, POSITIONS, vit
from vitrail.cli import main
from vitrail.commands.export import run
from vitrail.core.errors import BadInput
from vitrail.export import proof as proofs
from vitrail.jobs import export as job
from vitrail.jobs.export import Export, ExportFailed, export
from vitrail.models.build import ModelConfig
from vitrail.models.resnet import BIT, ResNetConfig, Stages
from vitrail.serve.predictor import Predictor

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytest.importorskip("openvino")

MODELS: dict[str, ModelConfig] = {
    "relative": vit(depth=1, position=POSITIONS["relative"]),
    "attention pool, later parts": vit(
        depth=1, pool=POOLS["attention"], registers=2, layer_scale=0.1, qk_norm=True, gated=True, hidden=8
    ),
    "average, 2-D": vit(depth=1, position=POSITIONS["2-D"], pool=POOLS["average"]),
    "no classifier": vit(depth=1, num_classes=0),
    "grey": vit(depth=1, channels=1),
    "hybrid": vit(depth=1, patch=1, backbone=Stages(units=(1, 1), width=32), resolution=(33, 40)),
    "ResNet": ResNetConfig(replace(BIT, units=(1, 1), width=32), resolution=(33, 40), num_classes=5),
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proofs, "BATCHES", (1, 2, 7))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "picture.png"
    Image.fromarray(photograph(50, 70, 3)).save(path)
    return path


def alone(folder: Path, picture: Path) -> dict[str, float]:
    """What predict.py prints, in a process that cannot import vitrail."""
    hidden = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    program = f"import sys, runpy; sys.modules['vitrail'] = None; sys.argv = ['predict.py', {str(picture)!r}]; "
    program += f"runpy.run_path({str(folder / 'predict.py')!r})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=hidden, cwd=folder)
    assert done.returncode == 0, done.stderr
    return {name: float(share) for name, share in re.findall(r"  (\w+) ([\d.]+)%", done.stdout)}


@pytest.mark.parametrize(
    ("target", "precision"),
    [
        ("onnx", "float32"),
        pytest.param("openvino", "bfloat16", marks=pytest.mark.slow),
        pytest.param("pt2", "float32", marks=pytest.mark.slow),
    ],
)
def test_a_folder_labels_as_predict_does(
    target: str, precision: str, model: Path, picture: Path, tmp_path: Path
) -> None:
    info = export(Export(str(model), target, precision), tmp_path / "out")
    wanted = {label.name: 100 * label.probability for label in Predictor(model, "cpu").predict(picture)}
    found = alone(tmp_path / "out", picture)
    assert found.keys() == wanted.keys() == set(CLASSES)
    assert max(abs(found[name] - wanted[name]) for name in CLASSES) < 1  # points; rounded, and both in bfloat16
    assert max(row.relative for row in info.proof.rows if "batches" in row.inputs) < (
        1e-4 if precision == "float32" else 0.06
    )
    assert info.cold_start is not None
    assert json.loads((tmp_path / "out/export.json").read_text())["classes"] == list(CLASSES)
    assert "pip install" in (tmp_path / "out/README.md").read_text()
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "openvino"])
@pytest.mark.parametrize("name", MODELS)
def test_every_architecture(target: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "_cold_start", lambda *_: None)
    info = export(Export(str(bundle(tmp_path / "model", MODELS[name])), target), tmp_path / "out")
    assert all(row.relative <= row.bound for row in info.proof.rows)
    assert info.proof.neighbours < 1e-5


def test_weights_lie_once_in_onnx(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnx
    import onnxruntime

    monkeypatch.setattr(job, "_cold_start", lambda *_: None)
    export(Export(str(model), outputs=("logits", "attention")), tmp_path / "out")
    parameters = sum(p.numel() for p in Predictor(model, "cpu").model.parameters())
    assert (tmp_path / "out/weights.bin").stat().st_size < 4 * parameters + 40 * 4096  # each is aligned
    session = onnxruntime.InferenceSession(tmp_path / "out/model.onnx")
    assert [output.name for output in session.get_outputs()] == ["logits", "attention"]
    found = session.run(None, {"images": photograph(30, 40, 0)[None]})
    assert found[1].shape == (1, 3, 4)
    metadata = onnx.load(tmp_path / "out/model.onnx").metadata_props
    assert {entry.key: json.loads(entry.value) for entry in metadata}["classes"] == list(CLASSES)


def test_attention_is_that_of_inspect(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vitrail.analysis.maps import output_map
    from vitrail.analysis.rollout import rollout
    from vitrail.export.graph import FromPixels
    from vitrail.weights.load import load

    loaded, pixels = load(model), torch.rand(2, 3, 12, 16)
    with torch.no_grad():
        (found,) = FromPixels(loaded, ("attention",))(pixels)
        wanted = output_map(rollout(loaded(pixels, attention=True).attention), (3, 4), 1, loaded.config.pool)
    assert torch.equal(found, wanted)


def test_a_triton_repository(model: Path, tmp_path: Path) -> None:
    export(Export(str(model), "triton"), tmp_path / "out")
    text = (tmp_path / "out/small/config.pbtxt").read_text()
    assert 'name: "images" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ]' in text
    assert 'name: "probabilities" data_type: TYPE_FP32 dims: [ 5 ]' in text
    assert {path.name for path in (tmp_path / "out/small/1").iterdir()} == {"model.onnx", "weights.bin"}
    assert 'client.infer("small"' in (tmp_path / "out/predict.py").read_text()


def test_on_labelled_images_the_answers_are_the_same(digits_run: Path, tmp_path: Path) -> None:
    info = export(Export(str(digits_run), check="digits@test"), tmp_path / "out")
    assert info.check is not None
    assert info.check.agreement == 1
    assert info.check.interval[0] <= info.check.lost == 0 <= info.check.interval[1]
    assert info.check.ece_model == pytest.approx(info.check.ece_export, abs=1e-4)


def test_what_loses_accuracy_is_not_there(
    digits_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    write = job.write_target

    def worse(*arguments: object) -> object:
        written = write(*arguments)

        def shuffled(images: np.ndarray) -> dict[str, np.ndarray]:
            found = written.from_images(images)
            return {**found, "probabilities": np.roll(found["probabilities"], 1, axis=1)}

        return written._replace(from_images=shuffled)

    monkeypatch.setattr(job, "write_target", worse)
    monkeypatch.setattr(proofs, "BOUNDS", dict.fromkeys(proofs.BOUNDS))
    code = run([str(digits_run), str(tmp_path / "out"), "--check", "digits@test"])
    assert code == 1
    assert "points of accuracy are lost" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_differs_is_not_there(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(proofs.BOUNDS, "float32", 1e-12)
    with pytest.raises(ExportFailed, match="differs by"):
        export(Export(str(model)), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_full_at_the_page_leaves_nothing_and_the_command_can_be_given_again(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    asked = ["export", str(model), str(tmp_path / "out")]
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr("vitrail.report.index.write_text_atomic", full)
        main(asked)
    assert ended.value.code == 2
    assert not list(tmp_path.iterdir())
    with pytest.raises(SystemExit) as ended:
        main(asked)
    assert ended.value.code == 0
    assert {"export.json", "report.html"} <= {file.name for file in (tmp_path / "out").iterdir()}


def test_a_full_disk_and_a_missing_operation_are_a_sentence(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for problem, said in (
        (OSError(28, "No space left on device"), "nothing of it is left: .*No space left"),
        (RuntimeError("operator aten::strange is not supported\nand a long trace"), "operator aten::strange"),
    ):

        def fails(*_: object, problem: Exception = problem) -> None:
            raise problem

        monkeypatch.setattr(job, "write_target", fails)
        with pytest.raises(BadInput, match=said):
            export(Export(str(model)), tmp_path / "out")
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"precision": "bfloat16"}, "take --to openvino"),
        ({"precision": "int8"}, "give --check or --calibrate-on"),
        ({"precision": "int8", "to": "pt2", "check": "digits"}, "has no int8"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict, said: str, model: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=said):
        export(replace(Export(str(model)), **changes), tmp_path / "out")


def test_a_missing_extra_and_a_folder_that_is_there(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadInput, match="exists already"):
        export(Export(str(model)), tmp_path)
    monkeypatch.setattr(job, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"needs openvino: pip install 'vitrail\[export\]'"):
        export(Export(str(model), "openvino"), tmp_path / "out")


def test_the_page_of_an_export(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # and OUT is named from there
    assert run([str(model), "out"]) == 0
    page = Path("out/report.html").read_text()
    assert "Against the model in float32" in page
    assert "batches of 7" in page
