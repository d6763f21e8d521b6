"""int8: linear layers quantised on training images, what hurts left in float, by both runtimes that read it."""

from pathlib import Path

import numpy as np
import pytest

from tests.export.models import bundle
from tests.models.small import pictures, vit
from vitrail.export import int8, proof
from vitrail.export.graph import from_pixels
from vitrail.export.targets import write_target
from vitrail.weights.load import load

# Minutes on two cores: run by `make test-all`.
pytestmark = pytest.mark.slow

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def test_linear_layers_become_int8_and_what_hurts_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vitrail.export.to_onnx import as_onnx

    model = load(bundle(tmp_path / "model", vit(depth=2, width=48, mlp=96)))
    proto, pixels = as_onnx(from_pixels(model, ("logits", "representation"))), pictures(16).numpy()
    kinds = int8.linear_layers(proto)
    two = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    assert {name: len(nodes) for name, nodes in kinds.items()} == {"patch_embed": 1, **dict.fromkeys(two, 2), "head": 1}
    monkeypatch.setattr(int8, "ALLOWED", 10.0)
    made, told = int8.quantised(proto, pixels, "noise")
    assert told.layers == sum(len(nodes) for nodes in kinds.values())
    assert sum(node.op_type == "QuantizeLinear" for node in made.graph.node) >= 8
    monkeypatch.setattr(int8, "ALLOWED", 1e-9)  # nothing is near enough
    made, told = int8.quantised(proto, pixels, "noise")
    assert told.layers == 0
    assert set(told.kept) == set(kinds)


@pytest.mark.parametrize("target", ["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
def test_an_int8_graph_is_near(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if target == "openvino":
        pytest.importorskip("openvino")
    monkeypatch.setattr(proof, "BATCHES", (1, 2, 7))
    model = load(bundle(tmp_path / "model", vit(depth=2, width=48, mlp=96)))
    (tmp_path / "out").mkdir()
    pixels = pictures(16).numpy()
    written = write_target(target, "int8", model, ("probabilities",), tmp_path / "out", ("noise", pixels))
    found = proof.prove(model, written.from_images, written.from_pixels, "int8")
    assert max(row.relative for row in found.rows) < 0.4  # measured 0.24, of OpenVINO
    assert written.quantisation is not None
    assert written.quantisation.layers > 0
    assert np.isfinite(found.neighbours)
