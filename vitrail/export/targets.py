"""One target or another: its files written into a folder, and opened as its runtime opens them."""

import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vitrail.core.config import to_json
from vitrail.export.graph import DTYPES, Graph, Output, from_images, from_pixels, only_preprocessing, plain_outputs
from vitrail.export.session import Session
from vitrail.models.build import Model, build
from vitrail.records.export import ExportPrecision, Quantisation, Target
from vitrail.weights.load import attach


class Written(NamedTuple):
    """What lies in the folder, opened: from whole images, and from normalised ones; and what is to be said of it."""

    from_images: Session
    from_pixels: Session
    quantisation: Quantisation | None = None
    notes: tuple[str, ...] = ()


def write_target(
    target: Target,
    precision: ExportPrecision,
    model: Model,
    outputs: tuple[Output, ...],
    folder: Path,
    ranges: tuple[str, np.ndarray] | None = None,
) -> Written:
    """Writes the graphs.

    Args:
        ranges: DATA, and normalised images of it that tell int8 the ranges of activations.
    """
    plain = plain_outputs(outputs, model)
    about = {
        "classes": list(model.classes) if model.config.num_classes else [],
        "preprocess": to_json(model.preprocess),
        "temperature": model.temperature,
    }
    if target == "pt2":
        from vitrail.export.to_pt2 import compile_pt2, open_pt2, write_pt2

        inside = in_precision(model, precision)
        whole = from_images(inside, outputs)
        write_pt2({"model.pt2": whole, "model-float.pt2": from_pixels(inside, plain)}, folder, about)
        said = compile_pt2(whole, folder / "model-compiled.pt2")
        opened = open_pt2(folder / "model.pt2", outputs), open_pt2(folder / "model-float.pt2", plain)
        return Written(*opened, notes=() if said is None else (f"{said}.",))
    proto, quantisation = None, None
    if target != "openvino" or precision == "int8":
        from vitrail.export.to_onnx import as_onnx, open_onnx, write_onnx

        inside = in_precision(model, precision if target != "openvino" else "float32")
        proto = as_onnx(from_pixels(inside, plain))
        if precision == "int8":
            from vitrail.export.int8 import quantised

            assert ranges is not None
            proto, quantisation = quantised(proto, ranges[1], ranges[0])
    if target == "openvino":
        from vitrail.export.to_openvino import open_both, open_openvino, write_openvino

        with tempfile.TemporaryDirectory() as name:
            graph: Graph | Path = from_pixels(model, plain) if proto is None else Path(name) / "int8.onnx"
            if isinstance(graph, Path):
                import onnx

                onnx.save(proto, graph)
            write_openvino(only_preprocessing(model), graph, folder, about, precision)
        opened = open_both(folder, precision), open_openvino(folder / "model.xml", precision)
        return Written(*opened, quantisation)
    write_onnx(only_preprocessing(model), proto, outputs, folder, about)
    return Written(open_onnx(folder / "model.onnx"), open_onnx(folder / "model-float.onnx"), quantisation)


def in_precision(model: Model, precision: ExportPrecision) -> Model:
    """A copy whose weights and products have another precision; int8 starts from float32, and is the model itself."""
    if precision in ("float32", "int8"):
        return model
    made = build(model.config)
    made.load_state_dict(model.state_dict())
    attach(made, model.preprocess, tuple(model.classes), model.temperature)
    return made.to(DTYPES[precision]).eval()
