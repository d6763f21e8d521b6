"""What pre-training and fine-tuning share: restore, fit, go back where a batch breaks it, finish."""

from collections.abc import Callable, Sequence
from functools import partial
from math import isfinite
from typing import Any

from vitrail.core import device as devices
from vitrail.core import dist
from vitrail.core.device import Device, Machine
from vitrail.core.errors import BadInput
from vitrail.core.progress import say
from vitrail.core.run import RunFolder, environment
from vitrail.data.loader.batch import Broken
from vitrail.data.loader.loader import Batches, choose_workers, train_loader
from vitrail.data.loader.on_device import OnDeviceDataset
from vitrail.data.transforms.mixup import Mixing
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.jobs.training_data import Sources
from vitrail.jobs.training_finish import finish
from vitrail.jobs.training_job import TrainingJob
from vitrail.jobs.unlabelled_training import paint_now_and_then
from vitrail.models.kernels import training_kernel
from vitrail.models.objective import Learner, TrainedModel, encoder_of
from vitrail.models.objective_cost import flops_of
from vitrail.models.vit import cropped_border
from vitrail.records.record import write_record
from vitrail.records.run import Environment, FailedBatch, RunResult
from vitrail.train.callbacks import Callback, Evaluate, Log, Save
from vitrail.train.checkpoint import Saver, restore_checkpoint
from vitrail.train.config import TrainConfig
from vitrail.train.divergence import LossSpike, limit_skips
from vitrail.train.loop import fit
from vitrail.train.loss import LogitAdjusted, class_priors, class_weights
from vitrail.train.micro_batch import choose_micro_batch, retry_on_oom
from vitrail.train.parallel import (
    allreduce_wait,
    compiled,
    only_deterministic_kernels,
    parallelize,
    whole_norm,
)
from vitrail.train.step import TrainState, init_state, micro_batches, train_step
from vitrail.train.trainable import merge, trained_parameters, work_share
from vitrail.train.weight_averaging import use_averaged

REACHED = 0.7  # of the measured peak: training steps do not get further, so nobody asks for more images


def run_training(
    config: TrainConfig,
    run: RunFolder,
    model: TrainedModel,
    preprocess: Preprocess,
    data: Sources,
    machine: Machine,
    provenance: dict[str, Any],
    inside: bool = True,
    callbacks: Sequence[Callback] = (),
) -> RunResult:
    """Trains `model` in `run`, from its last checkpoint where there is one, and finishes; returns the result.

    Args:
        model: what is frozen in it stays. Without labels it is the encoder of a learner (models/objective.py).
        inside: whether the finished model is inspected (jobs/inspect.py).
        callbacks: called besides our own, before checkpoints are saved.
    """
    border = cropped_border(model.config)
    if border and run.writes:
        say(border)
    devices.release()  # compiled models of runs before this one are cycles, which wait for it
    device = Device.find(machine.device, config.precision)
    if machine.deterministic and device.device.type == "cuda":
        only_deterministic_kernels(model)
    model.to(device.device)
    fixed = config.fixed_parts is not None
    wrapped = parallelize(model, machine, device.device, device.dtype, config.precision == "float8", fixed)
    state = init_state(model, config, Broken(len(data[0])), wrapped)
    if config.class_weights is not None:
        counts = data[0].counts
        state.class_weights = class_weights(counts, config.class_weights).to(device.device)
    if isinstance(config.loss, LogitAdjusted):
        state.class_priors = class_priors(data[0].counts).to(device.device)
    saver = Saver(run.path / "checkpoints", run.saved)
    job = TrainingJob(config, run, preprocess, data, machine, device, provenance, saver)
    continued = restore_checkpoint(run.path / "checkpoints", state)
    resident = None
    if config.resident and not _ended(config, state):  # before the micro-batch, which takes the memory that is left
        resident = OnDeviceDataset(data[0], config.augment, preprocess, device.device)
    choose_micro_batch(state, config, device.dtype, run.path, machine.recompute)
    if machine.graphs and micro_batches(state, config, dist.world().size) > 1:
        raise BadInput(
            f"graphs needs a batch in one pass, {config.batch} take passes of {state.micro_batch}; leave it out"
        )
    if continued:
        if run.writes:
            say(f"continuing {run.path} from step {state.step} of {config.steps}")
    else:
        job.saver.save(state)  # where a run goes back to that breaks before its first save
    run.truncate_metrics(state.step)
    run.track(machine.track, state.step)
    workers = _workers(job, model)
    if run.writes:
        facts = environment(
            workers=workers,
            **device.facts(),
            peak_flops=device.peak_flops,
            attention=training_kernel(model, device.device, device.dtype),
            compiled=compiled(machine, device.device),
        )
        write_record(run.path / "environment.json", Environment(**facts))
    _ = device.peak_flops  # in every process before its memory counts, as what was tried above does not
    devices.reset_peak_memory(device.device)
    loader = partial(train_loader, data[0], config.augment, preprocess, workers=workers, device=device.device)
    _train(job, state, resident.batches if resident else loader, callbacks)
    job.saver.wait()
    work = {"trained_parameters": trained_parameters(model), "share": work_share(model)}
    with use_averaged(model, state.average):
        merge(model)
        return finish(job, state, work, inside)


def _ended(config: TrainConfig, state: TrainState) -> bool:
    return state.step >= config.steps or state.stopped


def _train(job: TrainingJob, state: TrainState, loader: Callable[..., Batches], callbacks: Sequence[Callback]) -> None:
    """From the state to the last step, going back to a checkpoint where a batch breaks the training."""
    config, machine, world = job.config, job.machine, dist.world()
    update = partial(train_step, config=config, preprocess=job.preprocess, dtype=job.device.dtype)
    while not _ended(config, state):
        batches = loader(
            batch=config.batch,
            seed=config.seed,
            start=state.step,
            stop=config.steps,
            rank=world.rank,
            world=world.size,
            sampling=config.sampling,
            predecessor=config.mixing != Mixing(),
        )
        try:
            fit(
                state,
                batches,
                retry_on_oom(update, job.run.path, not machine.graphs and config.fixed_parts is None),
                steps=config.steps,
                callbacks=_callbacks(job, state, callbacks),
                save=partial(_save, job, job.saver.save_now),
                stall=machine.stall,
                title=job.run.path.name,
            )
        except LossSpike as bad:
            job.saver.wait()
            _go_back(job.run, state, bad)


def _callbacks(job: TrainingJob, state: TrainState, own: Sequence[Callback]) -> list[Callback]:
    """What happens now and then, in this order. A checkpoint of a step is saved after all else of the step is done."""
    config, (train, validation, _) = job.config, job.data
    painted: list[Callback] = []
    if isinstance(state.model, Learner):
        where, shown = job.run.path, validation or train
        painted = [
            paint_now_and_then(
                where, shown, job.preprocess, seed=config.seed, every=config.evaluate_every, dtype=job.device.dtype
            )
        ]
    return [
        Log(config.log_every, job.run, config.batch / len(train), partial(_usage, job)),
        *([Evaluate(config.evaluate_every, job.run, partial(job.judge, source=validation))] if validation else []),
        *painted,
        *([job.keep_best(encoder_of(state.model))] if config.keep == "best" else []),
        *own,
        Save(config.save_every, partial(_save, job, job.saver.save)),
    ]


def _save(job: TrainingJob, save: Callable[[TrainState], None], state: TrainState) -> None:
    """What is logged of a step is safe before the step is."""
    job.run.sync_metrics()
    save(state)


def _usage(job: TrainingJob, state: TrainState, rate: float) -> dict[str, float | None]:
    """How the devices are used: shares of a step and of the peak, and memory."""
    wait = allreduce_wait(state.wrapped)
    flops = rate * flops_of(state.model) * work_share(state.model)
    return {
        "communicating": None if wait is None else wait * rate / job.config.batch,
        "flops_share": flops / (job.device.peak_flops * dist.world().size),
        "memory_gib": devices.peak_memory_gib(job.device.device),
    }


def _go_back(run: RunFolder, state: TrainState, bad: LossSpike) -> None:
    """To the last good checkpoint, to leave out the batch that broke the training; what it was stays in `failures/`."""
    folder = run.path / "failures" / f"step-{bad.step:08d}"
    norms = {name: whole_norm(p.detach()) for name, p in state.model.named_parameters()}
    keys = [key for part in dist.gathered_json(bad.keys) for key in part]
    skipped = [*state.skipped, bad.step]
    if run.writes:
        finite = {name: value if isfinite(value) else str(value) for name, value in norms.items()}
        failed = FailedBatch(step=bad.step, reason=bad.reason, images=keys, weights=finite)
        write_record(folder / "batch.json", failed)
        say(f"step {bad.step}: {bad.reason}; its batch is named in {folder}. Going back to the last checkpoint")
    limit_skips(state.skipped, bad, str(folder))
    if not restore_checkpoint(run.path / "checkpoints", state):
        raise BadInput(f"at step {bad.step} {bad.reason}, and there is no checkpoint to go back to")
    state.validation = None
    state.restarts -= 1  # it was not started again
    state.skipped[:] = skipped
    run.truncate_metrics(state.step)


def _workers(job: TrainingJob, model: TrainedModel) -> int:
    """How many processes make batches: as many as are asked for, or enough for the fastest training of the model."""
    if job.machine.workers is not None or job.config.resident:
        return job.machine.workers or 0
    rate = REACHED * job.device.peak_flops / flops_of(model)
    return choose_workers(job.data[0], job.config.augment, job.preprocess, rate)
