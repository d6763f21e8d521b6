"""A model computed by ONNX Runtime on the processor, in float32: it has no products in bfloat16 there."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from vitrail.models.build import Model
from vitrail.runtimes.graph_cache import cached_graph
from vitrail.runtimes.runtime import Runtime, RuntimeOutput
from vitrail.runtimes.traced import quiet_export, traced


class OnnxRuntime(Runtime):
    """A session of ONNX Runtime."""

    name = "onnx"

    def __init__(self, model: Model, batch: int | None = None):
        super().__init__("float32", batch)
        import onnxruntime

        versions = {"torch": torch.__version__}
        graph = cached_graph(model, versions, lambda folder: _convert(model, folder))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self._session = onnxruntime.InferenceSession(graph / "model.onnx", options, providers=["CPUExecutionProvider"])

    def compute(self, pixels: Float[Tensor, "b c y x"]) -> RuntimeOutput:
        """On the processor."""
        found = self._session.run(None, {"pixels": pixels.detach().cpu().contiguous().numpy()})
        return RuntimeOutput(torch.from_numpy(found[0]), torch.from_numpy(found[-1]))


def _convert(model: Model, folder: Path) -> None:
    with quiet_export():
        program = torch.onnx.export(
            traced(model),
            dynamo=True,
            input_names=["pixels"],
            output_names=["logits", "representation"] if model.config.num_classes else ["representation"],
            external_data=True,
            verbose=False,
        )
        assert program is not None
        program.save(str(folder / "model.onnx"), external_data=True)
