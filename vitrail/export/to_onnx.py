"""ONNX: `model.onnx` with preprocessing inside and `model-float.onnx` without, one file of weights for both."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vitrail.export.graph import Graph
from vitrail.export.session import Session
from vitrail.runtimes.traced import quiet_export

WEIGHTS = "weights.bin"
SMALL = 1024  # bytes below which a constant stays in its graph
ALIGNED = 4096  # bytes at which weights start, so that they can be mapped


def write_onnx(
    preprocessing: Graph, plain: Any, outputs: Sequence[str], folder: Path, about: Mapping[str, Any]
) -> None:
    """Writes `plain`, a ModelProto, and the same behind the preprocessing, with `about` in their metadata."""
    import onnx

    first = as_onnx(preprocessing)
    first = onnx.compose.add_prefix(first, "preprocess/", rename_inputs=False)
    first.ir_version = plain.ir_version
    joined = onnx.compose.merge_models(
        first, plain, io_map=[(first.graph.output[0].name, "pixels")], outputs=list(outputs)
    )
    save_onnx({"model.onnx": joined, "model-float.onnx": plain}, folder, about)


def as_onnx(graph: Graph) -> Any:
    """A ModelProto, with the weights in it."""
    import torch

    with quiet_export():
        program = torch.onnx.export(
            graph.program,
            dynamo=True,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def save_onnx(protos: Mapping[str, Any], folder: Path, about: Mapping[str, Any]) -> None:
    """Writes graphs beside one file with the weights of all, each once."""
    import onnx
    from onnx.external_data_helper import set_external_data

    places: dict[bytes, tuple[int, int]] = {}
    with open(folder / WEIGHTS, "wb") as file:
        for name, proto in protos.items():
            for tensor in proto.graph.initializer:
                data = tensor.raw_data or onnx.numpy_helper.to_array(tensor).tobytes()
                if len(data) < SMALL:
                    continue
                key = hashlib.sha256(data).digest()
                if key not in places:
                    file.write(b"\0" * (-file.tell() % ALIGNED))
                    places[key] = file.tell(), len(data)
                    file.write(data)
                tensor.raw_data = data
                set_external_data(tensor, WEIGHTS, *places[key])
                tensor.ClearField("raw_data")
                tensor.data_location = onnx.TensorProto.EXTERNAL
            del proto.metadata_props[:]
            onnx.helper.set_model_props(proto, {key: json.dumps(value) for key, value in about.items()})
            (folder / name).write_bytes(proto.SerializeToString())


def open_onnx(path: Path, threads: int | None = None) -> Session:
    """A graph as ONNX Runtime computes it on the processor."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    opened = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names, (given,) = [output.name for output in opened.get_outputs()], opened.get_inputs()

    def run(array: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(names, opened.run(None, {given.name: array}), strict=True))

    return run
