"""Triton: a model repository of one model, which its ONNX Runtime or OpenVINO back end serves."""

import shutil
from pathlib import Path

MOST = 64  # images of a batch that the server joins


def write_triton(folder: Path, name: str, outputs: dict[str, tuple[int, ...]]) -> None:
    """Moves `model.onnx` and its weights, which lie in `folder`, into the repository, and writes config.pbtxt.

    Args:
        outputs: the shape of each without the batch.
    """
    version = folder / name / "1"
    version.mkdir(parents=True)
    for file in ("model.onnx", "weights.bin"):
        shutil.move(folder / file, version / file)
    (folder / "model-float.onnx").unlink()
    (folder / name / "config.pbtxt").write_text(config_text(name, outputs), encoding="utf-8")
    predict = folder / "predict.py"
    predict.write_text(predict.read_text(encoding="utf-8").replace('"NAME"', f'"{name}"'), encoding="utf-8")


def config_text(name: str, outputs: dict[str, tuple[int, ...]]) -> str:
    """Images of one request have one size; the server joins requests whose images have the same."""
    made = ",\n".join(
        f'  {{ name: "{output}" data_type: TYPE_FP32 dims: [ {", ".join(map(str, shape))} ] }}'
        for output, shape in outputs.items()
    )
    return f"""name: "{name}"
backend: "onnxruntime"
max_batch_size: {MOST}
input [
  {{ name: "images" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] }}
]
output [
{made}
]
dynamic_batching {{ max_queue_delay_microseconds: 2000 }}
"""
