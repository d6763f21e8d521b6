"""What pre-training and fine-tuning share: open the data, restore, fit, judge, and leave a bundle."""

import os
from dataclasses import replace
from functools import partial
from math import isfinite
from typing import Any

import numpy as np
import torch

from vitrail.core import device as devices
from vitrail.core import dist
from vitrail.core.device import Machine
from vitrail.core.dist import launched
from vitrail.core.errors import BadInput, nearest
from vitrail.core.files import write_json
from vitrail.core.progress import say
from vitrail.core.run import RunFolder, environment
from vitrail.data.loader.loader import Batches, Broken, choose_workers, train_loader
from vitrail.data.loader.on_device import OnDeviceDataset, check_fits_device
from vitrail.data.loader.sampler import distinct
from vitrail.data.open.names import Role, open_data, require_classes
from vitrail.data.sources.base import Source
from vitrail.data.sources.subset import Subset
from vitrail.data.transforms.mixup import Mixing
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.evals.classify import Evaluation, evaluate
from vitrail.jobs.inspect import look_inside
from vitrail.models.build import Model
from vitrail.models.cost import multiply_adds, parameters, training_flops
from vitrail.models.vit import cropped_border
from vitrail.train.checkpoint import Saver, restore_checkpoint
from vitrail.train.divergence import LossSpike, limit_skips
from vitrail.train.loop import Every, Meter, fit
from vitrail.train.loss import class_weights
from vitrail.train.micro_batch import choose_micro_batch, retry_on_oom
from vitrail.train.parallel import allreduce_wait, parallelize, whole_model, whole_norm
from vitrail.train.schedule import Rsqrt, Steps
from vitrail.train.step import TrainConfig, TrainState, init_state, micro_batches, train_step
from vitrail.train.trainable import merge, trained_parameters, work_share
from vitrail.train.weight_averaging import use_averaged
from vitrail.weights.bundle import save_bundle

REACHED = 0.7  # of the measured peak: training steps do not get further, so nobody asks for more images


def open_training_data(config: TrainConfig) -> tuple[Source, Source | None, Source | None]:
    """The sources of train, validation and test.

    Raises:
        BadInput: no data, fewer than two classes, or classes that differ from those of the training data.
    """
    train = open_data(config.train, "train")
    require_classes(train, config.train)
    return train, _same_classes(config.validation, train), _same_classes(config.test, train)


def _same_classes(name: str | None, train: Source, role: Role = "test") -> Source | None:
    if name is None:
        return None
    source = open_data(name, role)
    for extra in source.classes:
        if extra not in train.classes:
            raise BadInput(f"{name} has the class {extra!r}, which train lacks{nearest(extra, train.classes)}")
    if source.classes == train.classes:
        return source
    return Subset(source, np.arange(len(source)), train.classes)  # other order, or some classes absent


def check_training(config: TrainConfig) -> None:
    """Raises BadInput for numbers that make no sense, before any work."""
    for name in ("steps", "batch", "log_every", "evaluate_every", "save_every"):
        if getattr(config, name) < 1:
            raise BadInput(f"{name} is {getattr(config, name)}, expected at least 1")
    if config.micro_batch is not None and config.micro_batch < 1:
        raise BadInput(f"micro_batch is {config.micro_batch}, expected at least 1")
    if config.clip is not None and config.clip <= 0:
        raise BadInput(f"clip is {config.clip}, expected above 0, such as 1; leave it out for none")
    if not config.optimizer.lr >= 0:
        raise BadInput(f"the learning rate is {config.optimizer.lr}, expected 0 or more")
    if config.seed < 0:
        raise BadInput(f"seed is {config.seed}, expected a number from 0")
    if config.schedule.warmup > config.steps:
        raise BadInput(f"a warm-up of {config.schedule.warmup} steps is longer than the run of {config.steps}")
    if config.average is not None and not 0 < config.average < 1:
        raise BadInput(f"average is {config.average}, expected between 0 and 1, such as 0.9999")
    if isinstance(config.schedule, (Rsqrt, Steps)):
        config.schedule.check()
    config.augment.check()
    if config.resident:
        check_fits_device(config.augment)
    config.mixing.check()
    distinct(config.batch, config.sampling.repeats)
    processes = launched().size
    if config.batch < processes:
        raise BadInput(f"a batch of {config.batch} images cannot be shared by {processes} processes")


def run_training(
    config: TrainConfig,
    run: RunFolder,
    model: Model,
    preprocess: Preprocess,
    data: tuple[Source, Source | None, Source | None],
    machine: Machine,
    provenance: dict[str, Any],
    inside: bool = True,
) -> dict[str, Any]:
    """Trains `model` in `run`, from its last checkpoint where there is one, and finishes; returns the result.

    What is frozen stays; `inside`: whether the finished model is looked into (jobs/inspect.py).
    """
    border = cropped_border(model.config)
    if border and run.writes:
        say(border)
    device = devices.choose_device(machine.device)
    devices.reset_peak_memory(device)
    dtype = devices.choose_precision(config.precision, device)
    if machine.deterministic and device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    runner = parallelize(model.to(device), machine, device, dtype, config.precision == "float8")
    state = init_state(model, config, Broken(len(data[0])), runner)
    if config.class_weights is not None:
        counts = np.bincount(data[0].labels, minlength=len(data[0].classes))
        state.weights = class_weights(counts, config.class_weights).to(device)
    saver = Saver(run.path / "checkpoints")
    continued = restore_checkpoint(run.path / "checkpoints", state)
    unfinished = state.step < config.steps
    held = OnDeviceDataset(data[0], config.augment, preprocess, device) if config.resident and unfinished else None
    choose_micro_batch(state, config, dtype, run.path, machine.recompute)
    if machine.graphs and micro_batches(state, config, dist.world().size) > 1:
        raise BadInput(
            f"--graphs needs a batch in one pass, {config.batch} take passes of {state.micro_batch}; leave it out"
        )
    if continued:
        if run.writes:
            say(f"continuing {run.path} from step {state.step} of {config.steps}")
    else:
        saver.save(state)  # where a run goes back to that breaks before its first save
    run.rewind_metrics(state.step)
    run.track(machine.track, state.step)
    workers = _workers(config, machine, model, preprocess, data[0], devices.peak_flops(device, dtype))
    facts = _environment(device, dtype, workers)
    if run.writes:
        write_json(run.path / "environment.json", facts)
    while state.step < config.steps:
        try:
            _fit(config, run, state, preprocess, data, machine, dtype, saver, facts, held)
        except LossSpike as bad:
            saver.wait()
            _go_back(run, state, bad)
    saver.wait()
    facts |= {"trained_parameters": trained_parameters(state.model), "work": work_share(state.model), "inside": inside}
    with use_averaged(state.model, state.average):
        merge(state.model)
        return _finish(config, run, state, preprocess, data, facts, provenance, machine)


def _fit(
    config: TrainConfig,
    run: RunFolder,
    state: TrainState,
    preprocess: Preprocess,
    data: tuple[Source, Source | None, Source | None],
    machine: Machine,
    dtype: torch.dtype,
    saver: Saver,
    facts: dict[str, Any],
    held: OnDeviceDataset | None,
) -> None:
    """From the state to the last step; `facts` are of the environment, `held` the data where resident."""
    train, validation, _ = data
    here = dist.world()
    meter = Meter()
    made = partial(train_loader, train, config.augment, preprocess, workers=facts["workers"])
    made = partial(made, device=next(state.model.parameters()).device)
    batches: Batches = (held.batches if held else made)(
        batch=config.batch,
        seed=config.seed,
        start=state.step,
        stop=config.steps,
        rank=here.rank,
        world=here.size,
        sampling=config.sampling,
        predecessor=config.mixing != Mixing(),
    )

    def log(state: TrainState) -> None:
        epoch = state.step * config.batch / len(train)
        row: dict[str, float | None] = dict(meter.read(state))
        if row:
            row |= _machine_row(config, state, row["images_per_second"] or 0.0, facts["peak_flops"] * here.size)
            row |= {"seconds": state.seconds, "session": state.restarts}
            run.log({"kind": "train", "step": state.step, "epoch": epoch, **row})

    def judge(state: TrainState) -> None:
        if validation is not None:
            with use_averaged(state.model, state.average):
                seen = evaluate(
                    state.model, validation, preprocess, dtype=dtype, workers=machine.workers, together=True
                )
            row = {"accuracy": seen.accuracy, "loss": seen.loss, "count": seen.count, "seconds": state.seconds}
            run.log({"kind": "validation", "step": state.step, **row})

    fit(
        state,
        batches,
        retry_on_oom(
            partial(train_step, config=config, preprocess=preprocess, dtype=dtype), run.path, not machine.graphs
        ),
        steps=config.steps,
        meter=meter,
        every=[
            Every(config.log_every, log, aside=False),
            Every(config.evaluate_every, judge),
            Every(config.save_every, saver.save),
        ],
        save=saver.save_now,
        stall=machine.stall,
        title=run.path.name,
    )


def _machine_row(config: TrainConfig, state: TrainState, rate: float, peak: float) -> dict[str, float | None]:
    """How the devices are used: shares of a step and of the peak, and memory."""
    device = next(state.model.parameters()).device
    spoken = allreduce_wait(state.runner)
    return {
        "communicating": None if spoken is None else spoken * rate / config.batch,
        "flops_share": rate * training_flops(state.model.config) * work_share(state.model) / peak,
        "memory_gib": devices.peak_memory_gib(device),
    }


def _go_back(run: RunFolder, state: TrainState, bad: LossSpike) -> None:
    """To the last good checkpoint, to leave out the batch that broke the training; what it was stays in `failures/`."""
    folder = run.path / "failures" / f"step-{bad.step:08d}"
    norms = {name: whole_norm(p.detach()) for name, p in state.model.named_parameters()}
    keys = [key for part in dist.gathered_json(bad.keys) for key in part]
    skipped = [*state.skipped, bad.step]
    if run.writes:
        finite = {name: value if isfinite(value) else str(value) for name, value in norms.items()}
        write_json(folder / "batch.json", {"step": bad.step, "reason": bad.reason, "images": keys, "weights": finite})
        say(f"step {bad.step}: {bad.reason}; its batch is named in {folder}. Going back to the last checkpoint")
    limit_skips(state.skipped, bad, str(folder))
    if not restore_checkpoint(run.path / "checkpoints", state):
        raise BadInput(f"at step {bad.step} {bad.reason}, and there is no checkpoint to go back to")
    state.restarts -= 1  # it was not started again
    state.skipped[:] = skipped
    run.rewind_metrics(state.step)


def _workers(
    config: TrainConfig, machine: Machine, model: Model, preprocess: Preprocess, train: Source, peak: float
) -> int:
    """How many processes make batches: as many as are asked for, or enough for the fastest training of the model."""
    if machine.workers is not None or config.resident:
        return machine.workers or 0
    return choose_workers(train, config.augment, preprocess, REACHED * peak / training_flops(model.config))


def _environment(device: torch.device, dtype: torch.dtype, workers: int) -> dict[str, Any]:
    return environment(
        workers=workers,
        processor=devices.describe_device(device),
        threads=torch.get_num_threads(),
        device=str(device),
        precision=str(dtype).removeprefix("torch."),
        memory_gib=devices.memory_gib(device),
        peak_flops=devices.peak_flops(device, dtype),
    )


def _finish(
    config: TrainConfig,
    run: RunFolder,
    state: TrainState,
    preprocess: Preprocess,
    data: tuple[Source, Source | None, Source | None],
    facts: dict[str, Any],
    provenance: dict[str, Any],
    machine: Machine,
) -> dict[str, Any]:
    """Final evaluation, bundle, inspection, result: each whole, so a kill here repeats little."""
    train, validation, test = data
    held_out, named = test or validation, config.test or config.validation or ""
    device = next(state.model.parameters()).device
    dtype = devices.choose_precision(config.precision, device)
    judged: Evaluation | None = None
    if held_out is not None:
        judged = evaluate(
            state.model,
            held_out,
            preprocess,
            dtype=dtype,
            workers=machine.workers,
            title="final evaluation",
            together=True,
        )
    model = whole_model(state.model)
    if not run.writes:
        dist.barrier()  # until the first process has written everything
        return run.result()
    about = {**provenance, "trained_on": config.train, "steps": state.step, "vitrail": facts["vitrail"]}
    digest = save_bundle(run.path / "bundle", model, preprocess, train.classes, about)
    if judged is not None and held_out is not None:
        judged.write(run.path / "evaluation", named, str(run.path / "bundle"))
        if facts["inside"]:
            where = run.path / "inspection"
            look_inside(model, preprocess, train.classes, held_out, where, name=str(run.path / "bundle"))
    rows = [row for row in run.metrics() if row["kind"] == "train"]
    images = (state.step - len(state.skipped)) * config.batch
    flops = round(training_flops(model.config) * facts["work"])
    rate = images / state.seconds
    processes = dist.world().size
    run.finish(
        {
            "job": provenance["job"],
            "steps": state.step,
            "images": images,
            "seconds": state.seconds,
            "images_per_second": rate,
            "waiting": state.waited / state.seconds,
            "processes": processes,
            "parameters": parameters(model.config),
            "trained_parameters": facts["trained_parameters"],
            "macs_per_image": multiply_adds(model.config),
            "training_flops_per_image": flops,
            "total_flops": flops * images,
            "flops_share": flops * rate / (facts["peak_flops"] * processes),
            "memory_gib": max((row["memory_gib"] for row in rows if row.get("memory_gib")), default=None),
            "loss": rows[-1]["loss"] if rows else None,
            "accuracy": judged.accuracy if judged else None,
            "interval": list(judged.interval) if judged else None,
            "count": judged.count if judged else None,
            "broken": state.broken.rows(),
            "skipped": state.skipped,
            "restarts": state.restarts,
            "weights_sha256": digest,
        }
    )
    dist.barrier()
    return run.result()


def with_classes(config: Any, classes: int) -> Any:
    """The model config for data of so many classes; raises BadInput when it was given another number."""
    if config.num_classes not in (0, classes):
        raise BadInput(f"the model is to have {config.num_classes} classes, the training data have {classes}")
    return replace(config, num_classes=classes)
