"""A suite: one model, or two, transferred to many data sets; one table with the means of its groups.

OUT/suite.json (the table, written anew after every task), OUT/model/TASK/ and OUT/against/TASK/ (a run or a few-shot
evaluation each), OUT/choice/SETTING/TASK/ (where one setting is chosen for all). What is finished is not repeated.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path

from vitrail.core.config import to_json
from vitrail.core.device import Machine
from vitrail.core.dist import launched
from vitrail.core.errors import BadInput, Interrupted
from vitrail.core.estimate import Estimate
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
from vitrail.jobs.suite.table import FOLDERS, Side, TaskResult, headline, means, names_of, rows, sentence
from vitrail.jobs.suite.task import rejudge, ridge_by_rank, right_answers, run_task, scores, with_setting
from vitrail.records.record import load_record, write_record
from vitrail.records.suite import ChosenSetting, SuiteChoice, SuiteResult, TriedSetting
from vitrail.weights.load import read_pretrained


@dataclass(frozen=True)
class SuiteRun:
    """A model, the suite to evaluate it on, and how it is transferred; `against`: a second model, the baseline."""

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
) -> SuiteResult:
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
        models["baseline"] = config.against
    for model in models.values():
        read_pretrained(model)
    # The list of tasks may grow and the second model may come later; what is done stays right.
    identity = replace(config, suite=replace(config.suite, about="", tasks=()), against=None)
    with RunFolder(folder, "suite", identity):
        record = _Record(config, folder, models)
        setting = _choose(config, record, wanted, machine)
        with progress(config.suite.name, len(wanted) * len(models)) as bar:
            for result in record.results:
                if result.task.name in wanted:
                    for side in models:
                        bar.advance(f"{result.task.name}: {_done(config, record, result, side, machine, setting)}")
                        record.write()
        return record.write(finished=True)


def _check_method(method: Method) -> None:
    if isinstance(method, FewShot) and (not method.shots or min(method.shots) < 1 or method.seeds < 1):
        raise BadInput(f"shots {method.shots} and seeds {method.seeds} must be at least 1")
    if isinstance(method, FineTuned) and method.repeats < 0:
        raise BadInput(f"repeats is {method.repeats}, expected 0 or more")
    for setting in method.settings if isinstance(method, FineTuned) else ():
        if setting.lr <= 0 or setting.steps < 1:
            raise BadInput(f"rate {setting.lr:g} and steps {setting.steps} of a setting must be above 0")


class _Record:
    """The results of all tasks, read from their folders and written to suite.json."""

    def __init__(self, config: SuiteRun, folder: Path, models: dict[Side, str]):
        self.config, self.folder, self.models = config, folder, models
        self.names = folder_names([task.name for task in config.suite.tasks])
        file = folder / "suite.json"
        self.before = load_record(SuiteResult, file) if file.exists() else None
        self.choice: SuiteChoice | None = None
        self._refuse_others()
        self.results = [TaskResult(task, folder=self.names[task.name]) for task in config.suite.tasks]
        known = {row.name: row for row in self.before.tasks} if self.before else {}
        for result in self.results:
            if row := known.get(result.task.name):
                result.seconds, result.counts = row.seconds, dict(row.counts)
                result.state, result.sentence = row.state, row.sentence
            self.read(result)

    def place(self, result: TaskResult, side: Side) -> Path:
        """The folder of a task with one of the models."""
        return self.folder / FOLDERS[side] / result.folder

    def read(self, result: TaskResult) -> None:
        """Takes up what is finished."""
        for side in self.models:
            place = self.place(result, side)
            found = scores(result.task, self.config.method, place)
            if found is not None:
                result.scores[side] = found
                result.right[side] = right_answers(result.task, self.config.method, place)
        if all(side in result.scores for side in self.models):
            result.state, result.sentence = "done", ""
        elif result.state == "done":
            result.state = "waiting"

    def write(self, *, finished: bool = False) -> SuiteResult:
        """The table as it is."""
        method, suite = self.config.method, self.config.suite
        if isinstance(method, FewShot) and method.variant == "older":
            for side in self.models:
                done = {result.task.name: self.place(result, side) for result in self.results if side in result.scores}
                for name, found in ridge_by_rank(done, method.shots).items():
                    next(result for result in self.results if result.task.name == name).scores[side] = found
        table = SuiteResult(
            suite=suite.name,
            about=suite.about,
            groups=suite.groups,
            model=self.config.model,
            against=self.config.against,
            method=to_json(method),
            finished=finished and all(result.state != "waiting" for result in self.results),
            sentence=sentence(suite, self.results, self.config.model, self.config.against),
            headline=headline(names_of(self.results)),
            choice=self.choice,
            tasks=rows(self.results),
            means=means(suite, self.results),
            definitions={task.name: to_json(task) for task in suite.tasks},
            seconds=sum(result.seconds for result in self.results),
        )
        write_record(self.folder / "suite.json", table)
        return table

    def _refuse_others(self) -> None:
        """Raises BadInput where the folder holds another second model, or another task of the same name."""
        if self.before is None:
            return
        other = self.before.against
        if other and self.config.against and other != self.config.against:
            raise BadInput(f"{self.folder} compares with {other}, not with {self.config.against}; give another --out")
        for task in self.config.suite.tasks:
            stored = self.before.definitions.get(task.name)
            begun = [side for side in FOLDERS.values() if (self.folder / side / self.names[task.name]).exists()]
            if stored is None or not begun:
                continue
            folders = ", ".join(f"{side}/{self.names[task.name]}" for side in begun)
            advice = f"give another --out, or remove the folders {folders}"
            question = replace(task, published=(), layout="")
            stored = {**stored, "published": [], "layout": ""}
            what = f"the task {task.name!r} is another than in {self.folder}"
            refuse_another(self.folder, stored, question, what, advice)


def _done(
    config: SuiteRun, record: _Record, result: TaskResult, side: Side, machine: Machine, setting: Setting | None
) -> str:
    """Does one task with one model, and says how it ended."""
    if side in result.scores:
        return "done before"
    begun = time.perf_counter()
    try:
        if isinstance(result.task, Rejudged):
            _rejudged(config, record, result, side, machine)
        else:
            present = look_for(result.task, config.method)
            if present.problem:
                result.state, result.sentence = "absent", present.problem
                return result.state
            result.counts = {"train": present.train, "test": present.test, "classes": present.classes}
            run_task(result.task, record.models[side], config.method, record.place(result, side), machine, setting)
    except Interrupted:
        raise
    except _Absent as problem:
        result.state, result.sentence = "absent", str(problem)
        return result.state
    except Exception as problem:  # of whatever kind: the other tasks are not to wait for somebody to mend it
        kind = "" if isinstance(problem, BadInput) else f"{type(problem).__name__}: "
        result.state, result.sentence = "failed", f"{kind}{problem}"
        say(f"{result.task.name} failed: {result.sentence}")
        return result.state
    finally:
        result.seconds += time.perf_counter() - begun
    result.state, result.sentence = "waiting", ""  # until the other model is done, too
    record.read(result)
    if side not in result.scores:
        result.state, result.sentence = "failed", "no accuracy came out: the task has no test images"
    return result.state


class _Absent(Exception):
    """The data or the model that a task needs is absent."""


def _rejudged(config: SuiteRun, record: _Record, result: TaskResult, side: Side, machine: Machine) -> None:
    assert isinstance(result.task, Rejudged)
    if isinstance(config.method, FewShot):
        raise _Absent(f"it judges the fine-tuned model of {result.task.of}: only --method finetune has one")
    other = next(o for o in record.results if o.task.name == result.task.of)
    if side not in other.scores:
        raise _Absent(f"it judges the fine-tuned model of {result.task.of}, which is not done")
    try:
        rejudge(result.task, record.place(other, side), record.place(result, side), machine)
    except BadInput as problem:
        raise _Absent(str(problem)) from None


def _choose(config: SuiteRun, record: _Record, wanted: set[str], machine: Machine) -> Setting | None:
    """The setting of all tasks: of several the one with the best mean over held-out parts, by `model` alone.

    Of equal means the lower rate, then fewer steps. Only tasks that all settings have count.
    """
    settings = config.method.settings if isinstance(config.method, FineTuned) else ()
    if len(settings) < 2:
        return settings[0] if settings else None
    if record.before and record.before.choice:
        record.choice = record.before.choice
        return Setting(record.choice.chosen.lr, record.choice.chosen.steps)
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
                place = record.folder / "choice" / f"lr-{setting.lr:g}-steps-{setting.steps}" / record.names[task.name]
                seen = _trial(task, config.model, place, machine, setting)
                if seen is not None:
                    found[setting][task.name] = seen
                bar.advance(f"{task.name}, rate {setting.lr:g}, {setting.steps} steps")
    common = [task.name for task in tasks if all(task.name in of for of in found.values())]
    if not common:
        raise BadInput(f"no task of {config.suite.name} ended well with all settings; give lower rates")
    mean = {setting: mean_of([of[name] for name in common]) for setting, of in found.items()}
    best = min(settings, key=lambda setting: (-mean[setting].value, setting.lr, setting.steps))
    tried = [TriedSetting(lr=s.lr, steps=s.steps, mean=m.value, interval=m.interval) for s, m in mean.items()]
    chosen_setting = ChosenSetting(lr=best.lr, steps=best.steps)
    record.choice = SuiteChoice(tasks=common, settings=tried, chosen=chosen_setting)
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
    return None if found.accuracy is None else Estimate(found.accuracy, found.interval)
