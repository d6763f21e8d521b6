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
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from vitrail.core import device as devices
from vitrail.core.config import from_json, to_json
from vitrail.core.device import Machine
from vitrail.core.errors import BadInput
from vitrail.core.run import RunFolder
from vitrail.data.loader.batch import Broken
from vitrail.data.loader.loader import choose_workers, train_loader
from vitrail.data.sources.base import Source
from vitrail.data.transforms.pipeline import Preprocess, Resize
from vitrail.jobs.forecast.decoding import decode
from vitrail.jobs.forecast.judging import TOGETHER, judge
from vitrail.jobs.forecast.noise import Noise
from vitrail.jobs.forecast.stepping import steps
from vitrail.jobs.inspect import look_inside
from vitrail.jobs.training import REACHED
from vitrail.jobs.training_data import open_training_data
from vitrail.models.build import ModelConfig, build
from vitrail.models.cost import (
    inference_activations,
    multiply_adds,
    parameters,
    training_activations,
    training_flops,
    training_memory,
)
from vitrail.models.resnet import ResNetConfig
from vitrail.train.checkpoint import Saver
from vitrail.train.config import TrainConfig
from vitrail.train.micro_batch import choose_micro_batch, fitting
from vitrail.train.parallel import parallelize
from vitrail.train.profile import timed
from vitrail.train.step import init_state
from vitrail.weights.bundle import save_bundle

WHOLE = 3.0  # seconds that a step may take and be tried whole
LIKELY = 0.2  # of the peak, that a training step reaches: only to guess what can be tried whole


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
