"""`finetune auto`: the best model for the time there is, and never one below the linear judge of its frozen features.

OUT/plan.json, OUT/judge.npz and .json (the linear judge), OUT/trials/NAME/ (runs that start from it, and judged.json),
OUT/final.json (what was chosen, and its steps), OUT/final/seed-0/ (a run, unless the judge is the model),
OUT/transfer.json (what is known so far), OUT/bundle, OUT/evaluation (the test), OUT/result.json. Every one is whole or
absent, so all of it can be continued.
"""

import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from math import inf
from pathlib import Path
from typing import Any

import torch

from vitrail.core.cache import cache_folder
from vitrail.core.config import from_json, to_json
from vitrail.core.device import Device, Machine, choose_device, choose_precision
from vitrail.core.dist import joined, launched
from vitrail.core.errors import BadInput
from vitrail.core.files import read_json, write_json
from vitrail.core.progress import quiet, say
from vitrail.core.run import RunFolder
from vitrail.core.text import listed
from vitrail.data.sources.base import Source
from vitrail.data.sources.subset import Subset
from vitrail.evals.feature_cache import stored_features
from vitrail.evals.fewshot import Linear
from vitrail.evals.inference import run_inference
from vitrail.jobs.data_identity import check_same_data
from vitrail.jobs.finetune.auto_finish import JUDGE, Outcome, finish_auto, note
from vitrail.jobs.finetune.auto_plan import (
    BATCH,
    CANDIDATES,
    DEFAULT_BUDGET,
    GOING_ON,
    SOUP,
    START,
    USEFUL,
    Candidate,
    Sizes,
    Times,
    final_steps,
    goes_on,
    make_auto_plan,
    plan_lines,
)
from vitrail.jobs.finetune.doubtful import note_doubtful
from vitrail.jobs.finetune.linear_judge import (
    Fold,
    Judged,
    LinearJudge,
    judge_logits,
    judged_from_json,
    linear_judge,
    make_folds,
)
from vitrail.jobs.finetune.run import (
    Finetune,
    build_pretrained,
    check_start,
    classifier_of,
    finetune_once,
    model_config,
    open_checked,
)
from vitrail.jobs.finetune.schedule_rule import batch_for, seconds_of
from vitrail.models.build import Model
from vitrail.models.cost import training_flops
from vitrail.models.resnet import ResNetConfig
from vitrail.records.finetune import AutoPlan, FinetuneResult, Trial
from vitrail.records.record import load_record
from vitrail.records.run import RunResult
from vitrail.train.callbacks import Every
from vitrail.train.config import check_training
from vitrail.train.divergence import Diverged
from vitrail.train.schedule import Cosine
from vitrail.train.soup import greedy_soup
from vitrail.train.trainable import LayerDecay, Whole
from vitrail.weights.bundle import save_bundle
from vitrail.weights.load import load, read_pretrained
from vitrail.weights.pretrained import PretrainedModel

MEASURED, WARM = 6, 3  # steps that are timed before the plan, and how many of them are not counted
LONGEST, LIKELY = 4.0, 0.3  # seconds of such a step, at so much of the measured peak; fewer images where it is longer
PASSES = 2.5  # judging an image is one of a training step's three passes, and decoding


@dataclass(frozen=True)
class _Auto:
    """What all parts of it need."""

    config: Finetune
    run: RunFolder
    machine: Machine
    start: PretrainedModel
    train: Source  # its readable images
    folds: tuple[Fold, ...]
    judge: LinearJudge
    plan: AutoPlan
    begun: float  # by time.perf_counter()

    def train_one(
        self, one: Candidate, where: Path, source: Source, begin: tuple[PretrainedModel, Linear], steps: int
    ) -> RunResult:
        """Fine-tunes in `where` from a model and a classifier of it, without looking at any other image."""
        on = GOING_ON if begin[0] is not self.start else 1.0
        optimizer = replace(self.config.optimizer, lr=self.config.optimizer.lr * one.rate * on)
        given, tuned = optimizer.layer_decay, one.tuned
        tuned = LayerDecay(given) if given is not None and isinstance(tuned, LayerDecay) else tuned
        schedule = Cosine(warmup=steps // 10)
        config = replace(
            self.config, tuned=tuned, optimizer=optimizer, schedule=schedule, steps=steps, test=None, budget=None
        )
        data, recipe = (source, None, None), "auto"
        start, head = begin
        return finetune_once(config, where, self.machine, recipe, data, False, start, head=head)

    def final_start(self, one: Candidate) -> tuple[PretrainedModel, Linear]:
        """What the final run begins with: the model of the chosen trial, or what all trials began with."""
        if not goes_on(self.plan):
            return self.start, self.judge.whole
        trial = read_pretrained(str(self.run.path / "trials" / one.name / "bundle"))
        same = replace(trial, provenance=self.start.provenance, interpolation=self.start.interpolation)
        return same, classifier_of(trial)


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
        if data[0].multi_label:
            raise BadInput("finetune auto is for images of one class each: for several name a recipe, such as folder")
        with RunFolder(folder, "finetune", config, "auto") as run:
            if run.state == "finished":
                return load_record(FinetuneResult, run.path / "result.json")
            check_same_data(run, data)
            start = read_pretrained(config.init, resolution=config.resolution)
            plan = _plan(whole, run, data[0], data[2], machine, start, budget, config.batch == 0)
            whole = replace(whole, batch=plan.batch)
            auto = _prepare(whole, run, data[0], machine, start, plan, begun)
            outcome = _choose_and_train(auto)
            return finish_auto(outcome, whole, run, data[0].classes, data[2], machine, start)


def _check_options(config: Finetune, machine: Machine) -> None:
    for name, usual in (("sweep", ()), ("repeats", 0), ("held_out", None), ("validation", None), ("keep", "last")):
        if getattr(config, name) != usual:
            raise BadInput(f"finetune auto chooses by images that it holds out itself: leave out {name}")
    if config.schedule != Cosine():
        raise BadInput("finetune auto warms up for a tenth of the steps and falls with a cosine: leave out schedule")
    if machine.accept_changed_data:
        raise BadInput("the linear judge of finetune auto is of the data that it began with: give another --out")
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
        known = 1 if isinstance(start.config, ResNetConfig) else len(CANDIDATES)

        def made(batch: int, step: float) -> AutoPlan:
            spent = time.perf_counter() - started
            return make_auto_plan(sizes, Times(step, step / batch / PASSES, spent), budget, batch, config.steps, known)

        plan = made(config.batch, step)
        if any_batch and plan.timed and plan.steps + plan.trial_steps < USEFUL and config.batch > 1:
            half = replace(config, batch=config.batch // 2)  # more steps of fewer images, in the same time
            plan = made(half.batch, _step_time(half, train, machine, start))
        plan = replace(plan, why=(*plan.why, *start.assumed))
        write_json(file, {"format": 1, "plan": to_json(plan)})
    plan = from_json(AutoPlan, read_json(file)["plan"], str(file))
    for line in plan_lines(plan):
        say(line)
    return plan


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
) -> _Auto:
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
    judge = linear_judge(frozen, len(train.classes), folds, run.path / "judge.npz", started)
    if judge.judged:
        say(f"linear judge: {judge.judged.accuracy:.1%} of {judge.judged.count:,} held-out images")
    note_doubtful(frozen, readable, folds, judge, run.path)
    return _Auto(config, run, machine, start, readable, folds, judge, plan, begun)


def _choose_and_train(auto: _Auto) -> Outcome:
    """The trials, the choice, and the final run; or the linear judge where nothing is above it."""
    plan, run = auto.plan, auto.run
    trials = [_judge_row(auto.judge)]
    for one in CANDIDATES:
        if one.name in plan.candidates and auto.folds:
            note(run, trials, None, [])
            trials.append(_trial(auto, one))
    if goes_on(plan) and sum(row.failed is None for row in trials[1:]) > 1:
        trials += _soup(auto, [row for row in trials[1:] if row.failed is None])
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
        say(f"chosen: {chosen.name}, {chosen.accuracy:.1%} of {chosen.count:,} held-out images; no time to go on")
        made = run.path / (trials[1] if chosen.name == SOUP.name else chosen).folder  # type: ignore[operator]
        result, bundle = load_record(RunResult, made / "result.json"), run.path / str(chosen.folder) / "bundle"
        return Outcome(trials, chosen, result, chosen.folder, None, load(bundle, device="cpu"), plan.trial_steps)
    if decided["chosen"] != JUDGE and decided["failed"] is None:
        one = next(one for one in (*CANDIDATES, SOUP) if one.name == decided["chosen"])
        say(
            f"chosen: {one.name}, {chosen.accuracy:.1%} of {chosen.count:,} held-out images; now on all "
            f"{len(auto.train):,} for {decided['steps']:,} steps"
        )
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


def choose(trials: Sequence[Trial]) -> Trial:
    """The trial that RULE says; the first of the trials is the linear judge, which stands where nothing was judged.

    The loss says more than the accuracy of a few hundred images: a trial that is a little more often right by chance
    is a worse model where its loss is higher.
    """
    judge = trials[0]
    better = [
        row
        for row in trials[1:]
        if row.failed is None and (row.accuracy or 0.0) >= (judge.accuracy or 0.0) and _loss(row) < _loss(judge)
    ]
    return min(better, key=lambda row: (-(row.accuracy or 0.0), _loss(row)), default=judge)


def _loss(row: Trial) -> float:
    return inf if row.loss is None else row.loss


def _trial(auto: _Auto, one: Candidate) -> Trial:
    """A candidate trained on the rest of each fold, judged on what the fold holds out; kept in judged.json."""
    where = auto.run.path / "trials" / one.name
    places = [where] if len(auto.folds) == 1 else [where / f"fold-{i}" for i in range(len(auto.folds))]
    done = where / "judged.json"
    if not done.exists():
        started, training, found, failed = time.perf_counter(), 0.0, [], None
        try:
            for fold, head, place in zip(auto.folds, auto.judge.folds, places, strict=True):
                part = Subset(auto.train, fold.train)
                training += auto.train_one(one, place, part, (auto.start, head), auto.plan.trial_steps).seconds
                found.append(_held_out_logits(auto, load(place / "bundle", device="cpu"), fold))
                shutil.rmtree(place / "checkpoints", ignore_errors=True)  # a finished run never goes back to them
        except Diverged as problem:
            failed = str(problem)
            say(f"the trial {one.name} failed: {problem}")
        judged = judge_logits(*(torch.cat(parts) for parts in zip(*found, strict=True))) if not failed else None
        wall = max(time.perf_counter() - started, training)
        runs, steps = len(places), auto.plan.trial_steps * len(places)
        facts = {"seconds": training, "wall": wall, "step": training / steps, "start": (wall - training) / runs}
        write_json(done, {**facts, "judged": judged and asdict(judged), "failed": failed})
    stored = read_json(done)
    judged = judged_from_json(stored.pop("judged"))
    if judged:
        say(f"{one.name}: {judged.accuracy:.1%} of {judged.count:,} held-out images")
    folder = places[0].relative_to(auto.run.path).as_posix()
    rate = auto.config.optimizer.lr * one.rate
    return Trial(name=one.name, folder=folder, learning_rate=rate, **_figures(judged), **_UNKNOWN, **stored)


def _soup(auto: _Auto, trials: Sequence[Trial]) -> list[Trial]:
    """The mean of the weights of some trials, where that is better than each of them; kept in judged.json."""
    where, (fold,) = auto.run.path / "trials" / SOUP.name, auto.folds
    done = where / "judged.json"
    if not done.exists():
        started, judged = time.perf_counter(), None
        figures: dict[float, Judged] = {}

        def score(model: Model) -> float:
            found = judge_logits(*_held_out_logits(auto, model, fold))
            return figures.setdefault(found.accuracy, found).accuracy

        soup = greedy_soup([load(auto.run.path / str(row.folder) / "bundle", device="cpu") for row in trials], score)
        if soup.score > max(soup.scores):
            judged, classes = figures[soup.score], auto.train.classes
            save_bundle(where / "bundle", soup.model, soup.model.preprocess, classes, auto.start.provenance)
        wall = time.perf_counter() - started
        about = {"members": [trials[i].name for i in soup.members], "seconds": wall, "wall": wall}
        write_json(done, {**about, "judged": judged and asdict(judged)})
    stored = read_json(done)
    judged = judged_from_json(stored["judged"])
    if judged is None:
        return []
    say(f"soup of {listed(stored['members'])}: {judged.accuracy:.1%} of {judged.count:,} held-out images")
    first = trials[0]
    facts: dict[str, Any] = {key: stored[key] for key in ("seconds", "wall")}
    facts |= {"step": first.step, "start": first.start}  # of the final run, as it goes on
    folder = where.relative_to(auto.run.path).as_posix()
    rate = auto.config.optimizer.lr * SOUP.rate
    return [
        Trial(name=SOUP.name, folder=folder, learning_rate=rate, **_figures(judged), **_UNKNOWN, **facts, failed=None)
    ]


def _held_out_logits(auto: _Auto, model: Model, fold: Fold) -> tuple[torch.Tensor, torch.Tensor]:
    """[M, K] and the labels [M]."""
    device = choose_device(auto.machine.device)
    dtype = choose_precision(auto.config.precision, device)
    held = Subset(auto.train, fold.held)
    parts = list(
        run_inference(
            model.to(device), held, model.preprocess, dtype=dtype, workers=auto.machine.workers, title="held out"
        )
    )
    return torch.cat([part.logits for part in parts]), torch.cat([part.batch.labels for part in parts])


def _judge_row(judge: LinearJudge) -> Trial:
    more: dict[str, Any] = {"seconds": judge.seconds, "wall": judge.seconds, "step": 0.0, "start": START}
    figures = _figures(judge.judged)
    return Trial(name=JUDGE, folder=None, learning_rate=None, **figures, **_UNKNOWN, **more, failed=None)


_UNKNOWN: dict[str, Any] = dict.fromkeys(("memory_gib", "images_per_second", "weights_sha256", "restarts"))


def _figures(judged: Judged | None) -> dict[str, Any]:
    return asdict(judged) if judged else dict.fromkeys(field.name for field in fields(Judged))
