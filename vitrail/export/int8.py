"""Linear layers in int8: static quantisation by ONNX Runtime, ranges measured on images; what hurts stays in float.

Weights are quantised for each output channel, activations for each tensor, their ranges from the smallest to the
largest number seen. First all linear layers are tried. While the answers of the calibration images move by more than
ALLOWED, the kind of layer (such as all `mlp.fc2`) whose quantisation alone moves them most goes back to float.
"""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitrail.core.progress import progress
from vitrail.data.loader.batch import Broken
from vitrail.data.loader.loader import eval_loader
from vitrail.data.loader.normalise import normalise
from vitrail.data.open.names import open_data
from vitrail.data.sources.subset import sample
from vitrail.export.session import Session
from vitrail.export.to_onnx import open_onnx
from vitrail.models.build import Model
from vitrail.records.export import Quantisation

IMAGES = 128  # that ranges are measured on
JUDGED = 64  # of these, on which the answers are compared
ALLOWED = 0.08  # norm of the difference of the representation over its norm
BATCH = 8


def calibration_images(model: Model, data: str) -> np.ndarray:
    """Normalised views [n, C, y, x] of IMAGES images of DATA (its training split, where it names none)."""
    source = open_data(data, "train")
    source = sample(source, IMAGES, 0) if len(source) > IMAGES else source
    broken, found = Broken(len(source)), []
    for part in eval_loader(source, model.preprocess, batch=64, workers=0):
        broken.add(part.broken)
        if len(part.labels):
            found.append(normalise(part.images, model.preprocess, torch.device("cpu")))
    return torch.cat(found).numpy()


def quantised(plain: Any, pixels: np.ndarray, data: str) -> tuple[Any, Quantisation]:
    """The plain graph with its linear layers in int8, and what stayed in float.

    Args:
        plain: a ModelProto of normalised images; pixels: what its ranges are measured on, of `data`.
    """
    kinds = linear_layers(plain)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        original = _prepared(plain, folder)
        ranges = _ranges(original, pixels, [node for nodes in kinds.values() for node in nodes], folder)
        exact = _representation(open_onnx(original), pixels[:JUDGED])

        def moved(chosen: list[str]) -> float:
            made = _written(original, ranges, [node for kind in chosen for node in kinds[kind]], folder)
            return float(np.linalg.norm(_representation(open_onnx(made), pixels[:JUDGED]) - exact) / scale)

        scale = max(float(np.linalg.norm(exact)), 1e-30)
        chosen, kept = list(kinds), list[str]()
        if moved(chosen) > ALLOWED:
            with progress("which layers hurt", len(kinds)) as bar:
                hurt = {}
                for kind in kinds:
                    hurt[kind] = moved([kind])
                    bar.advance(kind)
            while chosen and moved(chosen) > ALLOWED:
                worst = max(chosen, key=lambda kind: hurt[kind])
                chosen.remove(worst)
                kept.append(worst)
        nodes = [node for kind in chosen for node in kinds[kind]]
        import onnx

        made = onnx.load(_written(original, ranges, nodes, folder))
    return made, Quantisation(data=data, images=len(pixels), layers=len(nodes), kept=kept)


def linear_layers(proto: Any) -> dict[str, list[str]]:
    """The names of the nodes that multiply by a weight, by the kind of layer."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    made = {name: node for node in proto.graph.node for name in node.output}
    found: dict[str, list[str]] = {}
    for i, node in enumerate(proto.graph.node):
        if node.op_type not in ("MatMul", "Gemm") or len(node.input) < 2:
            continue
        name = node.input[1]
        while name not in weights and name in made and made[name].op_type in ("Transpose", "Reshape", "Identity"):
            name = made[name].input[0]
        if name not in weights:
            continue
        node.name = node.name or f"linear_{i}"
        scopes = next((p.value for p in node.metadata_props if p.key.endswith("name_scopes")), "")
        found.setdefault(kind_of(scopes or name), []).append(node.name)
    return found


def kind_of(scopes: str) -> str:
    """`mlp.fc2` of the modules around a node: "['model', 'model.blocks.3', 'model.blocks.3.mlp.fc2', 'linear']"."""
    match = re.search(r"blocks\.\d+\.(\w+\.\w+)", scopes)
    names = [name for name in re.findall(r"[\w.]+", scopes) if name.startswith("model.")]
    return match.group(1) if match else names[-1].removeprefix("model.") if names else "others"


def _prepared(plain: Any, folder: Path) -> Path:
    import onnx

    path = folder / "plain.onnx"
    onnx.save(plain, path)
    return path


class _Reader:
    """Hands the images to ONNX Runtime's calibrator, some at a time."""

    def __init__(self, pixels: np.ndarray):
        self._parts: Iterator[np.ndarray] = iter(np.split(pixels, range(BATCH, len(pixels), BATCH)))

    def get_next(self) -> dict[str, np.ndarray] | None:
        part = next(self._parts, None)
        return None if part is None else {"pixels": part}


def _ranges(original: Path, pixels: np.ndarray, nodes: list[str], folder: Path) -> Any:
    """Smallest and largest numbers of the activations that go into the nodes."""
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    calibrator = create_calibrator(
        original,
        ["MatMul", "Gemm"],
        augmented_model_path=str(folder / "augmented.onnx"),
        calibrate_method=CalibrationMethod.MinMax,
    )
    calibrator.collect_data(_Reader(pixels))
    return calibrator.compute_data()


def _written(original: Path, ranges: Any, nodes: list[str], folder: Path) -> Path:
    """The graph with these nodes in int8."""
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    options = {
        "OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"],
        "QDQKeepRemovableActivations": True,
        "QuantizeBias": False,
    }
    quantizer = QDQQuantizer(
        onnx.load(original),
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=ranges,
        nodes_to_quantize=nodes,
        nodes_to_exclude=[],
        op_types_to_quantize=["MatMul", "Gemm"],
        extra_options=options,
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    path = folder / "int8.onnx"
    onnx.save(quantizer.model.model, path)
    return path


def _representation(session: Session, pixels: np.ndarray) -> np.ndarray:
    parts = np.split(pixels, range(BATCH, len(pixels), BATCH))
    return np.concatenate([session(part)["representation"] for part in parts])
