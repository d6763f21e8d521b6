"""The trials of `finetune auto`: each trained and judged on held-out images, their soup, and the choice."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64

from vitrail.core.device import Machine, choose_device, choose_precision
from vitrail.core.files import read_json, write_json
from vitrail.core.progress import say
from vitrail.core.run import RunFolder
from vitrail.core.text import listed
from vitrail.data.sources.base import Source
from vitrail.data.sources.subset import Subset
from vitrail.evals.fewshot import Linear
from vitrail.evals.inference import run_inference
from vitrail.jobs.finetune.auto_plan import GOING_ON, START, goes_on
from vitrail.jobs.finetune.candidates import JUDGE, SOUP, Candidate, larger
from vitrail.jobs.finetune.held_out import (
    Fold,
    Judged,
    judge_logits,
    judged_from_json,
    judged_words,
    losses_of,
)
from vitrail.jobs.finetune.linear_judge import LinearJudge
from vitrail.jobs.finetune.race import Race, cut_short
from vitrail.jobs.finetune.run import (
    Finetune,
    classifier_of,
    finetune_once,
)
from vitrail.models.build import Model
from vitrail.records.finetune import AutoPlan, Trial, score_of
from vitrail.records.multi_label import Thresholds
from vitrail.records.run import RunResult
from vitrail.train.callbacks import Callback
from vitrail.train.checkpoint import discard_checkpoints
from vitrail.train.divergence import Diverged
from vitrail.train.schedule import Cosine
from vitrail.train.soup import greedy_soup
from vitrail.train.trainable import LayerDecay
from vitrail.weights.bundle import save_bundle
from vitrail.weights.load import load, read_pretrained
from vitrail.weights.pretrained import PretrainedModel


@dataclass(frozen=True)
class AutoRun:
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
    balanced: Float64[np.ndarray, " k"] | None  # log shares of the classes, where these are to count alike

    def train_one(
        self,
        one: Candidate,
        where: Path,
        source: Source,
        begin: tuple[PretrainedModel, Linear],
        steps: int,
        watched: Sequence[Callback] = (),
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
        if one.scale != 1.0:
            config = replace(config, resolution=larger(self.start, one.scale))
        data, recipe = (source, None, None), "auto"
        start, head = begin
        return finetune_once(config, where, self.machine, recipe, data, False, start, watched, head=head)

    def final_start(self, one: Candidate) -> tuple[PretrainedModel, Linear]:
        """What the final run begins with: the model of the chosen trial, or what all trials began with."""
        if not goes_on(self.plan):
            return self.start, self.judge.whole
        trial = read_pretrained(str(self.run.path / "trials" / one.name / "bundle"))
        same = replace(trial, provenance=self.start.provenance, interpolation=self.start.interpolation)
        return same, classifier_of(trial.state)


def choose(trials: Sequence[Trial]) -> Trial:
    """The trial that RULE says; the first of the trials is the linear judge, which stands where nothing was judged.

    The loss says more than the accuracy of a few hundred images: a trial that is a little more often right by chance
    is a worse model where its loss is higher.
    """
    judge = trials[0]
    better = [
        row
        for row in trials[1:]
        if ended(row) and (row.score or 0.0) >= (judge.score or 0.0) and _loss(row) < _loss(judge)
    ]
    return min(better, key=lambda row: (-(row.score or 0.0), _loss(row)), default=judge)


def ended(row: Trial) -> bool:
    """Whether the trial came to its end: it neither failed nor was cut short."""
    return row.failed is None and row.cut is None


def _loss(row: Trial) -> float:
    return inf if row.loss is None else row.loss


def train_trial(auto: AutoRun, one: Candidate, rivals: Sequence[Trial] = ()) -> Trial:
    """A candidate trained on the rest of each fold, judged on what the fold holds out; kept in judged.json.

    With one fold, and other trials, it is cut short where it is clearly behind one of `rivals`.
    """
    where = auto.run.path / "trials" / one.name
    places = [where] if len(auto.folds) == 1 else [where / f"fold-{i}" for i in range(len(auto.folds))]
    done = where / "judged.json"
    if not done.exists():
        started, training, steps, found, failed = time.perf_counter(), 0.0, 0, [], None
        try:
            for fold, head, place in zip(auto.folds, auto.judge.folds, places, strict=True):
                part, watched = Subset(auto.train, fold.train), []
                if goes_on(auto.plan) and len(auto.plan.candidates) > 1:
                    others = [auto.run.path / str(row.folder) for row in rivals]
                    watched = [Race(place, auto.plan.trial_steps, others, partial(_held_out_losses, auto, fold))]
                result = auto.train_one(one, place, part, (auto.start, head), auto.plan.trial_steps, watched)
                training, steps = training + result.seconds, steps + result.steps
                found.append(_held_out_logits(auto, load(place / "bundle", device="cpu"), fold))
                discard_checkpoints(place)
        except Diverged as problem:
            failed = str(problem)
            say(f"the trial {one.name} failed: {problem}")
        judged = None if failed else _judged(auto, *(torch.cat(parts) for parts in zip(*found, strict=True)))
        wall = max(time.perf_counter() - started, training)
        start = (wall - training) / len(places)
        facts = {"seconds": training, "wall": wall, "step": training / max(1, steps), "start": start}
        write_json(done, {**facts, "judged": judged and asdict(judged), "failed": failed})
    stored = read_json(done)
    judged = judged_from_json(stored.pop("judged"))
    cut = cut_short(places[0])
    if judged and not cut:
        say(f"{one.name}: {judged_words(judged)}")
    folder = places[0].relative_to(auto.run.path).as_posix()
    rate = auto.config.optimizer.lr * one.rate
    return Trial(name=one.name, folder=folder, learning_rate=rate, cut=cut, **_figures(judged), **_UNKNOWN, **stored)


def make_soup(auto: AutoRun, trials: Sequence[Trial]) -> list[Trial]:
    """The mean of the weights of some trials, where that is better than each of them; kept in judged.json."""
    where, (fold,) = auto.run.path / "trials" / SOUP.name, auto.folds
    done = where / "judged.json"
    if not done.exists():
        started, judged = time.perf_counter(), None
        figures: dict[float, Judged] = {}

        def score(model: Model) -> float:
            found = _judged(auto, *_held_out_logits(auto, model, fold))
            score = score_of(vars(found))
            figures.setdefault(score, found)
            return score

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
    say(f"soup of {listed(stored['members'])}: {judged_words(judged)}")
    first = trials[0]
    facts: dict[str, Any] = {key: stored[key] for key in ("seconds", "wall")}
    facts |= {"step": first.step, "start": first.start}  # of the final run, as it goes on
    folder = where.relative_to(auto.run.path).as_posix()
    rate = auto.config.optimizer.lr * SOUP.rate
    return [
        Trial(name=SOUP.name, folder=folder, learning_rate=rate, **_figures(judged), **_UNKNOWN, **facts, failed=None)
    ]


def _judged(auto: AutoRun, logits: torch.Tensor, labels: torch.Tensor) -> Judged:
    return judge_logits(logits, labels, auto.train.classes, auto.balanced)


def _held_out_losses(auto: AutoRun, fold: Fold, model: Model) -> Float64[np.ndarray, " m"]:
    return losses_of(*_held_out_logits(auto, model, fold))


def _held_out_logits(auto: AutoRun, model: Model, fold: Fold) -> tuple[torch.Tensor, torch.Tensor]:
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


def thresholds_of(auto: AutoRun, chosen: Trial) -> Thresholds | None:
    """Of several classes an image, from which probability on each is answered, by what was held out."""
    if chosen.name == JUDGE:
        return auto.judge.judged.thresholds if auto.judge.judged else None
    judged = judged_from_json(read_json(auto.run.path / "trials" / str(chosen.name) / "judged.json")["judged"])
    return judged.thresholds if judged else None


def judge_row(judge: LinearJudge) -> Trial:
    more: dict[str, Any] = {"seconds": judge.seconds, "wall": judge.seconds, "step": 0.0, "start": START}
    figures = _figures(judge.judged)
    return Trial(name=JUDGE, folder=None, learning_rate=None, **figures, **_UNKNOWN, **more, failed=None)


_UNKNOWN: dict[str, Any] = dict.fromkeys(("memory_gib", "images_per_second", "weights_sha256", "restarts"))


def _figures(judged: Judged | None) -> dict[str, Any]:
    names = [field.name for field in fields(Judged) if field.name != "thresholds"]
    return {name: getattr(judged, name) if judged else None for name in names}
