"""Images/s and the largest batch of a model on this machine, in inference and in training: a point of figure 12."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import inf
from pathlib import Path

import torch

from vitrail.core import device as devices
from vitrail.core.device import Machine
from vitrail.core.errors import BadInput
from vitrail.core.progress import progress
from vitrail.core.run import RunFolder, environment
from vitrail.data.loader.batch import Broken
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.models.build import Model, ModelConfig, build
from vitrail.models.cost import (
    inference_activations,
    multiply_adds,
    parameters,
    training_activations,
    training_flops,
    training_memory,
)
from vitrail.models.kernels import attention_kernel, training_kernel
from vitrail.models.vit import ViTConfig
from vitrail.records.record import as_json, load_record, write_record
from vitrail.records.run import Environment
from vitrail.records.study import ThroughputResult
from vitrail.train.config import TrainConfig
from vitrail.train.parallel import compiled, parallelize
from vitrail.train.profile import Pass, time_passes, training_pass
from vitrail.train.step import init_state

WARM = 2  # passes before the clock runs


@dataclass(frozen=True)
class Throughput:
    """A model and the batch sizes to measure it with; the fastest counts, as in figure 12."""

    model: ModelConfig = field(default_factory=ViTConfig)
    batches: tuple[int, ...] = (1, 8, 64, 512)  # that are tried, from small to large, as long as memory and time allow
    seconds: float = 5.0  # at least, for each batch size at rest and in training
    longest: float = 60.0  # seconds that a pass may take for the next batch size to be tried
    precision: devices.Precision = "auto"
    seed: int = 0


def measure_throughput(config: Throughput, folder: Path, machine: Machine | None = None) -> ThroughputResult:
    """Measures into `folder`, and returns the result.

    `largest_batch` is tried on CUDA, by halving and doubling. On a CPU nothing fails when memory runs out, it only gets
    slow or is killed: there it is reckoned from the free memory and `models.cost`, as `reckoned` says.

    Raises:
        BadInput: a model or batch sizes that cannot be used.
    """
    config.model.check()
    if not config.batches or min(config.batches) < 1:
        raise BadInput(f"batches is {config.batches}, expected sizes from 1 on, such as 1 8 64")
    machine = machine or Machine()
    found = devices.Device.find(machine.device, config.precision)
    device, dtype = found.device, found.dtype
    with RunFolder(folder, "speed", config) as run:
        if run.state == "finished":
            return load_record(ThroughputResult, run.path / "result.json")
        torch.manual_seed(config.seed)
        begun = time.perf_counter()
        model = build(config.model).to(device)
        how = {"attention": training_kernel(model, device, dtype), "compiled": compiled(machine, device)}
        write_record(run.path / "environment.json", Environment(**environment(**found.facts(), **how)))
        parallelize(model, machine, device, dtype)
        room = devices.available_memory(device)
        with progress("measuring speed", 2 * len(config.batches)) as bar:
            resting = _rates(model, config, dtype, False, bar.advance)
            training = _rates(model, config, dtype, True, bar.advance)
        largest = {kind: _largest(model, dtype, kind == "training", room) for kind in ("resting", "training")}
        best = max(resting.values(), default=0.0)
        trained = max(training.values(), default=0.0)
        result = ThroughputResult(
            seconds=time.perf_counter() - begun,
            parameters=parameters(config.model),
            macs_per_image=multiply_adds(config.model),
            training_flops_per_image=training_flops(config.model),
            images_per_second=best,
            training_images_per_second=trained,
            training_over_inference=best / trained if trained else None,
            by_batch={str(batch): rate for batch, rate in resting.items()},
            training_by_batch={str(batch): rate for batch, rate in training.items()},
            largest_batch=largest["resting"],
            largest_training_batch=largest["training"],
            reckoned=device.type != "cuda",
            attention=attention_kernel(config.model, device, dtype, training=False),
        )
        run.finish(as_json(result))
        return result


def _rates(
    model: Model, config: Throughput, dtype: torch.dtype, training: bool, done: Callable[[str], None]
) -> dict[int, float]:
    """Images a second for each batch size, until one takes too long or too much memory."""

    def tell(times: dict[int, float]) -> None:
        done(f"{max((batch / took for batch, took in times.items()), default=0):,.0f} images/s")

    device = next(model.parameters()).device
    make = partial(_training_pass if training else _forward_pass, model, dtype)
    times = time_passes(
        make, sorted(config.batches), device, seconds=config.seconds, longest=config.longest, warm=WARM, done=tell
    )
    return {batch: batch / took for batch, took in times.items()}


def _forward_pass(model: Model, dtype: torch.dtype, batch: int) -> Pass:
    device = next(model.parameters()).device
    images = torch.zeros(batch, model.config.channels, *model.config.resolution, device=device)

    def step() -> None:
        model.eval()
        with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            model(images)

    return step


def _training_pass(model: Model, dtype: torch.dtype, batch: int) -> Pass:
    config = TrainConfig("", steps=1_000_000, batch=batch)
    half = (0.5,) * model.config.channels
    preprocess = Preprocess(model.config.resolution, mean=half, std=half)
    return training_pass(init_state(model, config, Broken(1)), config, preprocess, dtype, batch)


def _largest(model: Model, dtype: torch.dtype, training: bool, room: int | None) -> int | None:
    """The most images at once: a power of two that works, on CUDA; what the free memory holds, on a CPU."""
    device = next(model.parameters()).device
    config = model.config
    if device.type == "cuda":
        return _tried(model, dtype, training)
    if room is None:
        return None
    number = devices.number_bytes(dtype)
    if training:
        return max(0, (room - training_memory(config, 0)) // training_activations(config, number))
    return room // inference_activations(config, number)


def _tried(model: Model, dtype: torch.dtype, training: bool) -> int:
    make = partial(_training_pass if training else _forward_pass, model, dtype)
    sizes = (1 << power for power in range(16))
    device = next(model.parameters()).device
    return max(time_passes(make, sizes, device, warm=0, longest=inf, limits=(RuntimeError,)), default=0)
