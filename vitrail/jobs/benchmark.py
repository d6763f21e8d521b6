"""How fast a model, or an exported folder, is computed here: by every runtime, each in a process of its own."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitrail.core.device import multiplies_bfloat16, peak_memory_gib, processor_name
from vitrail.core.errors import BadInput
from vitrail.core.progress import progress
from vitrail.export.instructions import instructions
from vitrail.export.speed import BATCHES, SECONDS, noise, speeds
from vitrail.records.benchmark import Benchmark, Measured
from vitrail.records.export import ExportInfo, Speed
from vitrail.records.record import as_json, load_record, parse_record, write_record
from vitrail.records.runtime import RuntimeName
from vitrail.runtimes.open_runtime import NEEDS, difference, installed, open_runtime
from vitrail.runtimes.runtime import PACKAGES

PROGRAM = "import sys; from vitrail.jobs.benchmark import measure_here; measure_here(*sys.argv[1:])"


@dataclass(frozen=True)
class BenchmarkConfig:
    """What is measured, and for how long."""

    model: str
    resolution: int | None = None
    batches: tuple[int, ...] = BATCHES
    seconds: float = SECONDS  # of each measurement
    compiled: bool = False  # torch.compile too, which takes a minute to start


def benchmark(config: BenchmarkConfig, folder: Path | None = None) -> Benchmark:
    """Measures, and writes benchmark.json into `folder` where one is given.

    Raises:
        BadInput: no such model or folder, or batches that are none.
    """
    if not config.batches or min(config.batches) < 1 or config.seconds <= 0:
        raise BadInput(f"--batches {config.batches} --seconds {config.seconds}: both must be above 0")
    exported = (Path(config.model) / "export.json").is_file()
    ways, left_out = (["export"], []) if exported else _ways(config.compiled)
    measured = []
    with progress("measuring", len(ways)) as bar:
        for way in ways:
            bar.advance(way, 0)
            measured.append(_measured(config, way))
            bar.advance()
    result = Benchmark(
        model=config.model,
        machine=processor_name(),
        instructions=instructions(),
        threads=torch.get_num_threads(),
        measured=measured,
        left_out=left_out,
    )
    if folder is not None:
        write_record(folder / "benchmark.json", result)
    return result


def _ways(compiled: bool) -> tuple[list[str], list[str]]:
    """ "runtime precision", PyTorch first; and what is left out."""
    both = ["float32", "bfloat16"] if multiplies_bfloat16(torch.device("cpu")) else ["float32"]
    ways = [f"torch {precision}" for precision in both]
    ways += [f"compiled {both[-1]}"] if compiled else []
    left_out = []
    for name, precisions in (("openvino", both), ("onnx", ["float32"])):
        if installed(name):  # type: ignore[arg-type]
            ways += [f"{name} {precision}" for precision in precisions]
        else:
            needs = ", ".join(NEEDS[name])  # type: ignore[index]
            left_out.append(f"{name} is left out: it needs {needs} (pip install 'vitrail[export]')")
    return ways, left_out


def _measured(config: BenchmarkConfig, way: str) -> Measured:
    told = json.dumps({**vars(config), "way": way, "began": time.time()})
    done = subprocess.run([sys.executable, "-c", PROGRAM, told], capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()
        raise BadInput(f"{config.model} cannot be measured by {way}: {last[-1] if last else done.returncode}")
    return parse_record(Measured, json.loads(done.stdout.splitlines()[-1]), way)


def measure_here(told: str) -> None:
    """Measures one way in this process, and prints the record."""
    asked: dict[str, Any] = json.loads(told)
    way, batches, seconds = str(asked["way"]), tuple(asked["batches"]), float(asked["seconds"])
    if way == "export":
        measured = _export(Path(asked["model"]), batches, seconds, asked["began"])
    else:
        measured = _runtime(asked, way, batches, seconds)
    print(json.dumps(as_json(measured)))


def _runtime(asked: dict[str, Any], way: str, batches: tuple[int, ...], seconds: float) -> Measured:
    from vitrail.runtimes.by_torch import TorchRuntime
    from vitrail.weights.load import load

    model = load(asked["model"], resolution=asked["resolution"])
    name, precision = way.split()
    runtime = open_runtime(model, "torch" if name == "compiled" else name, precision)  # type: ignore[arg-type]
    example = noise(model.config.channels, model.config.resolution)
    if name == "compiled":
        assert isinstance(runtime, TorchRuntime)
        runtime.model.compile()
    runtime.compute(torch.from_numpy(example(1)))
    start = time.time() - asked["began"]

    def run(pixels: np.ndarray) -> object:
        return runtime.compute(torch.from_numpy(pixels))

    found = speeds(way.replace(" ", ", "), run, example, batches, seconds)
    memory = peak_memory_gib(torch.device("cpu"))
    some = torch.from_numpy(example(4))
    exact = None if way == "torch float32" else TorchRuntime(model, "float32").compute(some)
    info = runtime.info()
    return Measured(
        name=found[0].name,
        version=info.version,
        attention=info.attention,
        start=start,
        memory_gib=memory,
        speed=found,
        difference=None if exact is None else difference(runtime.compute(some), exact),
    )


def _export(folder: Path, batches: tuple[int, ...], seconds: float, began: float) -> Measured:
    info = load_record(ExportInfo, folder / "export.json")
    library: RuntimeName
    match info.target:
        case "openvino":
            from vitrail.export.to_openvino import open_both

            session, library = open_both(folder, info.precision), "openvino"
        case "pt2":
            from vitrail.export.to_pt2 import open_pt2

            session, library = open_pt2(folder / "model.pt2", tuple(info.outputs)), "torch"
        case _:
            from vitrail.export.to_onnx import open_onnx

            session, library = open_onnx(next(folder.glob("**/model.onnx"))), "onnx"
    height, width = info.resolution
    rng = np.random.default_rng(0)

    def images(batch: int) -> np.ndarray:
        return rng.integers(0, 256, (batch, height * 5 // 4, width * 5 // 4, 3), dtype=np.uint8)

    session(images(1))
    start = time.time() - began
    found = speeds(f"{info.target}, {info.precision}, whole images", session, images, batches, seconds)
    return Measured(
        name=found[0].name,
        version=version(PACKAGES[library]),
        start=start,
        memory_gib=peak_memory_gib(torch.device("cpu")),
        speed=found,
        difference=None,
    )


def summary(result: Benchmark) -> str:
    """For people: a row for each way, images/s at batch 1 and at the best batch, and how they compare."""
    rows = [("", "batch 1", "best batch", "to the first", "start", "memory", "difference")]
    first = _best(result.measured[0].speed).images_per_second
    for one in result.measured:
        best = _best(one.speed)
        alone = next((row for row in one.speed if row.batch == 1), None)
        rows.append(
            (
                one.name,
                f"{alone.images_per_second:.1f}" if alone else "-",
                f"{best.images_per_second:.1f} ({best.batch})",
                f"{best.images_per_second / first:.2f}",
                f"{one.start:.1f} s",
                f"{one.memory_gib:.2f} GiB",
                "-" if one.difference is None else f"{one.difference:.1g}",
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [f"images/s on {result.machine}, {result.threads} threads ({', '.join(result.instructions)})"]
    for name, *cells in rows:
        numbers = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        lines.append("  ".join([name.ljust(widths[0]), *numbers]))
    return "\n".join([*lines, *result.left_out])


def _best(rows: Any) -> Speed:
    best: Speed = max(rows, key=lambda row: row.images_per_second)
    return best
