"""A model gives the same answers whatever library computes it."""

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.models.small import POOLS, POSITIONS, lively, pictures, vit
from vitrail.core.errors import BadInput
from vitrail.models.build import ModelConfig
from vitrail.models.head import AttentionPool
from vitrail.models.resnet import BIT, ResNetConfig, Stages
from vitrail.runtimes import open_runtime as opening
from vitrail.runtimes.by_torch import TorchRuntime
from vitrail.runtimes.graph_cache import cached_graph
from vitrail.runtimes.open_runtime import open_runtime
from vitrail.runtimes.runtime import Runtime, RuntimeOutput

MODELS: dict[str, ModelConfig] = {
    "1-D": vit(depth=2),
    "2-D, average": vit(depth=1, position=POSITIONS["2-D"], pool=POOLS["average"]),
    "relative": vit(depth=1, position=POSITIONS["relative"]),
    "attention pool, later parts": vit(
        depth=1, pool=AttentionPool(), registers=2, layer_scale=0.1, qk_norm=True, gated=True, hidden=8
    ),
    "no classifier": vit(depth=1, num_classes=0),
    "hybrid": vit(depth=1, patch=1, backbone=Stages(units=(1, 1), width=32), resolution=(33, 40)),
    "ResNet": ResNetConfig(replace(BIT, units=(1, 1), width=32), resolution=(33, 40), num_classes=5),
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", MODELS)
def test_weights_held_in_bfloat16_change_no_bit(name: str) -> None:
    model, images = lively(MODELS[name]), pictures(2, MODELS[name].resolution)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        expected = model(images)
    held = TorchRuntime(model, "bfloat16")
    assert torch.equal(held(images).logits, expected.logits.float())
    assert torch.equal(held(images).representation, expected.representation.float())
    assert {p.dtype for p in model.parameters()} == {torch.float32}  # the model itself is as before
    assert any(p.dtype == torch.bfloat16 for p in held.model.parameters())


def test_nobody_is_told_of_a_conversion_by_openvino() -> None:
    pytest.importorskip("openvino")
    program = """
from vitrail.runtimes.openvino_package import import_openvino
import_openvino()
from openvino.tools.ovc import telemetry_utils
print(telemetry_utils.tm.__name__)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "openvino.tools.ovc.telemetry_stub"


@pytest.mark.parametrize(
    "name",
    [
        *("relative", "attention pool, later parts", "no classifier"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("1-D", "2-D, average", "hybrid", "ResNet")),
    ],
)
def test_openvino_agrees_for_batches_of_every_size(name: str) -> None:
    pytest.importorskip("openvino")
    model = lively(MODELS[name])
    runtime = open_runtime(model, "openvino", "float32")
    for count in (1, 2, 7, 64):
        images = pictures(count, MODELS[name].resolution)
        with torch.inference_mode():
            expected = model(images)
        found = runtime(images.numpy())
        assert found.logits.shape == expected.logits.shape
        assert (found.logits - expected.logits).abs().max() < 1e-4 * expected.logits.abs().max()  # measured 3e-6
        difference = (found.representation - expected.representation).abs().max()
        assert difference < 1e-4 * expected.representation.abs().max()


@pytest.mark.parametrize("name", ["relative", *(pytest.param(name, marks=pytest.mark.slow) for name in MODELS)])
def test_onnx_runtime_agrees_for_batches_of_every_size(name: str) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = lively(MODELS[name])
    runtime = open_runtime(model, "onnx")
    for count in (1, 2, 7, 64):
        images = pictures(count, MODELS[name].resolution)
        with torch.inference_mode():
            expected = model(images).logits
        assert (runtime(images).logits - expected).abs().max() < 1e-4 * expected.abs().max()
    assert runtime.info().difference is not None


def test_with_a_fixed_batch_an_answer_does_not_depend_on_its_neighbours() -> None:
    """Without one, kernels add in an order that depends on the number of rows."""
    model, images = lively(vit(width=96, mlp=200)), pictures(11)
    for runtime in _every(model, batch=4):
        together = runtime(images)
        for i in range(len(images)):
            assert torch.equal(runtime(images[i : i + 1]).logits[0], together.logits[i]), runtime


def _every(model: torch.nn.Module, batch: int | None) -> list[Runtime]:
    names = ["torch", *(name for name in ("onnx", "openvino") if opening.installed(name))]
    return [open_runtime(model, name, batch=batch) for name in names]


def test_threads_share_a_runtime() -> None:
    pytest.importorskip("openvino")
    model = lively(vit(depth=1))
    runtime = open_runtime(model, "openvino", "float32")
    some = [torch.randn(2, 3, 12, 16) for _ in range(8)]
    expected, found = [runtime(images).logits for images in some], {}

    def work(i: int) -> None:
        for _ in range(20):
            found[i] = runtime(some[i]).logits

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[i], expected[i]) for i in range(8))


class Wrong(Runtime):
    """Answers something else."""

    name = "openvino"

    def compute(self, pixels: torch.Tensor) -> RuntimeOutput:
        return RuntimeOutput(torch.ones(len(pixels), 5), torch.ones(len(pixels), 24))


def test_a_runtime_that_does_not_agree_is_refused_or_replaced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    model, images = lively(vit(depth=1)), pictures()
    checked = opening.CheckedRuntime(Wrong("float32"), model, automatic=False)
    with pytest.raises(BadInput, match="differs from PyTorch by .* take --runtime torch"):
        checked(images)
    checked = opening.CheckedRuntime(Wrong("float32"), model, automatic=True)
    assert torch.equal(checked(images).logits, TorchRuntime(model, "float32")(images).logits)
    assert checked.info().name == "torch"
    assert "PyTorch computes instead" in capsys.readouterr().err


def test_auto_measures_once_for_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []

    def measure(*arguments: object) -> str:
        measured.append(arguments)
        return "torch"

    monkeypatch.setattr(opening, "measure_runtimes", measure)
    monkeypatch.setattr(opening, "installed", lambda name: name == "openvino")
    model = lively(vit(depth=1))
    assert open_runtime(model).name == open_runtime(model).name == "torch"
    assert len(measured) == 1
    open_runtime(lively(vit(depth=2)))
    assert len(measured) == 2


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    model = lively(vit(depth=1))
    monkeypatch.setattr(opening, "installed", lambda name: False)
    with pytest.raises(BadInput, match=r"needs openvino: pip install 'vitrail\[export\]'"):
        open_runtime(model, "openvino")
    assert open_runtime(model, "auto").name == "torch"


def test_a_graph_is_made_once_and_old_ones_give_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "model").write_bytes(b"x" * 100)

    one, other = lively(vit(depth=1)), lively(vit(depth=1), seed=1)
    first = cached_graph(one, {"library": "1"}, make)
    assert cached_graph(one, {"library": "1"}, make) == first
    assert len(made) == 1
    assert cached_graph(one, {"library": "2"}, make) != first
    monkeypatch.setattr("vitrail.runtimes.graph_cache.KEPT", 150)
    newest = cached_graph(other, {"library": "1"}, make)
    assert [path for path in newest.parent.iterdir() if path.is_dir()] == [newest]
