"""An export (`vitrail export MODEL OUT`). The folder needs no vitrail: its README.md says what it needs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vitrail.core.estimate import Interval
from vitrail.records.comparison import Comparison
from vitrail.records.record import Files, Record, optional

Target = Literal["onnx", "openvino", "pt2", "triton", "web"]
ExportPrecision = Literal["float32", "bfloat16", "float16", "int8"]


@dataclass(frozen=True, kw_only=True)
class ProofRow(Record):
    """An output of the export against vitrail's in float32, over some inputs."""

    inputs: str  # what went in
    output: str
    largest: float  # difference
    mean: float  # difference
    relative: float  # the largest difference over the largest number
    bound: float | None  # that `relative` may have; null where none is promised


@dataclass(frozen=True, kw_only=True)
class PixelProof(Record):
    """The preprocessing in the graph against vitrail's own."""

    images: int
    largest: float  # difference, of 0 to 255
    mean: float
    differing: float  # share of the numbers that differ at all


@dataclass(frozen=True, kw_only=True)
class Proof(Record):
    """How far the export is from the model."""

    rows: Sequence[ProofRow]
    batches: Sequence[int]  # that were tried
    neighbours: float  # largest difference of an answer alone and among others, over the largest number
    pixels: PixelProof


@dataclass(frozen=True, kw_only=True)
class DataCheck(Record):
    """Both on labelled images."""

    data: str  # DATA
    count: int
    agreement: float  # share of the images with the same answer
    lost: float  # accuracy of the model less that of the export
    interval: Interval  # of this
    most_lost: float  # that is allowed
    ece_model: float  # calibration error
    ece_export: float
    comparison: Comparison


@dataclass(frozen=True, kw_only=True)
class Quantisation(Record):
    """What became of the linear layers in int8."""

    data: str  # DATA that the ranges of activations were measured on
    images: int
    layers: int  # in int8
    kept: Sequence[str]  # kinds of layers that stayed in float, because they hurt


@dataclass(frozen=True, kw_only=True)
class Speed(Record):
    """How fast something computes."""

    name: str  # runtime, and precision
    batch: int
    images_per_second: float


@dataclass(frozen=True, kw_only=True)
class ExportInfo(Record):
    """What was exported, and the proof that it answers the same."""

    format: int
    target: Target
    model: str  # MODEL
    weights: str  # digest
    precision: ExportPrecision
    outputs: Sequence[str]
    classes: Sequence[str]
    resolution: tuple[int, int]  # height and width that the model reads
    preprocess: Mapping[str, Any]
    temperature: float | None
    versions: Mapping[str, str]
    files: Mapping[str, str]  # name: SHA-256
    machine: str
    instructions: Sequence[str]  # of the processor, that matter here
    threads: int
    proof: Proof
    check: DataCheck | None = optional()
    quantisation: Quantisation | None = optional()
    speed: Sequence[Speed] = ()
    cold_start: float | None = optional()  # seconds of predict.py for one image, in a new process
    notes: Sequence[str] = ()  # sentences
    seconds: float


FILES: Files = {
    "export.json": ExportInfo,
    "README.md": "what is needed to use it, and its figures",
    "predict.py": "labels images, without vitrail",
    "model.onnx`, `model-float.onnx`, `weights.bin": "(onnx) from whole images, from normalised ones, and the weights "
    "of both",
    "preprocess.xml`, `model.xml`, and their `.bin": "(openvino)",
    "model.pt2`, `model-float.pt2`, `model-compiled.pt2": "(pt2)",
    "NAME/config.pbtxt`, `NAME/1/model.onnx": "(triton) a model repository",
    "index.html`, `app.js`, `ort/": "(web) a page that labels a dropped photograph",
}
