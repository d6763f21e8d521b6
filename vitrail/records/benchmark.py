"""A benchmark of inference (`vitrail benchmark MODEL --out DIR`)."""

from collections.abc import Sequence
from dataclasses import dataclass

from vitrail.records.export import Speed
from vitrail.records.record import Files, Record, optional


@dataclass(frozen=True, kw_only=True)
class Measured(Record):
    """One runtime in one precision, in a process of its own."""

    name: str
    version: str | None = optional()  # of the library that computed
    attention: str | None = optional()  # (PyTorch) kernel: fused (PyTorch's), products; null for a ResNet
    start: float  # seconds from the start of the process to the first answer
    memory_gib: float  # the most that the process held
    speed: Sequence[Speed]
    difference: float | None  # from PyTorch in float32, over the norm of the outputs


@dataclass(frozen=True, kw_only=True)
class Benchmark(Record):
    """Images a second of everything that computes a model here."""

    model: str  # MODEL, or a folder of `vitrail export`
    machine: str
    instructions: Sequence[str]  # of the processor, that matter here
    threads: int
    measured: Sequence[Measured]
    left_out: Sequence[str]  # sentences: what is not installed


FILES: Files = {"benchmark.json": Benchmark}
