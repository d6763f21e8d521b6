"""OpenVINO: `preprocess.xml`, which is always computed in float32, and `model.xml` with the weights, once.

They are two because OpenVINO computes all of a graph in bfloat16 that is compiled for it, also the places of pixels,
which it has too few digits for.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vitrail.export.graph import Graph
from vitrail.export.session import Session
from vitrail.records.export import ExportPrecision
from vitrail.runtimes.openvino_package import import_openvino
from vitrail.runtimes.traced import quiet_export

# of int8 none: what is not in int8 is computed in bfloat16 where the processor multiplies it, else in float32
# float16 is how its weights are stored: where a processor has no such arithmetic, OpenVINO would compute in bfloat16
HINTS: dict[ExportPrecision, str] = {"float32": "f32", "bfloat16": "bf16", "float16": "f32"}


def write_openvino(
    preprocessing: Graph, model: Graph | Path, folder: Path, about: Mapping[str, Any], precision: ExportPrecision
) -> None:
    """Writes both graphs. Of bfloat16 and float16 weights lie in float16, which is closer to them than bfloat16.

    Args:
        model: a program, or an ONNX file (of int8).
    """
    openvino = import_openvino()

    for name, graph in (("preprocess.xml", preprocessing), ("model.xml", model)):
        with quiet_export():
            network = openvino.convert_model(graph if isinstance(graph, Path) else graph.program)
        if isinstance(graph, Graph):
            for places, names in ((network.inputs, graph.inputs), (network.outputs, graph.outputs)):
                for place, given in zip(places, names, strict=True):
                    place.get_tensor().set_names({given})
        for key, value in about.items():
            network.set_rt_info(str(value), ["vitrail", key])
        small = name == "model.xml" and precision in ("bfloat16", "float16")
        openvino.save_model(network, folder / name, compress_to_fp16=small)


def open_openvino(path: Path, precision: ExportPrecision) -> Session:
    """A graph as OpenVINO computes it on the processor."""
    openvino = import_openvino()

    hint = {"INFERENCE_PRECISION_HINT": HINTS[precision]} if precision in HINTS else {}
    settings = {"PERFORMANCE_HINT": "LATENCY", **hint}
    compiled = openvino.Core().compile_model(path, "CPU", settings)

    def run(array: np.ndarray) -> dict[str, np.ndarray]:
        found = compiled(array)
        return {output.get_any_name(): found[output] for output in compiled.outputs}

    return run


def open_both(folder: Path, precision: ExportPrecision) -> Session:
    """From whole images: one graph after the other."""
    preprocess, model = (
        open_openvino(folder / "preprocess.xml", "float32"),
        open_openvino(folder / "model.xml", precision),
    )
    return lambda images: model(preprocess(images)["pixels"])
