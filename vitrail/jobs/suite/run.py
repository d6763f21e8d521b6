"""A suite: one model, or two, transferred to many data sets; one table with the means of its groups.

OUT/suite.json (the table, written anew after every task), OUT/model/TASK/ and OUT/against/TASK/ (a run or a few-shot
evaluation each), OUT/choice/SETTING/TASK/ (where one setting is chosen for all). What is finished is not repeated.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vitrail.core.config import to_json
from vitrail.core.device import Machine
from vitrail.core.dist import launched
from vitrail.core.errors import BadInput, Interrupted
from vitrail.core.estimate import Estimate
from vitrail.core.files import read_json, write_json
from vitrail.core.progress import progress, say
from vitrail.core.resumable import refuse_another
from vitrail.core.run import RunFolder
from vitrail.evals.paired import mean_of
from vitrail.jobs.finetune.finetune import finetune
from vitrail.jobs.suite.suite import (
    FewShot,
    FineTuned,
    Method,
    Rejudged,
    Setting,
    Suite,
    Task,
    chosen,
    folder_names,
    look_for,
)
from vitrail.jobs.suite.table import Side, TaskResult, headline, means, names_of, rows, sentence
from vitrail.jobs.suite.task import rejudge, ridge_by_rank, right_answers, run_task, scores, with_setting
from vitrail.weights.load import read_pretrained


@dataclass(frozen=True)
class SuiteRun:
    """What is judged, on what, and how."""

    suite: Suite
    model: str
    method: Method = FineTuned()
    against: str | None = None


def run_suite(
    config: SuiteRun,
    folder: Path,
    machine: Machine | None = None,
    *,
    only: tuple[str, ...] = (),
    skip: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Does what is missing of the suite in `folder`, and returns what suite.json holds (docs/files.md).

    A task that fails or whose data are absent is in the table with its sentence, and the others go on.

    Raises:
        BadInput: a model or suite that cannot be used, or a folder of another one.
        Interrupted: after a signal, once the task at work is saved.
    """
    config.suite.check()
    _check_method(config.method)
    machine = machine or Machine()
    wanted = chosen(config.suite, only, skip)
    if launched().size > 1:
        raise BadInput("a suite runs in one process; to use several machines give each its tasks with --only")
    models: dict[Side, str] = {"model": config.model}
    if config.against is not None:
        models["against"] = config.against
    for model in models.values():
        read_pretrained(model)
    # The list of tasks may grow and the second model may come later; what is done stays right.
    identity = replace(config, suite=replace(config.suite, about="", tasks=()), against=None)
    with RunFolder(folder, "suite", identity):
        book = _Book(config, folder, models)
        setting = _choose(config, book, wanted, machine)
        with progress(config.suite.name, len(wanted) * len(models)) as bar:
            for one in book.standings:
                if one.task.name in wanted:
                    for side in models:
                        bar.advance(f"{one.task.name}: {_done(config, book, one, side, machine, setting)}")
                        book.write()
        return book.write(finished=True)


def _check_method(method: Method) -> None:
    if isinstance(method, FewShot) and (not method.shots or min(method.shots) < 1 or method.seeds < 1):
        raise BadInput(f"shots {method.shots} and seeds {method.seeds} must be at least 1")
    if isinstance(method, FineTuned) and method.repeats < 0:
        raise BadInput(f"repeats is {method.repeats}, expected 0 or more")
    for setting in method.settings if isinstance(method, FineTuned) else ():
        if setting.lr <= 0 or setting.steps < 1:
            raise BadInput(f"rate {setting.lr:g} and steps {setting.steps} of a setting must be above 0")


class _Book:
    """What is known of the tasks, read from their folders; suite.json is its content."""

    def __init__(self, config: SuiteRun, folder: Path, models: dict[Side, str]):
        self.config, self.folder, self.models = config, folder, models
        self.names = folder_names([task.name for task in config.suite.tasks])
        self.choice: dict[str, Any] | None = None
        file = folder / "suite.json"
        self.before: dict[str, Any] = read_json(file) if file.exists() else {}
        self._refuse_others()
        self.standings = [TaskResult(task, folder=self.names[task.name]) for task in config.suite.tasks]
        known = {row["name"]: row for row in self.before.get("tasks", ())}
        for one in self.standings:
            if row := known.get(one.task.name):
                one.seconds, one.counts = row["seconds"], row["counts"]
                one.state, one.sentence = row["state"], row["sentence"]
            self.read(one)

    def place(self, one: TaskResult, side: Side) -> Path:
        """The folder of a task with one of the models."""
        return self.folder / side / one.folder

    def read(self, one: TaskResult) -> None:
        """Takes up what is finished."""
        for side in self.models:
            place = self.place(one, side)
            found = scores(one.task, self.config.method, place)
            if found is not None:
                one.scores[side] = found
                one.right[side] = right_answers(one.task, self.config.method, place)
        if all(side in one.scores for side in self.models):
            one.state, one.sentence = "done", ""
        elif one.state == "done":
            one.state = "waiting"

    def write(self, *, finished: bool = False) -> dict[str, Any]:
        """The table as it is."""
        method, suite = self.config.method, self.config.suite
        if isinstance(method, FewShot) and method.variant == "older":
            for side in self.models:
                done = {one.task.name: self.place(one, side) for one in self.standings if side in one.scores}
                for name, found in ridge_by_rank(done, method.shots).items():
                    next(one for one in self.standings if one.task.name == name).scores[side] = found
        content = {
            "format": 1,
            "suite": suite.name,
            "about": suite.about,
            "groups": list(suite.groups),
            "model": self.config.model,
            "against": self.config.against,
            "method": to_json(method),
            "finished": finished and all(one.state != "waiting" for one in self.standings),
            "sentence": sentence(suite, self.standings, self.config.model, self.config.against),
            "headline": headline(names_of(self.standings)),
            "choice": self.choice,
            "tasks": rows(self.standings),
            "means": means(suite, self.standings),
            "definitions": {task.name: to_json(task) for task in suite.tasks},
            "seconds": sum(one.seconds for one in self.standings),
        }
        write_json(self.folder / "suite.json", content)
        return content

    def _refuse_others(self) -> None:
        """Raises BadInput where the folder holds another second model, or another task of the same name."""
        other = self.before.get("against")
        if other and self.config.against and other != self.config.against:
            raise BadInput(f"{self.folder} compares with {other}, not with {self.config.against}; give another --out")
        for task in self.config.suite.tasks:
            stored = self.before.get("definitions", {}).get(task.name)
            begun = [side for side in ("model", "against") if (self.folder / side / self.names[task.name]).exists()]
            if stored is None or not begun:
                continue
            folders = ", ".join(f"{side}/{self.names[task.name]}" for side in begun)
            advice = f"give another --out, or remove the folders {folders}"
            question = replace(task, published=(), layout="")
            stored = {**stored, "published": [], "layout": ""}
            refuse_another(self.folder, stored, question, f"another task {task.name!r}", advice)


def _done(config: SuiteRun, book: _Book, one: TaskResult, side: Side, machine: Machine, setting: Setting | None) -> str:
    """Does one task with one model, and says how it ended."""
    if side in one.scores:
        return "done before"
    begun = time.perf_counter()
    try:
        if isinstance(one.task, Rejudged):
            _rejudged(config, book, one, side, machine)
        else:
            present = look_for(one.task, config.method)
            if present.problem:
                one.state, one.sentence = "absent", present.problem
                return one.state
            one.counts = {"train": present.train, "test": present.test, "classes": present.classes}
            run_task(one.task, book.models[side], config.method, book.place(one, side), machine, setting)
    except Interrupted:
        raise
    except _Absent as problem:
        one.state, one.sentence = "absent", str(problem)
        return one.state
    except Exception as problem:  # of whatever kind: the other tasks are not to wait for somebody to mend it
        kind = "" if isinstance(problem, BadInput) else f"{type(problem).__name__}: "
        one.state, one.sentence = "failed", f"{kind}{problem}"
        say(f"{one.task.name} failed: {one.sentence}")
        return one.state
    finally:
        one.seconds += time.perf_counter() - begun
    one.state, one.sentence = "waiting", ""  # until the other model is done, too
    book.read(one)
    if side not in one.scores:
        one.state, one.sentence = "failed", "no accuracy came out: the task has no test images"
    return one.state


class _Absent(Exception):
    """What a task needs is not there."""


def _rejudged(config: SuiteRun, book: _Book, one: TaskResult, side: Side, machine: Machine) -> None:
    assert isinstance(one.task, Rejudged)
    if isinstance(config.method, FewShot):
        raise _Absent(f"it judges the fine-tuned model of {one.task.of}: only --method finetune has one")
    other = next(o for o in book.standings if o.task.name == one.task.of)
    if side not in other.scores:
        raise _Absent(f"it judges the fine-tuned model of {one.task.of}, which is not done")
    try:
        rejudge(one.task, book.place(other, side), book.place(one, side), machine)
    except BadInput as problem:
        raise _Absent(str(problem)) from None


def _choose(config: SuiteRun, book: _Book, wanted: set[str], machine: Machine) -> Setting | None:
    """The setting of all tasks: of several the one with the best mean over held-out parts, by `model` alone.

    Of equal means the lower rate, then fewer steps. Only tasks that all settings have count.
    """
    settings = config.method.settings if isinstance(config.method, FineTuned) else ()
    if len(settings) < 2:
        return settings[0] if settings else None
    if stored := book.before.get("choice"):
        book.choice = stored
        return Setting(**stored["chosen"])
    tasks = [t for t in config.suite.tasks if isinstance(t, Task) and t.choice is not None and t.name in wanted]
    tasks = [task for task in tasks if not look_for(task, config.method).problem]
    if not tasks:
        raise BadInput(
            f"no task of {config.suite.name} that is here has a held-out part to choose between {len(settings)} "
            "settings; give one rate and one number of steps"
        )
    found: dict[Setting, dict[str, Estimate]] = {setting: {} for setting in settings}
    with progress(f"{config.suite.name}: choosing", len(settings) * len(tasks)) as bar:
        for setting in settings:
            for task in tasks:
                place = book.folder / "choice" / f"lr-{setting.lr:g}-steps-{setting.steps}" / book.names[task.name]
                seen = _trial(task, config.model, place, machine, setting)
                if seen is not None:
                    found[setting][task.name] = seen
                bar.advance(f"{task.name}, rate {setting.lr:g}, {setting.steps} steps")
    common = [task.name for task in tasks if all(task.name in of for of in found.values())]
    if not common:
        raise BadInput(f"no task of {config.suite.name} ended well with all settings; give lower rates")
    mean = {setting: mean_of([of[name] for name in common]) for setting, of in found.items()}
    best = min(settings, key=lambda setting: (-mean[setting].value, setting.lr, setting.steps))
    tried = [
        {"lr": s.lr, "steps": s.steps, "mean": m.value, "interval": m.interval and list(m.interval)}
        for s, m in mean.items()
    ]
    book.choice = {"tasks": common, "settings": tried, "chosen": {"lr": best.lr, "steps": best.steps}}
    say(f"chosen on held-out images: rate {best.lr:g}, {best.steps} steps, {mean[best].value:.1%} on average")
    return best


def _trial(task: Task, model: str, place: Path, machine: Machine, setting: Setting) -> Estimate | None:
    """The accuracy on the held-out part of a task; None where the run failed."""
    assert task.choice is not None
    tuned = with_setting(task.finetune, setting)
    tuned = replace(
        tuned, init=model, train=task.choice.train, validation=task.choice.held_out, test=None, held_out=None, repeats=0
    )
    try:
        found = finetune(tuned, place, machine)
    except Interrupted:
        raise
    except Exception as problem:  # another setting may do
        say(f"{task.name} failed with rate {setting.lr:g}: {problem}")
        return None
    low, high = found["interval"]
    return Estimate(found["accuracy"], (low, high))
