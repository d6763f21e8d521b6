"""What computed the answers of a model, in the records of those answers."""

from dataclasses import dataclass
from typing import Literal

from vitrail.records.record import Record, optional

RuntimeName = Literal["torch", "onnx", "openvino"]
RuntimePrecision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class RuntimeInfo(Record):
    """The library that computed, and how far it is from PyTorch in float32."""

    name: RuntimeName
    version: str
    precision: RuntimePrecision  # of weights and products
    attention: str | None = optional()  # (PyTorch) kernel: fused (PyTorch's), products; null for a ResNet
    difference: float | None = None  # of the first images, over the norm of the outputs; null for PyTorch itself
    tolerance: float | None = None  # above which it would not have been used
