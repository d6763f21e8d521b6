"""What pre-training and fine-tuning share: open the data, restore, fit, judge, and leave a bundle."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from math import isfinite
from pathlib import Path
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
from vitrail.data.sources.base import Source
from vitrail.data.transforms.mixup import Mixing
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.evals.classify import Evaluation, evaluate
from vitrail.evals.multi_label import MultiLabelEvaluation, evaluate_multi_label
from vitrail.jobs.inspect import look_inside
from vitrail.jobs.training_data import Sources, usual_thresholds
from vitrail.jobs.unlabelled_training import NAMES, paint_now_and_then, parts_of
from vitrail.models.build import Model
from vitrail.models.cost import multiply_adds, parameters
from vitrail.models.kernels import training_kernel
from vitrail.models.objective import Learner, TrainedModel, encoder_of
from vitrail.models.objective_cost import flops_of
from vitrail.models.vit import cropped_border
from vitrail.records.multi_label import Thresholds
from vitrail.records.record import as_json, load_record, parse_record, write_record
from vitrail.records.run import Environment, FailedBatch, ObjectiveResult, RunResult
from vitrail.train.callbacks import Callback, Evaluate, KeepBest, Log, Save
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
    whole_model,
    whole_norm,
)
from vitrail.train.reconstruct import judge_objective
from vitrail.train.step import TrainState, init_state, micro_batches, train_step
from vitrail.train.trainable import merge, trained_parameters, work_share
from vitrail.train.weight_averaging import use_averaged
from vitrail.weights.bundle import save_bundle

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
    job = _Job(config, run, preprocess, data, machine, device, provenance, saver)
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
        return _finish(job, state, work, inside)


@dataclass(frozen=True)
class _Job:
    """What a training run is made of."""

    config: TrainConfig
    run: RunFolder
    preprocess: Preprocess
    data: Sources
    machine: Machine
    device: Device
    provenance: dict[str, Any]
    saver: Saver

    def evaluate(self, model: Model, source: Source, title: str = "evaluating") -> Evaluation | MultiLabelEvaluation:
        """By all processes together; where bits are not to depend on their number, by each alone."""
        workers, dtype, together = self.machine.workers, self.device.dtype, self.config.fixed_parts is None
        if source.multi_label:
            return evaluate_multi_label(
                model, source, self.preprocess, dtype=dtype, workers=workers, title=title, together=together
            )
        return evaluate(model, source, self.preprocess, dtype=dtype, workers=workers, title=title, together=together)

    def judge(self, model: TrainedModel, source: Source) -> dict[str, float]:
        """What a row of metrics says of an evaluation."""
        if isinstance(model, Learner):
            workers, dtype = self.machine.workers, self.device.dtype
            seed, together = self.config.seed, self.config.fixed_parts is None
            return judge_objective(
                model, source, self.preprocess, seed=seed, dtype=dtype, workers=workers, together=together
            )
        result = self.evaluate(model, source)
        found = {"accuracy": result.accuracy, "loss": result.loss, "count": result.count}
        if isinstance(result, MultiLabelEvaluation):
            found["mean_average_precision"] = result.mean_average_precision
        return found

    def keep_best(self, model: Model) -> KeepBest:
        """The best weights so far, in `best/`."""

        def save(folder: Path, about: dict[str, Any]) -> None:
            save_bundle(
                folder,
                model,
                self.preprocess,
                self.data[0].classes,
                {**self.provenance, **about},
                thresholds=usual_thresholds(self.data[0]),
            )

        every, patience = self.config.evaluate_every, self.config.patience
        return KeepBest(every, self.run.path / "best", save, self.run.metrics(), patience)


def _ended(config: TrainConfig, state: TrainState) -> bool:
    return state.step >= config.steps or state.stopped


def _train(job: _Job, state: TrainState, loader: Callable[..., Batches], callbacks: Sequence[Callback]) -> None:
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


def _callbacks(job: _Job, state: TrainState, own: Sequence[Callback]) -> list[Callback]:
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


def _save(job: _Job, save: Callable[[TrainState], None], state: TrainState) -> None:
    """What is logged of a step is safe before the step is."""
    job.run.sync_metrics()
    save(state)


def _usage(job: _Job, state: TrainState, rate: float) -> dict[str, float | None]:
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


def _workers(job: _Job, model: TrainedModel) -> int:
    """How many processes make batches: as many as are asked for, or enough for the fastest training of the model."""
    if job.machine.workers is not None or job.config.resident:
        return job.machine.workers or 0
    rate = REACHED * job.device.peak_flops / flops_of(model)
    return choose_workers(job.data[0], job.config.augment, job.preprocess, rate)


def _finish(job: _Job, state: TrainState, work: dict[str, Any], inside: bool) -> RunResult:
    """Final evaluation, bundle, inspection, result: each whole, so a kill here repeats little."""
    config, run, (train, validation, test) = job.config, job.run, job.data
    held_out, name = test or validation, config.test or config.validation or ""
    result, kept = None, dict[str, Any]()
    if isinstance(state.model, Learner):
        if held_out is not None:
            said = job.judge(state.model, held_out)
            about = {"name": NAMES[type(state.model.objective).__name__], **said}
            kept = {"objective": parse_record(ObjectiveResult, about)}
    elif held_out is not None:
        result = job.evaluate(state.model, held_out, "final evaluation")
    if config.keep == "best" and held_out is not None and result is not None:
        best = job.keep_best(encoder_of(state.model))
        best.restore(encoder_of(state.model))
        kept = {"last_accuracy": result.accuracy, "best_step": best.step}
        result = job.evaluate(encoder_of(state.model), held_out, "the best weights")
    trained = whole_model(state.model)
    model = encoder_of(trained)
    if not run.writes:
        dist.barrier()  # until the first process has written everything
        return load_record(RunResult, run.path / "result.json")
    about = {**job.provenance, "trained_on": config.train, "steps": state.step, "vitrail": version("vitrail")}
    bundle = run.path / "bundle"
    chosen = _thresholds(job, model)
    if chosen:
        about["thresholds_chosen"] = {"data": chosen.data, "count": chosen.count}
    thresholds = tuple(chosen.values) if chosen else usual_thresholds(train)
    digest = save_bundle(
        bundle, model, job.preprocess, train.classes, about, thresholds=thresholds, trained_with=parts_of(trained)
    )
    if isinstance(result, MultiLabelEvaluation):
        result.write(run.path / "evaluation", result.summary(name, str(bundle), chosen))
        kept["mean_average_precision"] = result.mean_average_precision
    elif result is not None:
        result.write(run.path / "evaluation", name, str(bundle))
    if held_out is not None and inside and not held_out.multi_label:  # what is drawn there names one class
        look_inside(model, job.preprocess, train.classes, held_out, run.path / "inspection", name=str(bundle))
    rows = [row for row in run.metrics() if row["kind"] == "train"]
    images = (state.step - len(state.skipped)) * config.batch
    flops = round(flops_of(trained) * work["share"])
    rate = images / state.seconds
    processes = dist.world().size
    reached = RunResult(
        job=job.provenance["job"],
        steps=state.step,
        images=images,
        seconds=state.seconds,
        images_per_second=rate,
        waiting=state.data_wait_seconds / state.seconds,
        processes=processes,
        parameters=parameters(model.config),
        trained_parameters=work["trained_parameters"],
        macs_per_image=multiply_adds(model.config),
        training_flops_per_image=flops,
        total_flops=flops * images,
        flops_share=flops * rate / (job.device.peak_flops * processes),
        memory_gib=max((row["memory_gib"] for row in rows if row.get("memory_gib")), default=None),
        loss=rows[-1]["loss"] if rows else None,
        accuracy=result.accuracy if result else None,
        interval=result.interval if result else None,
        count=result.count if result else None,
        broken=state.broken.rows(),
        skipped=state.skipped,
        restarts=state.restarts,
        weights_sha256=digest,
        **kept,
    )
    run.finish(as_json(reached))
    dist.barrier()
    return reached


def _thresholds(job: _Job, model: Model) -> Thresholds | None:
    """The thresholds of the classes by the validation images, where there are any."""
    validation = job.data[1]
    if validation is None or not validation.multi_label:
        return None
    seen = evaluate_multi_label(
        model, validation, job.preprocess, dtype=job.device.dtype, workers=job.machine.workers, title="thresholds"
    )
    return seen.choose_thresholds(job.config.validation or f"held-out images of {job.config.train}")
