"""The cost of a training run, measured on its first steps in a process of its own, whose peak memory is the run's.

What is too slow to be tried whole is tried with a part of the batch, or with the first layers of the model, and scaled
by `vitrail.models.cost`. `vitrail.jobs.forecast.forecast` adds the parts up for a whole run.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from io import BytesIO
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vitrail.core import device as devices
from vitrail.core.config import from_json, to_json
from vitrail.core.device import Machine
from vitrail.core.errors import BadInput
from vitrail.core.run import RunFolder
from vitrail.data.loader.batch import Broken
from vitrail.data.loader.loader import choose_workers, train_loader
from vitrail.data.loader.on_device import OnDeviceDataset
from vitrail.data.sources.base import Example, Source
from vitrail.data.sources.subset import Subset
from vitrail.data.transforms.mixup import Mixing
from vitrail.data.transforms.pipeline import Augment, Preprocess, Resize
from vitrail.evals.classify import evaluate
from vitrail.evals.inference import LOADER_FROM
from vitrail.jobs.inspect import look_inside
from vitrail.jobs.training import REACHED
from vitrail.jobs.training_data import open_training_data
from vitrail.models.build import Model, ModelConfig, build
from vitrail.models.cost import (
    inference_activations,
    multiply_adds,
    parameters,
    training_activations,
    training_flops,
    training_memory,
)
from vitrail.models.resnet import ResNetConfig
from vitrail.train.callbacks import Every
from vitrail.train.checkpoint import Saver
from vitrail.train.config import TrainConfig
from vitrail.train.loop import fit
from vitrail.train.micro_batch import choose_micro_batch, fitting
from vitrail.train.parallel import parallelize
from vitrail.train.profile import timed
from vitrail.train.step import TrainState, init_state, train_step
from vitrail.weights.bundle import save_bundle

WHOLE = 3.0  # seconds that a step may take and be tried whole
LIKELY = 0.2  # of the peak, that a training step reaches: only to guess what can be tried whole
SECONDS = 4.0  # that steps are timed for, and half of that an evaluation
WARM = 3  # steps before the clock runs
DECODED = 2048, 8192  # images of a resident set that are decoded: the first read from disk what all lie in
TOGETHER = 256  # images of a pass of an evaluation


@dataclass(frozen=True)
class Task:
    """The run whose cost is measured."""

    training: TrainConfig
    model: ModelConfig
    resize: Resize
    machine: Machine
    train_images: int
    judged_images: int  # of the larger of validation and test


@dataclass(frozen=True)
class MeasuredCost:
    """Seconds and bytes of the parts of a run."""

    start_seconds: float  # until the first step: imports, data, model; decoding apart
    decode_seconds: float  # of a resident set, all of it
    step_seconds: float
    evaluation_start: float  # seconds before its first image
    evaluation_image: float  # seconds for each
    save_seconds: float
    finish_seconds: float  # the bundle and the look inside
    memory: int  # bytes at the peak
    data: str  # "its own" or "random images"
    measured: str  # "whole", or "part" where part of the batch or of the model was scaled up


def measure_in_subprocess(task: Task, threads: int | None = None) -> MeasuredCost:
    """Tries the beginning of the run in a process of its own, for about ten seconds; the same task only once.

    Args:
        threads: of the process; None: as many as PyTorch chooses.

    Raises:
        BadInput: a model or a machine that cannot be used.
    """
    return _calibrated(json.dumps(to_json(task)), threads)


@lru_cache(maxsize=256)
def _calibrated(task: str, threads: int | None) -> MeasuredCost:
    variables = dict(os.environ) if threads is None else {**os.environ, "OMP_NUM_THREADS": str(threads)}
    told = json.dumps({"began": time.time(), "task": json.loads(task)})
    command = [sys.executable, "-m", "vitrail.jobs.forecast.measure"]
    done = subprocess.run(command, input=told, capture_output=True, text=True, env=variables, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise BadInput(last if done.returncode == 2 else f"the beginning of the run fails here: {last}")
    calibration: MeasuredCost = from_json(MeasuredCost, json.loads(done.stdout.splitlines()[-1]))
    return calibration


def measure(task: Task, began: float) -> MeasuredCost:
    """Tries the beginning of the run in this process, which began at `began` of `time.time`."""
    config, machine = task.training, task.machine
    found = devices.Device.find(machine.device, config.precision)
    device, dtype, peak = found.device, found.dtype, found.peak_flops
    tried = _affordable(task.model, peak)
    each = training_flops(tried) / (LIKELY * peak)
    at_once = _at_once(task, device, dtype)
    images = max(2, min(at_once, int(WHOLE / each)))
    config = replace(config, batch=images, micro_batch=images)
    preprocess = Preprocess(tried.resolution, task.resize)
    with tempfile.TemporaryDirectory() as place, RunFolder(Path(place) / "run", "calibration", config) as run:
        train, held_out, data = _opened(task)
        model = build(tried)
        wrapped = parallelize(model.to(device), machine, device, dtype, config.precision == "float8")
        state = init_state(model, config, Broken(len(train)), wrapped)
        decoded = decode(train, task.train_images, config.augment, preprocess, device) if config.resident else None
        choose_micro_batch(state, config, dtype, run.path, machine.recompute)
        saver = Saver(run.path / "checkpoints")
        first = timed(lambda: saver.save_now(state))
        run.track((), 0)
        batches: Any = decoded.part.batches if decoded else None
        if batches is None:
            rate = REACHED * peak / training_flops(tried)
            workers = machine.workers
            workers = choose_workers(train, config.augment, preprocess, rate) if workers is None else workers
            batches = partial(train_loader, train, config.augment, preprocess, workers=workers, device=device)
        ready = time.time() - began - (decoded.spent if decoded else 0.0)
        stepping = steps(state, config, batches, preprocess, dtype)
        judging = judge(
            *(model, held_out, task.judged_images, preprocess),
            likely=each / 3,
            dtype=dtype,
            workers=machine.workers,
        )
        save = timed(lambda: saver.save(state))
        saver.wait()
        finish = timed(lambda: save_bundle(run.path / "bundle", model, preprocess, train.classes, {}))
        if task.judged_images:
            where = run.path / "inspection"
            finish += timed(lambda: look_inside(model, preprocess, train.classes, held_out, where, name="tried"))
        held = int(devices.peak_memory_gib(device) * 2**30)
    number = devices.number_bytes(dtype)
    deeper = training_activations(task.model, number) - training_activations(tried, number)
    grown = (at_once - images) * max(stepping.bytes_each, 0.0) + at_once * deeper
    judged = max(0, min(TOGETHER, task.judged_images) - judging.images) * inference_activations(task.model, number)
    heavier = parameters(task.model) / parameters(tried)
    longer = multiply_adds(task.model) / multiply_adds(tried)
    return MeasuredCost(
        start_seconds=ready + stepping.first + (heavier - 1) * first,
        decode_seconds=decoded.seconds if decoded else 0.0,
        step_seconds=longer * _scaled(stepping.seconds, stepping.of_half, images, task.training.batch),
        evaluation_start=judging.start,
        evaluation_image=longer * judging.each,
        save_seconds=heavier * save,
        finish_seconds=heavier * finish,
        memory=held
        + int(max(grown, judged, 0.0))
        + training_memory(task.model, 0)
        - training_memory(tried, 0)
        + (decoded.missing if decoded else 0),
        data=data,
        measured="whole" if (tried, images) == (task.model, task.training.batch) else "part",
    )


def _scaled(seconds: float, of_half: float, images: int, batch: int) -> float:
    """Seconds of a step with `batch` images: an update of the weights, and as much as it takes for each image."""
    if images == batch:
        return seconds
    each = max(0.0, seconds - of_half) / (images - images // 2) or seconds / images
    return max(0.0, seconds - images * each) + batch * each


def _affordable(model: ModelConfig, peak: float) -> ModelConfig:
    """The model, or its first layers where its weights or a few images of it are too much to be tried."""
    room = devices.available_memory(torch.device("cpu")) or 1 << 34
    if training_memory(model, 0) < room / 3 and training_flops(model) < WHOLE * LIKELY * peak / 8:
        return model
    if isinstance(model, ResNetConfig):
        return replace(model, stages=replace(model.stages, units=(1,) * len(model.stages.units)))
    return replace(model, depth=min(model.depth, 2))


def _at_once(task: Task, device: torch.device, dtype: torch.dtype) -> int:
    """How many images the run takes in a forward pass, as vitrail.train.micro_batch settles it."""
    batch, given = task.training.batch, task.training.micro_batch
    return min(batch, given or fitting(task.model, batch, device, dtype, recompute=task.machine.recompute))


def _opened(task: Task) -> tuple[Source, Source, str]:
    """The images to learn from, those to judge, and whose they are."""
    classes = max(2, task.model.num_classes)
    try:
        train, validation, test = open_training_data(task.training)
        if len(train.classes) == classes:
            return train, validation or test or train, "its own"
    except BadInput:
        pass  # not on this machine
    size = task.model.resolution
    noise = Noise(max(classes, task.train_images), size, classes)
    return noise, Noise(max(classes, task.judged_images), size, classes), "random images"


class Noise(Source):
    """Soft noise as JPEG, in place of images that are not on this machine: 64 of them, again and again."""

    def __init__(self, count: int, size: tuple[int, int], classes: int):
        rng = np.random.default_rng(0)
        self.classes = tuple(str(i) for i in range(classes))
        self.labels = np.arange(count, dtype=np.int64) % classes
        self._images = []
        for _ in range(64):
            small = rng.integers(0, 256, (-(-size[0] // 8), -(-size[1] // 8), 3), dtype=np.uint8)
            buffer = BytesIO()
            Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
            self._images.append(buffer.getvalue())

    def __getitem__(self, index: int) -> Example:
        return Example(self._images[index % len(self._images)], int(self.labels[index]), str(index))


@dataclass(frozen=True)
class Decoded:
    """A part of a resident set, and what the whole of it takes."""

    part: OnDeviceDataset
    seconds: float  # of the whole
    spent: float  # seconds here
    missing: int  # bytes of the images that were not decoded here, and of the files that they lie in


def decode(train: Source, images: int, augment: Augment, preprocess: Preprocess, device: torch.device) -> Decoded:
    """Decodes a part of `images` images to the device."""
    known = min(len(train), images)
    bounds = [0, *[n for n in DECODED if n < known]]
    bounds = bounds if len(bounds) == 1 + len(DECODED) else [0, known]
    parts, spent, grown = [], [], []
    for low, high in pairwise(bounds):
        before, begun = resident_memory(), time.perf_counter()
        parts.append(OnDeviceDataset(Subset(train, np.arange(low, high)), augment, preprocess, device))
        spent.append(time.perf_counter() - begun)
        grown.append(resident_memory() - before)
    last = bounds[-1] - bounds[-2]
    rest = images - bounds[-1]
    pixels = parts[-1].images[0].numel()
    # twice the pixels and more would be the allocator, not the files
    bytes_each = min(max(grown[-1] / last, pixels), 2 * pixels) if device.type == "cpu" else pixels
    return Decoded(parts[-1], sum(spent) + rest * spent[-1] / last, sum(spent), int(rest * bytes_each))


def resident_memory() -> int:
    """Bytes of memory that this process has now; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


@dataclass(frozen=True)
class Stepping:
    """Time and memory of training steps."""

    seconds: float
    of_half: float  # seconds of a step with half as many images
    first: float  # seconds that the first steps took longer: workers that start, kernels that are chosen
    bytes_each: float  # that one more image in a forward pass takes at the peak of memory


def steps(
    state: TrainState, config: TrainConfig, batches: Callable[..., Any], preprocess: Preprocess, dtype: torch.dtype
) -> Stepping:
    """Trains for some seconds. `batches`: as `train_loader`, of `init_state`, `stop` and the rest."""
    device = next(state.model.parameters()).device
    half = replace(config, batch=max(1, config.batch // 2))
    run = partial(_train, state, batches=batches, preprocess=preprocess, dtype=dtype)
    begun = time.perf_counter()
    of_half = run(half, 1, 1)
    first = max(0.0, time.perf_counter() - begun - 2 * of_half)
    before = devices.peak_memory_gib(device)
    once = run(config, 1, WARM)
    bytes_each = (devices.peak_memory_gib(device) - before) * 2**30 / max(1, config.batch - half.batch)
    seconds = run(config, max(2, min(1000, ceil(SECONDS / max(once, 1e-3)))), 1)
    return Stepping(seconds, of_half, first, bytes_each)


def _train(
    state: TrainState,
    config: TrainConfig,
    count: int,
    warm: int,
    *,
    batches: Callable[..., Any],
    preprocess: Preprocess,
    dtype: torch.dtype,
) -> float:
    """Seconds of one of `count` steps, after some that warm up workers and kernels."""
    clock, stop = state.step + warm, state.step + warm + count
    device = next(state.model.parameters()).device
    marks: list[float] = []

    def mark(state: TrainState) -> None:
        if state.step in (clock, stop):
            devices.synchronize(device)
            marks.append(time.perf_counter())

    made = batches(
        batch=config.batch,
        seed=config.seed,
        start=state.step,
        stop=stop,
        sampling=config.sampling,
        predecessor=config.mixing != Mixing(),
    )
    update = partial(train_step, config=config, preprocess=preprocess, dtype=dtype)
    fit(state, made, update, steps=stop, callbacks=[Every(1, mark, pause_clock=False)], save=lambda _: None)
    return (marks[-1] - marks[0]) / count


@dataclass(frozen=True)
class Judging:
    """Time of an evaluation."""

    start: float  # seconds before its first image
    each: float  # seconds an image
    images: int  # that were judged here


def judge(
    model: Model,
    source: Source,
    images: int,
    preprocess: Preprocess,
    *,
    likely: float,
    dtype: torch.dtype,
    workers: int | None,
) -> Judging:
    """Judges some of `images` images, as many as take two seconds if one takes `likely` seconds."""
    count = max(2, min(images, max(LOADER_FROM, 2 * TOGETHER), int(SECONDS / 2 / likely)))
    few = max(1, min(count // 2, TOGETHER))
    spent = []
    for n in (few, count):
        part = Subset(source, np.arange(n) % len(source))
        spent.append(timed(partial(evaluate, model, part, preprocess, dtype=dtype, workers=workers)))
    if workers is None and images >= LOADER_FROM > few:  # of the two only one starts processes
        each = spent[0] / few
        return Judging(max(0.0, spent[1] - each * count), each, count)
    each = max(0.0, spent[1] - spent[0]) / (count - few) if count > few else spent[1]
    return Judging(max(0.0, spent[1] - each * count), each, count)


def main() -> None:
    """Reads {"began", "task"} from standard input, writes a MeasuredCost to standard output; exit code 2: bad input."""
    told = json.load(sys.stdin)
    try:
        measured = measure(from_json(Task, told["task"]), told["began"])
    except BadInput as problem:
        print(str(problem).splitlines()[0], file=sys.stderr)
        sys.exit(2)
    print(json.dumps(to_json(measured)))


if __name__ == "__main__":
    main()
