"""One task of a suite with one model: done in a folder of its own, and read from it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from vitrail.core.config import to_json
from vitrail.core.device import Machine, choose_device
from vitrail.core.errors import BadInput
from vitrail.core.estimate import Estimate, wilson
from vitrail.core.files import read_json, write_json
from vitrail.core.progress import say
from vitrail.core.resumable import refuse_another
from vitrail.data.leakage import check_train_test
from vitrail.data.open.names import open_data, require_classes
from vitrail.data.sources.subset import Subset
from vitrail.evals.features import Features, features
from vitrail.evals.fewshot_rank import FewShotSet, choose_ridges, first_shots, grid_accuracies
from vitrail.evals.predictions import is_evaluation, occurrences, read_predictions
from vitrail.jobs.evaluate import Evaluate, evaluate
from vitrail.jobs.finetune.finetune import Finetune, finetune
from vitrail.jobs.linear_probe import Linear, linear
from vitrail.jobs.suite.suite import FewShot, FineTuned, Method, Rejudged, Setting, Task, data_of
from vitrail.records.evaluation import EvaluationResult
from vitrail.records.finetune import FinetuneResult
from vitrail.records.linear import LinearResult, LinearRow
from vitrail.records.read_run import Result, read_result
from vitrail.records.record import load_record, write_record
from vitrail.records.study import ThroughputResult
from vitrail.records.suite import RidgeGrid
from vitrail.weights.load import load

TUNED = "fine-tuned"


@dataclass(frozen=True)
class Score:
    """An accuracy of a task; `values`: those of each draw or seed, where there are several."""

    of: str  # "fine-tuned", or "5 shots"
    estimate: Estimate
    count: int | None = None  # test images
    values: tuple[float, ...] = ()


def shots_name(count: int | Literal["all"]) -> str:
    """The name of a score with `count` images a class: "1 shot", "5 shots"."""
    return "1 shot" if count == 1 else f"{count} shots"


def with_setting(config: Finetune, setting: Setting | None) -> Finetune:
    """The fine-tuning of a task with rate and steps of the whole suite; the warm-up is at most a fifth of the steps."""
    if setting is None:
        return config
    warmup = min(config.schedule.warmup, setting.steps // 5)
    return replace(
        config,
        sweep=(),
        held_out=None,
        steps=setting.steps,
        optimizer=replace(config.optimizer, lr=setting.lr),
        schedule=replace(config.schedule, warmup=warmup),
    )


def run_task(task: Task, model: str, method: Method, folder: Path, machine: Machine, setting: Setting | None) -> None:
    """Does a task in `folder`; what is finished there is not repeated.

    Raises:
        BadInput: data or a model that cannot be used; a folder that holds another task.
        Interrupted: after a signal, once all is saved.
    """
    if isinstance(method, FineTuned):
        tuned = replace(with_setting(task.finetune, setting), init=model)
        finetune(replace(tuned, repeats=method.repeats or tuned.repeats), folder, machine)
    elif method.variant == "official":
        _official(task, model, method, folder, machine)
    else:
        _rank_selected(task, model, method, folder, machine)


def rejudge(task: Rejudged, tuned: Path, folder: Path, machine: Machine) -> None:
    """Judges the model that another task left in `tuned` on the images of this one."""
    if not (folder / "evaluation.json").exists():
        evaluate(Evaluate(str(tuned / "bundle"), task.test), folder, machine)


def scores(task: Task | Rejudged, method: Method, folder: Path) -> tuple[Score, ...] | None:
    """The scores in the folder of a task; None while it is unfinished, empty where `ridge_by_rank` makes them."""
    official = isinstance(method, FewShot) and method.variant == "official"
    if isinstance(task, Rejudged):
        file = folder / "evaluation.json"
        return _tuned(load_record(EvaluationResult, file)) if file.exists() else None
    if isinstance(method, FineTuned):
        file = folder / "result.json"
        return _tuned(read_result(file)) if file.exists() else None
    file = folder / ("linear.json" if official else "grid.json")
    if not file.exists():
        return None
    found = load_record(LinearResult, file) if official else None
    return tuple(_drawn(row, found.count) for row in found.rows) if found else ()


def ridge_by_rank(folders: Mapping[str, Path], shots: tuple[int, ...]) -> dict[str, tuple[Score, ...]]:
    """The scores of the older variant: for each number of shots the ridge of the best mean rank over these tasks."""
    grids = {name: load_record(RidgeGrid, folder / "grid.json") for name, folder in folders.items()}
    made: dict[str, list[Score]] = {name: [] for name in grids}
    for count in shots:
        tried = {n: np.array(g.accuracies[str(count)]) for n, g in grids.items() if str(count) in g.accuracies}
        for name, place in choose_ridges(tried, "all").items() if tried else ():
            accuracy, images = float(tried[name][place]), grids[name].count
            estimate = Estimate(accuracy, wilson(round(accuracy * images), images))
            made[name].append(Score(shots_name(count), estimate, images))
    return {name: tuple(rows) for name, rows in made.items()}


def right_answers(task: Task | Rejudged, method: Method, folder: Path) -> dict[tuple[str, int], bool]:
    """Which test images were right, by their names, where a folder says it of each; empty where it does not."""
    if isinstance(method, FewShot):
        return {}
    places = [folder] if isinstance(task, Rejudged) else [folder / "evaluation", folder / "final/seed-0/evaluation"]
    for place in places:
        if is_evaluation(place):
            try:
                found = read_predictions(place).outcomes
            except BadInput as problem:  # the accuracy stands; only the comparison loses its pairs
                say(str(problem))
                return {}
            return dict(zip(occurrences(found.keys), found.correct.tolist(), strict=True))
    return {}


def _tuned(found: EvaluationResult | Result) -> tuple[Score, ...] | None:
    if isinstance(found, ThroughputResult) or found.accuracy is None:
        return None
    runs = found.runs if isinstance(found, FinetuneResult) else ()
    accuracies = tuple(run.accuracy for run in runs if run.accuracy is not None)
    several = accuracies if len(accuracies) > 1 else ()
    return (Score(TUNED, Estimate(found.accuracy, found.interval), found.count, several),)


def _drawn(row: LinearRow, count: int) -> Score:
    # one draw has no interval: what is known is how far other test images may lead
    interval = row.interval or wilson(round(row.mean * count), count)
    return Score(shots_name(row.shots), Estimate(row.mean, interval), count, tuple(row.accuracies))


def _official(task: Task, model: str, method: FewShot, folder: Path, machine: Machine) -> None:
    config = Linear(model, data_of(task, method), task.finetune.test or "", _enough(task, method), method.seeds)
    config = replace(config, resolution=method.resolution)
    if not _already_done(folder, config, "linear.json"):
        linear(config, folder, machine)


@dataclass(frozen=True)
class RankedFewShot:
    """Few-shot with the ridge of the best mean rank over the tasks (variant "older"), on one task."""

    model: str
    train: str
    test: str
    shots: tuple[int, ...]
    resolution: int | None


def _rank_selected(task: Task, model: str, method: FewShot, folder: Path, machine: Machine) -> None:
    train_name, test_name = data_of(task, method), task.finetune.test or ""
    config = RankedFewShot(model, train_name, test_name, _enough(task, method), method.resolution)
    if _already_done(folder, config, "grid.json"):
        return
    loaded = load(model, resolution=config.resolution, device=choose_device(machine.device))
    train, test = open_data(train_name, "train"), open_data(test_name, "test")
    check_train_test(train, test, train_name, test_name)
    if train.classes != test.classes:
        raise BadInput(f"{train_name} has other classes ({train.classes[:5]}…) than {test_name} ({test.classes[:5]}…)")
    kept = np.sort(first_shots(train.labels, len(train.classes), max(config.shots)))
    seen = [features(loaded, part, loaded.preprocess) for part in (Subset(train, kept), test)]
    grid = RidgeGrid(accuracies=_grid(seen, config, len(train.classes)), count=len(seen[1][1]))
    write_record(folder / "grid.json", grid)


def _grid(seen: list[Features], config: RankedFewShot, classes: int) -> dict[str, list[float]]:
    """By shots, the accuracy of each ridge of the grid."""
    images = FewShotSet(seen[0].values, seen[0].labels, seen[1].values, seen[1].labels, classes)
    return {str(count): grid_accuracies(images, count).tolist() for count in config.shots}


def _enough(task: Task, method: FewShot) -> tuple[int, ...]:
    """The numbers of shots for which every class has images."""
    name = data_of(task, method)
    source = open_data(name, "train")
    require_classes(source, name)
    fewest = int(np.bincount(source.labels, minlength=len(source.classes)).min())
    shots = tuple(count for count in method.shots if count <= fewest)
    if not shots:
        raise BadInput(f"{name} has a class with {fewest} images, fewer than {min(method.shots)} shots")
    return shots


def _already_done(folder: Path, config: Linear | RankedFewShot, done: str) -> bool:
    """Whether the folder holds the finished task; writes task.json, and refuses a folder of another task."""
    about = folder / "task.json"
    if about.exists():
        refuse_another(folder, read_json(about), config, f"{folder} holds another task", "give another --out")
    else:
        write_json(about, to_json(config))
    return (folder / done).exists()
