"""Which runtime computes a model: the one that is asked for, or the fastest that is installed and agrees."""

import threading
import time
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from typing import get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitrail.core.cache import cache_folder
from vitrail.core.device import Precision, RuntimeChoice, choose_precision, multiplies_bfloat16, processor_name
from vitrail.core.errors import BadInput
from vitrail.core.files import read_json, write_json
from vitrail.core.progress import say
from vitrail.models.build import Model
from vitrail.records.runtime import RuntimeInfo, RuntimeName, RuntimePrecision
from vitrail.runtimes.by_torch import TorchRuntime
from vitrail.runtimes.runtime import PACKAGES, Runtime, RuntimeOutput

NEEDS: dict[RuntimeName, tuple[str, ...]] = {"onnx": ("onnxruntime", "onnx", "onnxscript"), "openvino": ("openvino",)}

# of logits and of the representation: the norm of the difference to PyTorch's float32 over the norm of the latter
TOLERANCE: dict[RuntimePrecision, float] = {"float32": 1e-3, "bfloat16": 0.05}
CHECKED = 8  # images of the first batch that are computed twice
WORTH = 2000  # images from which `auto` looks at other runtimes than PyTorch: the first time, converting takes seconds
ROUNDS, SECONDS = 5, 4.0  # of the measurement


def open_runtime(
    model: Model,
    name: RuntimeChoice = "auto",
    precision: Precision = "auto",
    batch: int | None = None,
    images: int | None = None,
) -> Runtime:
    """A model as `vitrail.load` returns it, made ready to compute.

    Args:
        name: `auto` is the fastest on this machine by a measurement of seconds, kept in the cache folder, of those that
            are installed and agree with PyTorch.
        precision: `auto` is bfloat16 where the hardware multiplies it. ONNX Runtime computes in float32.
        batch: the images of each pass, see `Runtime`.
        images: that there are to compute, where it is known: `auto` is PyTorch for fewer than WORTH.

    Raises:
        BadInput: a runtime that is not installed, or has no such device or precision; one that does not agree.
    """
    device = next(model.parameters()).device
    held: RuntimePrecision = "bfloat16" if choose_precision(precision, device) == torch.bfloat16 else "float32"
    automatic = name == "auto"
    if name == "auto":
        name = "torch" if images is not None and images < WORTH else fastest_runtime(model, held, batch)
    runtime = _opened(model, name, held, batch, precision)
    return runtime if name == "torch" else CheckedRuntime(runtime, model, automatic)


class CheckedRuntime(Runtime):
    """A runtime whose first answers are compared with PyTorch's. If `auto` chose it and they differ, PyTorch goes on.

    Raises, with the first images:
        BadInput: they differ by more than TOLERANCE, and the runtime was asked for by its name.
    """

    def __init__(self, runtime: Runtime, model: Model, automatic: bool):
        super().__init__(runtime.precision, runtime.batch)
        self._runtime, self._model, self._automatic = runtime, model, automatic
        self.name = runtime.name
        self._checking = threading.Lock()
        self._difference: float | None = None

    def __call__(self, pixels: Float[Tensor, "b c y x"] | Float[np.ndarray, "b c y x"]) -> RuntimeOutput:
        """As `Runtime`."""
        with self._checking:
            if self._difference is None and not self.trusted and len(pixels):
                self._check(torch.as_tensor(pixels)[:CHECKED])
        return self._runtime(pixels)

    def compute(self, pixels: Float[Tensor, "b c y x"]) -> RuntimeOutput:
        """As `Runtime`."""
        return self._runtime.compute(pixels)

    def info(self) -> RuntimeInfo:
        """As `Runtime`."""
        return replace(self._runtime.info(), difference=self._difference, tolerance=TOLERANCE[self._runtime.precision])

    def _check(self, images: Float[Tensor, "b c y x"]) -> None:
        self._difference = difference(self._runtime(images), TorchRuntime(self._model, "float32").compute(images))
        if self._difference <= TOLERANCE[self.precision]:
            return
        sentence = (
            f"{self._runtime} differs from PyTorch by {self._difference:.2g} of the norm of its outputs, more than "
            f"{TOLERANCE[self.precision]:g}"
        )
        if not self._automatic:
            raise BadInput(f"{sentence}: take --runtime torch")
        say(f"{sentence}: PyTorch computes instead")
        self._runtime = TorchRuntime(self._model, self.precision, self.batch)
        self.name = "torch"


def installed(name: RuntimeName) -> bool:
    """True where all packages that a runtime needs can be imported."""
    return all(find_spec(package) for package in NEEDS.get(name, ()))


def _opened(
    model: Model, name: RuntimeName, held: RuntimePrecision, batch: int | None, asked: Precision = "auto"
) -> Runtime:
    if name == "torch":
        return TorchRuntime(model, held, batch)
    device = next(model.parameters()).device
    if device.type != "cpu":
        raise BadInput(f"--runtime {name} computes on the processor, and the model is on {device}: give --device cpu")
    if not installed(name):
        raise BadInput(
            f"--runtime {name} needs {', '.join(NEEDS[name])}: pip install 'vitrail[export]', or give --runtime torch"
        )
    if name == "onnx":
        if asked == "bfloat16":
            raise BadInput("ONNX Runtime computes in float32 on processors; take --runtime openvino for bfloat16")
        from vitrail.runtimes.by_onnx import OnnxRuntime

        return OnnxRuntime(model, batch)
    from vitrail.runtimes.by_openvino import OpenVINORuntime

    return OpenVINORuntime(model, held, batch)


def difference(output: RuntimeOutput, reference: RuntimeOutput) -> float:
    """The larger of the relative differences of logits and of the representation."""
    pairs = zip(output, reference, strict=True)
    return max(float((a.cpu() - b.cpu()).norm() / b.cpu().norm().clamp_min(1e-12)) for a, b in pairs)


def fastest_runtime(model: Model, held: RuntimePrecision, batch: int | None = None) -> RuntimeName:
    """The fastest of those that agree, for this architecture on this machine: measured once, then kept."""
    device = next(model.parameters()).device
    candidates = [name for name in _candidates(held) if installed(name)]
    if device.type != "cpu" or not candidates:
        return "torch"
    file = cache_folder() / "runtimes.json"
    versions = ", ".join(f"{PACKAGES[name]} {version(PACKAGES[name])}" for name in ("torch", *candidates))
    machine = f"{processor_name()}, {torch.get_num_threads()} threads, {versions}"
    config = replace(model.config, num_classes=0)
    key = f"{config}, {held}, batch {batch or 'any'}"
    known = _read(file)
    chosen = known.get(machine, {}).get(key)
    if chosen is not None and chosen in get_args(RuntimeName):
        return chosen
    chosen = measure_runtimes(model, held, ("torch", *candidates), batch)
    known = _read(file)  # another process may have measured meanwhile: the first one counts
    chosen = known.setdefault(machine, {}).setdefault(key, chosen)
    with suppress(OSError):
        write_json(file, known)
    return chosen


def _candidates(held: RuntimePrecision) -> tuple[RuntimeName, ...]:
    """ONNX Runtime's float32 is no match for units that multiply bfloat16."""
    return ("openvino",) if held == "bfloat16" and multiplies_bfloat16(torch.device("cpu")) else ("openvino", "onnx")


def _read(file: object) -> dict[str, dict[str, RuntimeName]]:
    try:
        known = read_json(file)  # type: ignore[arg-type]
    except (OSError, BadInput):
        return {}
    return known if isinstance(known, dict) and all(isinstance(v, dict) for v in known.values()) else {}


def measure_runtimes(
    model: Model, held: RuntimePrecision, names: tuple[RuntimeName, ...], batch: int | None = None
) -> RuntimeName:
    """Times the runtimes in turns on noise, and returns the fastest of those that agree."""
    generator = torch.Generator().manual_seed(0)
    config = model.config
    images = torch.rand(batch or CHECKED, config.channels, *config.resolution, generator=generator) * 2 - 1
    exact = TorchRuntime(model, "float32").compute(images)
    runtimes: list[Runtime] = []
    for name in names:
        with suppress(BadInput):
            runtime = _opened(model, name, held, batch)
            if name == "torch" or difference(runtime(images), exact) <= TOLERANCE[runtime.precision]:
                runtimes.append(runtime)
    best = {runtime.name: float("inf") for runtime in runtimes}
    end = time.perf_counter() + SECONDS
    for rounds in range(ROUNDS):
        if rounds >= 2 and time.perf_counter() > end:
            break
        for runtime in runtimes:
            start = time.perf_counter()
            runtime(images)
            best[runtime.name] = min(best[runtime.name], time.perf_counter() - start)
    return min(best, key=best.__getitem__)
