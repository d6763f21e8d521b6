"""`finetune auto`: the best model for the time there is, and never one below the linear judge of its frozen features.

OUT/plan.json, OUT/judge.npz and .json (the linear judge), OUT/trials/NAME/ (runs that start from it, and judged.json),
OUT/final.json (what was chosen, and its steps), OUT/final/seed-0/ (a run, unless the judge is the model),
OUT/transfer.json (what is known so far), OUT/bundle, OUT/evaluation (the test), OUT/result.json. Every one is whole or
absent, so all of it can be continued.
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vitrail.core.cache import cache_folder
from vitrail.core.config import from_json, to_json
from vitrail.core.device import Device, Machine, choose_device, choose_precision
from vitrail.core.dist import joined, launched
from vitrail.core.errors import BadInput
from vitrail.core.files import read_json, write_json
from vitrail.core.progress import quiet, say
from vitrail.core.run import RunFolder
from vitrail.data.sources.base import Source
from vitrail.data.sources.subset import Subset
from vitrail.evals.feature_cache import stored_features
from vitrail.jobs.data_identity import check_same_data
from vitrail.jobs.finetune.auto_finish import Outcome, finish_auto, note
from vitrail.jobs.finetune.auto_plan import (
    BATCH,
    DEFAULT_BUDGET,
    USEFUL,
    Sizes,
    Times,
    final_steps,
    goes_on,
    make_auto_plan,
    plan_lines,
)
from vitrail.jobs.finetune.auto_trials import AutoRun, choose, ended, judge_row, make_soup, train_trial
from vitrail.jobs.finetune.candidates import CANDIDATES, JUDGE, SOUP, usable
from vitrail.jobs.finetune.doubtful import note_doubtful
from vitrail.jobs.finetune.held_out import judged_words, make_folds
from vitrail.jobs.finetune.linear_judge import fit_seconds, linear_judge
from vitrail.jobs.finetune.run import (
    Finetune,
    build_pretrained,
    check_start,
    finetune_once,
    model_config,
    open_checked,
)
from vitrail.jobs.finetune.schedule_rule import batch_for, seconds_of
from vitrail.jobs.training_data import for_labels
from vitrail.models.cost import training_flops
from vitrail.records.finetune import AutoPlan, FinetuneResult, Trial
from vitrail.records.record import load_record
from vitrail.records.run import RunResult
from vitrail.train.callbacks import Every
from vitrail.train.config import check_training
from vitrail.train.divergence import Diverged
from vitrail.train.optim import Muon
from vitrail.train.schedule import Cosine
from vitrail.train.trainable import LayerDecay, Whole
from vitrail.weights.load import load, read_pretrained
from vitrail.weights.pretrained import PretrainedModel

MEASURED, WARM = 6, 3  # steps that are timed before the plan, and how many of them are not counted
LONGEST, LIKELY = 4.0, 0.3  # seconds of such a step, at so much of the measured peak; fewer images where it is longer
UNEQUAL = 3  # times as many images in one class as in another, from which on it is said
RESIZED = {one.name for one in CANDIDATES if one.scale != 1.0}  # of other shapes: they have no mean with others
PASSES = 2.5  # judging an image is one of a training step's three passes, and decoding


def automatic(config: Finetune, folder: Path, machine: Machine | None = None) -> FinetuneResult:
    """Does what is missing of it in `folder`, and returns its result (docs/files.md).

    `config.steps` of AUTO: as many as the budget allows; given ones make the result independent of the clock.

    Raises:
        BadInput: a model, data, options or a folder that cannot be used.
        Interrupted: after a signal, once the run is saved.
    """
    begun = time.perf_counter()
    check_start(config)
    machine = machine or Machine()
    _check_options(config, machine)
    budget = seconds_of(config.budget or DEFAULT_BUDGET)
    with joined(choose_device(machine.device)):
        data = open_checked(config)
        whole = replace(config, batch=min(config.batch or BATCH, batch_for(len(data[0]))))  # as it may become
        check_training(replace(whole, steps=whole.steps or 1, schedule=Cosine()))
        if data[0].multi_label and config.aim == "balanced":
            raise BadInput("the mean average precision of several classes an image counts them alike: leave out aim")
        whole = for_labels(whole, data[0])
        with RunFolder(folder, "finetune", config, "auto") as run:
            if run.state == "finished":
                return load_record(FinetuneResult, run.path / "result.json")
            check_same_data(run, data)
            start = read_pretrained(config.init, resolution=config.resolution)
            plan = _plan(whole, run, data[0], data[2], machine, start, budget, config.batch == 0)
            whole = replace(whole, batch=plan.batch)
            auto = _prepare(whole, run, data[0], machine, start, plan, begun)
            outcome = _choose_and_train(auto)
            return finish_auto(outcome, auto, data[2])


def _check_options(config: Finetune, machine: Machine) -> None:
    for name, usual in (("sweep", ()), ("repeats", 0), ("held_out", None), ("validation", None), ("keep", "last")):
        if getattr(config, name) != usual:
            raise BadInput(f"finetune auto chooses by images that it holds out itself: leave out {name}")
    if config.schedule != Cosine():
        raise BadInput("finetune auto warms up for a tenth of the steps and falls with a cosine: leave out schedule")
    if machine.accept_changed_data:
        raise BadInput("the linear judge of finetune auto is of the data that it began with: give another --out")
    if isinstance(config.optimizer, Muon):
        raise BadInput(
            "finetune auto tries layers frozen and the head alone, where muon has no matrices: take adam or sgd"
        )
    if not isinstance(config.tuned, Whole):
        raise BadInput("finetune auto chooses what is trained: leave out tuned, or name a recipe such as folder")
    if launched().size > 1:
        raise BadInput("finetune auto runs in one process; under torchrun name a recipe, such as folder")


def _plan(
    config: Finetune,
    run: RunFolder,
    train: Source,
    test: Source | None,
    machine: Machine,
    start: PretrainedModel,
    budget: float,
    any_batch: bool,
) -> AutoPlan:
    """The plan in the folder, or a new one; it is printed before anything starts."""
    file = run.path / "plan.json"
    if not file.exists():
        started = time.perf_counter()
        step = _step_time(config, train, machine, start)
        folds = make_folds(train, config.seed)
        held = sum(len(fold.held) for fold in folds)
        sizes = Sizes(len(train), held, len(test) if test is not None else 0, len(train.classes), len(folds))
        fit = fit_seconds(len(train), start.config.representation_width, len(train.classes))
        known = usable(start, train, config.resolution)

        def made(batch: int, step: float) -> AutoPlan:
            spent = time.perf_counter() - started
            times = Times(step, step / batch / PASSES, spent, fit)
            return make_auto_plan(sizes, times, budget, batch, config.steps, known)

        plan = made(config.batch, step)
        if any_batch and plan.timed and plan.steps + plan.trial_steps < USEFUL and config.batch > 1:
            half = replace(config, batch=config.batch // 2)  # more steps of fewer images, in the same time
            plan = made(half.batch, _step_time(half, train, machine, start))
        plan = replace(plan, why=(*plan.why, *_unequal(train, config.aim), *start.assumed))
        write_json(file, {"format": 1, "plan": to_json(plan)})
    plan = from_json(AutoPlan, read_json(file)["plan"], str(file))
    for line in plan_lines(plan):
        say(line)
    return plan


def _unequal(train: Source, aim: str | None) -> list[str]:
    """What is to be said of classes of unequal size."""
    if train.multi_label:
        return ["images have several classes each: the mean average precision is what is chosen by"]
    if aim == "balanced":
        return ["classes count alike, however many images they have: the mean of their accuracies is what is chosen by"]
    least, most = int(train.counts.min()), int(train.counts.max())
    if most < UNEQUAL * max(1, least):
        return []
    return [f"classes have {least:,} to {most:,} images; with --aim balanced rare ones count as much as others"]


def _step_time(config: Finetune, train: Source, machine: Machine, start: PretrainedModel) -> float:
    """Seconds of an update with all that a run does, its decoding too: of the last of a few, which are forgotten.

    A large model does them with fewer images.
    """
    device = Device.find(machine.device, config.precision)
    each = training_flops(model_config(config, start, len(train.classes))) / (LIKELY * device.peak_flops)
    images = max(1, min(config.batch, int(LONGEST / each)))
    few: dict[str, Any] = dict.fromkeys(("log_every", "evaluate_every", "save_every"), 10 * MEASURED)
    tried = replace(
        config, steps=MEASURED, batch=images, schedule=Cosine(), test=None, budget=None, tuned=LayerDecay(), **few
    )
    ends: list[float] = []
    watch = Every(1, lambda _: ends.append(time.perf_counter()))
    with tempfile.TemporaryDirectory() as folder, quiet():
        alone, data = replace(machine, track=()), (train, None, None)
        finetune_once(tried, Path(folder) / "measured", alone, "auto", data, False, start, [watch])
    return (ends[-1] - ends[WARM - 1]) / (MEASURED - WARM) * config.batch / images


def _prepare(
    config: Finetune,
    run: RunFolder,
    train: Source,
    machine: Machine,
    start: PretrainedModel,
    plan: AutoPlan,
    begun: float,
) -> AutoRun:
    """Frozen features of every readable image, and the linear judge of them."""
    started = time.perf_counter()
    device = choose_device(machine.device)
    model, _, preprocess = build_pretrained(config, start, train.classes)
    dtype = choose_precision(config.precision, device)
    kept = cache_folder() / "features"
    frozen = stored_features(model.to(device).eval(), train, preprocess, kept, dtype=dtype, workers=machine.workers)
    readable = train if len(frozen.places) == len(train) else Subset(train, frozen.places)
    if readable is not train:
        say(f"{len(train) - len(readable)} of {len(train):,} training images cannot be read and are left out")
    folds = make_folds(readable, config.seed) if plan.folds else ()
    balanced = np.log(readable.counts / len(readable)) if config.aim == "balanced" else None
    judge = linear_judge(frozen, train.classes, folds, run.path / "judge.npz", started, balanced)
    if judge.judged:
        say(f"linear judge: {judged_words(judge.judged)}")
    if not train.multi_label:
        note_doubtful(frozen, readable, folds, judge, run.path)
    return AutoRun(config, run, machine, start, readable, folds, judge, plan, begun, balanced)


def _choose_and_train(auto: AutoRun) -> Outcome:
    """The trials, the choice, and the final run; or the linear judge where nothing is above it."""
    plan, run = auto.plan, auto.run
    trials = [judge_row(auto.judge)]
    for one in CANDIDATES:
        if one.name in plan.candidates and auto.folds:
            note(run, trials, None, [])
            trials.append(train_trial(auto, one, [row for row in trials[1:] if ended(row)]))
    alike = [row for row in trials[1:] if ended(row) and row.name not in RESIZED]
    if goes_on(plan) and len(alike) > 1:
        trials += make_soup(auto, alike)
    chosen = choose(trials)
    file = run.path / "final.json"
    if not file.exists():
        steps = 0
        if chosen.name != JUDGE:
            spent = max(sum(row.wall or 0.0 for row in trials), time.perf_counter() - auto.begun)
            steps = final_steps(plan, spent, chosen.step or 0.0, chosen.start or 0.0)
        write_json(file, {"chosen": chosen.name, "steps": steps, "failed": None})
    decided = read_json(file)
    if decided["chosen"] != JUDGE and decided["steps"] == 0:
        say(f"chosen: {_chosen_words(chosen)}; no time to go on")
        made = run.path / (alike[0] if chosen.name == SOUP.name else chosen).folder  # type: ignore[operator]
        result, bundle = load_record(RunResult, made / "result.json"), run.path / str(chosen.folder) / "bundle"
        return Outcome(trials, chosen, result, chosen.folder, None, load(bundle, device="cpu"), plan.trial_steps)
    if decided["chosen"] != JUDGE and decided["failed"] is None:
        one = next(one for one in (*CANDIDATES, SOUP) if one.name == decided["chosen"])
        say(f"chosen: {_chosen_words(chosen)}; now on all {len(auto.train):,} for {decided['steps']:,} steps")
        note(run, trials, chosen, [])
        try:
            where = run.path / "final" / "seed-0"
            result = auto.train_one(one, where, auto.train, auto.final_start(one), decided["steps"])
            steps = result.steps + (plan.trial_steps if goes_on(plan) else 0)
            folder = where.relative_to(run.path).as_posix()
            return Outcome(trials, chosen, result, folder, None, load(where / "bundle", device="cpu"), steps)
        except Diverged as problem:
            decided = {**decided, "failed": str(problem)}
            write_json(file, decided)
    if decided["failed"]:
        say(f"the final run failed ({decided['failed']})")
        chosen = trials[0]
    say("nothing tried is above the linear judge: it is the model")
    model, _, _ = build_pretrained(auto.config, auto.start, auto.train.classes, auto.judge.whole)
    return Outcome(trials, chosen, None, None, decided["failed"], model, 0)


def _chosen_words(chosen: Trial) -> str:
    return f"{chosen.name}, {chosen.score:.1%} of {chosen.count:,} held-out images"
