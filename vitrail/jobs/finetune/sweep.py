"""The paper's protocol: the learning rate chosen on held-out images, final runs on all, the test images once (4.1).

OUT/plan.json, OUT/trials/lr-0.003/ and OUT/final/seed-0/ (runs), OUT/transfer.json (what is known so far), OUT/bundle,
OUT/result.json. Each run goes on from its checkpoint and a finished one is not repeated, so all of it can be continued.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vitrail.core import device as devices
from vitrail.core import dist
from vitrail.core.config import from_json, to_json
from vitrail.core.device import Machine
from vitrail.core.dist import joined
from vitrail.core.errors import BadInput
from vitrail.core.estimate import over_seeds, wilson
from vitrail.core.files import atomic_folder, link_or_copy, read_json, write_json
from vitrail.core.progress import say
from vitrail.core.run import RunFolder
from vitrail.data.leakage import check_validation
from vitrail.jobs.data_identity import check_same_data
from vitrail.jobs.finetune.plan import Sizes, as_planned, held_out_share, make_plan, plan_lines
from vitrail.jobs.finetune.run import (
    Finetune,
    check_start,
    check_tuned,
    finetune_once,
    open_checked,
    with_defaults_for,
    with_held_out,
)
from vitrail.jobs.finetune.step_time import measure_step_time
from vitrail.jobs.training_data import Sources
from vitrail.records.finetune import FailedTrial, FinalRun, FinetuneResult, Plan, Sweep, Trial
from vitrail.records.record import as_json, load_record, write_record
from vitrail.records.run import RunResult
from vitrail.train.callbacks import Callback
from vitrail.train.checkpoint import discard_checkpoints
from vitrail.train.config import check_training
from vitrail.train.divergence import Diverged
from vitrail.weights.load import read_pretrained
from vitrail.weights.pretrained import PretrainedModel

RULE = "the highest accuracy on the held-out images; among equal ones the lower loss there; then the lower rate"


def sweep(
    config: Finetune,
    folder: Path,
    machine: Machine | None = None,
    recipe: str | None = None,
    start: PretrainedModel | None = None,
    callbacks: Sequence[Callback] = (),
) -> FinetuneResult:
    """Does what is missing of the protocol in `folder`, and returns its result (docs/files.md).

    The model is read once, and every trial and final run trains a copy. `start`: where it is read already.

    Raises:
        BadInput: a model, data, sizes or a folder that cannot be used, or a sweep of which no trial ended well.
        Interrupted: after a signal, once the run is saved.
    """
    check_start(config)
    machine = machine or Machine()
    check_tuned(config, machine)
    if config.keep == "best":
        raise BadInput("the final runs of a sweep have no validation images that tell the best weights: keep the last")
    with joined(devices.choose_device(machine.device)):
        data = open_checked(config)
        if len(config.sweep) > 1 and data[1] is not None and config.validation is not None:
            check_validation(data[1], ((data[0], config.train), (data[2], config.test)), config.validation)
        whole = with_defaults_for(config, len(data[0]))
        check_training(replace(whole, optimizer=replace(whole.optimizer, lr=max((whole.optimizer.lr, *whole.sweep)))))
        with RunFolder(folder, "finetune", config, recipe) as run:
            if run.state == "finished":
                return load_record(FinetuneResult, run.path / "result.json")
            check_same_data(run, data, accept=machine.accept_changed_data)
            start = start or read_pretrained(config.init, resolution=config.resolution)
            plan = _plan(whole, run, data, machine, start)
            config = as_planned(whole, plan)
            once = partial(finetune_once, machine=machine, recipe=recipe, start=start, callbacks=callbacks)
            trials = _trials(config, plan, run, data, once)
            chosen = choose(trials) if trials else None
            lr = plan.rates[0]
            if chosen and chosen.learning_rate is not None:
                lr = chosen.learning_rate
            if chosen and run.writes:
                say(f"chosen: rate {lr:g}, {chosen.accuracy:.1%} of {chosen.count:,} held-out images")
            final = replace(config, validation=None, optimizer=replace(config.optimizer, lr=lr))
            runs: list[FinalRun] = []
            results: list[RunResult] = []
            for seed in plan.seeds:
                _note(run, trials, chosen, runs)
                where = run.path / "final" / f"seed-{seed}"
                first = seed == plan.seeds[0]  # one is looked into
                results.append(once(replace(final, seed=seed), where, data=(data[0], None, data[2]), inside=first))
                runs.append(FinalRun(folder=f"final/seed-{seed}", learning_rate=lr, seed=seed, **_kept(results[-1])))
            _note(run, trials, chosen, runs)
            if run.writes:
                _link(run.path / "final" / f"seed-{plan.seeds[0]}" / "bundle", run.path / "bundle")
                run.finish(as_json(_result(results[0], trials, chosen, runs)))
            dist.barrier()
            return _result(results[0], trials, chosen, runs)


def choose(trials: list[Trial]) -> Trial:
    """The trial that RULE says, of those that did not fail.

    Raises:
        BadInput: all failed.
    """
    judged = [row for row in trials if row.failed is None]
    if not judged:
        rates = ", ".join(f"{row.learning_rate:g}" for row in trials)
        raise BadInput(f"all trials diverged (rates {rates}): give lower ones as sweep; {trials[0].failed}")
    return min(judged, key=lambda row: (-(row.score or 0.0), row.loss, row.learning_rate))


def _plan(config: Finetune, run: RunFolder, data: Sources, machine: Machine, start: PretrainedModel) -> Plan:
    """The plan in the folder, or a new one; it is printed before anything starts."""
    file = run.path / "plan.json"
    stored = None
    if run.writes and file.exists():
        stored = read_json(file)
    stored = dist.gathered_json(stored)[0]
    if stored is None:
        pace = measure_step_time(config, start, data[0].classes, machine)
        share = held_out_share(config, len(data[0]))
        _, judged, test = with_held_out(replace(config, held_out=share), data)
        sizes = Sizes(len(data[0]), len(judged) if judged is not None else 0, len(test) if test is not None else 0)
        free = devices.available_memory(devices.choose_device(machine.device))
        plan = make_plan(config, sizes, len(data[0].classes), pace, None if free is None else free / 2**30)
        plan = replace(plan, why=(*plan.why, *start.assumed))
        stored = dist.gathered_json({"format": 1, "plan": to_json(plan)})[0]
        if run.writes:
            write_json(file, stored)
    plan = from_json(Plan, stored["plan"], str(file))
    for line in plan_lines(plan) if run.writes else ():
        say(line)
    return plan


def _trials(config: Finetune, plan: Plan, run: RunFolder, data: Sources, once: Callable[..., RunResult]) -> list[Trial]:
    """A run for each rate, which never sees the test images. `once`: finetune_once."""
    rows: list[Trial] = []
    trial = replace(config, test=None, held_out=plan.held_out)
    for lr in plan.rates if plan.trials else ():
        _note(run, rows, None, [])
        name = f"trials/lr-{lr:g}"
        where = run.path / name
        one = replace(trial, optimizer=replace(trial.optimizer, lr=lr))
        failed = where / "failed.json"
        if dist.any_of(failed.exists()):
            rows.append(_failed(name, lr, load_record(FailedTrial, failed).reason))
            continue
        try:
            result = once(one, where, data=(data[0], data[1], None), inside=False)
        except Diverged as problem:
            dist.barrier()
            if run.writes:
                write_record(failed, FailedTrial(reason=str(problem)))
                say(f"the trial at rate {lr:g} failed: {problem}")
            rows.append(_failed(name, lr, str(problem)))
            continue
        judged = result.mean_average_precision
        file = "evaluation.json" if judged is None else "multilabel.json"
        loss = read_json(where / "evaluation" / file)["loss"]
        known = _kept(result)
        rows.append(
            Trial(folder=name, learning_rate=lr, **known, loss=loss, failed=None, mean_average_precision=judged)
        )
        if run.writes:
            discard_checkpoints(where)
    return rows


_KEPT = ("accuracy", "interval", "count", "seconds", "memory_gib", "images_per_second", "weights_sha256", "restarts")


def _kept(result: RunResult) -> dict[str, Any]:
    return {name: getattr(result, name) for name in _KEPT}


def _failed(folder: str, lr: float, reason: str) -> Trial:
    nothing: dict[str, Any] = dict.fromkeys(_KEPT)
    return Trial(folder=folder, learning_rate=lr, **nothing, loss=None, failed=reason)


def _note(run: RunFolder, trials: list[Trial], chosen: Trial | None, runs: list[FinalRun]) -> None:
    """transfer.json: what is known so far."""
    if run.writes:
        write_record(run.path / "transfer.json", Sweep(rule=RULE, trials=trials, chosen=chosen, runs=runs))


def _link(bundle: Path, to: Path) -> None:
    """The same files under another name where the disk can, otherwise copies."""

    def place(source: str, target: str) -> None:
        link_or_copy(Path(source), Path(target))

    with atomic_folder(to) as temporary:
        shutil.copytree(bundle, temporary, copy_function=place, dirs_exist_ok=True)


def _result(first: RunResult, trials: list[Trial], chosen: Trial | None, runs: list[FinalRun]) -> FinetuneResult:
    """The mean of the final runs, its interval, and what led to it."""
    accuracies = [row.accuracy for row in runs if row.accuracy is not None]
    every: list[Trial | FinalRun] = [*trials, *runs]
    mean = interval = spread = None
    if accuracies and first.count is not None:
        mean = float(np.mean(accuracies))
        ends = over_seeds(accuracies) if np.ptp(accuracies) else None  # runs that agree are no certainty
        low, high = ends or wilson(round(mean * first.count), first.count)
        interval = (max(0.0, low), min(1.0, high))
        spread = float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None
    return FinetuneResult(
        job="finetune",
        steps=first.steps,
        images=first.images,
        parameters=first.parameters,
        trained_parameters=first.trained_parameters,
        macs_per_image=first.macs_per_image,
        training_flops_per_image=first.training_flops_per_image,
        accuracy=mean,
        interval=interval,
        spread=spread,
        count=first.count,
        seconds=sum(row.seconds or 0.0 for row in every),
        images_per_second=first.images_per_second,
        memory_gib=max((row.memory_gib for row in every if row.memory_gib), default=None),
        learning_rate=runs[0].learning_rate,
        rule=RULE,
        chosen=chosen,
        trials=trials,
        runs=runs,
        broken=first.broken,
        restarts=sum(row.restarts or 0 for row in every),
        weights_sha256=first.weights_sha256,
    )
