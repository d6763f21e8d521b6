"""A model computed by OpenVINO on the processor, converted straight from the graph that PyTorch exports."""

import threading
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vitrail.models.build import Model
from vitrail.records.runtime import RuntimePrecision
from vitrail.runtimes.graph_cache import cached_graph
from vitrail.runtimes.openvino_package import import_openvino
from vitrail.runtimes.runtime import Runtime, RuntimeOutput
from vitrail.runtimes.traced import quiet_export, traced


class OpenVINORuntime(Runtime):
    """Weights are converted once; with a fixed `batch` shapes are too, which is a little faster."""

    name = "openvino"

    def __init__(self, model: Model, precision: RuntimePrecision, batch: int | None = None):
        super().__init__(precision, batch)
        openvino = import_openvino()

        versions = {"openvino": openvino.__version__, "torch": torch.__version__}
        graph = cached_graph(model, versions, lambda folder: _convert(model, folder))
        core = openvino.Core()
        network = core.read_model(graph / "model.xml")
        if batch is not None:
            network.reshape([batch, model.config.channels, *model.config.resolution])
        self._compiled = core.compile_model(network, "CPU", cpu_settings(precision))
        self._requests = threading.local()  # one request computes one batch at a time

    def compute(self, pixels: Float[Tensor, "b c y x"]) -> RuntimeOutput:
        """On the processor, by all of its cores."""
        request = getattr(self._requests, "request", None)
        if request is None:
            request = self._requests.request = self._compiled.create_infer_request()
        request.infer([pixels.detach().cpu().contiguous().numpy()], share_inputs=True)
        # copies: the request writes its next answer to the same memory
        found = [torch.from_numpy(tensor.data.copy()) for tensor in request.output_tensors]
        return RuntimeOutput(found[0], found[-1])


def cpu_settings(precision: RuntimePrecision) -> dict[str, Any]:
    """One batch at a time by all cores, at exactly this precision: OpenVINO's own choice depends on the processor."""
    hint = {"float32": "f32", "bfloat16": "bf16"}[precision]
    return {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint}


def _convert(model: Model, folder: Path) -> None:
    openvino = import_openvino()

    with quiet_export():
        network = openvino.convert_model(traced(model))
    openvino.save_model(network, folder / "model.xml", compress_to_fp16=False)
