"""The plan of a suite before it starts: tasks, images, steps, time and memory, and which data are absent."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vitrail.core import device as devices
from vitrail.core.device import Machine
from vitrail.jobs.finetune.plan import Sizes, held_out_share, make_plan
from vitrail.jobs.finetune.run import Finetune, with_defaults_for
from vitrail.jobs.finetune.step_time import StepTime, measure_step_time
from vitrail.jobs.suite.run import SuiteRun
from vitrail.jobs.suite.suite import (
    FewShot,
    FineTuned,
    Rejudged,
    Setting,
    Task,
    chosen,
    data_of,
    folder_names,
    look_for,
)
from vitrail.jobs.suite.table import FOLDERS
from vitrail.jobs.suite.task import scores, with_setting
from vitrail.weights.load import read_pretrained
from vitrail.weights.pretrained import PretrainedModel


@dataclass(frozen=True)
class PlannedTask:
    """A row of the plan. Counts, seconds and memory are None where the data are not here."""

    name: str
    group: str
    state: str  # "to do", "done", "absent", "to be downloaded", "left out"
    train: str
    test: str
    train_images: int | None = None
    test_images: int | None = None
    classes: int | None = None
    steps: int | None = None
    batch: int | None = None
    runs: int | None = None  # trials and final runs
    seconds: float | None = None  # of both models; decoding is not in it
    memory_gib: float | None = None
    note: str = ""  # why it is absent, and how the data are provided


def plan_suite(
    config: SuiteRun, folder: Path | None, machine: Machine, *, only: tuple[str, ...] = (), skip: tuple[str, ...] = ()
) -> list[PlannedTask]:
    """A row a task; starts and downloads nothing. Without a model (an empty name) no time is measured."""
    config.suite.check()
    wanted = chosen(config.suite, only, skip)
    published = read_pretrained(config.model) if config.model else None
    names = folder_names([task.name for task in config.suite.tasks])
    times = _StepTimes(published, machine)
    made = []
    for task in config.suite.tasks:
        if isinstance(task, Rejudged):
            state = "left out" if task.name not in wanted or isinstance(config.method, FewShot) else "to do"
            note = f"judges the fine-tuned model of {task.of}"
            made.append(PlannedTask(task.name, task.group, state, "", task.test, note=note))
        else:
            row = _planned(config, task, times)
            if row.state == "to do" and _is_done(config, task, folder, names[task.name]):
                row = replace(row, state="done", seconds=0.0)
            made.append(row if task.name in wanted else replace(row, state="left out", seconds=None))
    return made


def _is_done(config: SuiteRun, task: Task, folder: Path | None, name: str) -> bool:
    sides = list(FOLDERS.values()) if config.against else [FOLDERS["model"]]
    return folder is not None and all(scores(task, config.method, folder / side / name) is not None for side in sides)


def _planned(config: SuiteRun, task: Task, times: "_StepTimes") -> PlannedTask:
    method = config.method
    row = PlannedTask(task.name, task.group, "to do", data_of(task, method), task.finetune.test or "")
    present = look_for(task, method)
    if present.fetched_first:
        return replace(row, state="to be downloaded")
    if present.problem:
        note = f"wants {task.layout}" if task.layout else present.problem
        return replace(row, state="absent", note=note)
    assert present.train is not None
    assert present.test is not None
    assert present.classes is not None
    row = replace(row, train_images=present.train, test_images=present.test, classes=present.classes)
    models = 2 if config.against else 1
    if isinstance(method, FewShot):
        used = present.test + min(present.train, present.classes * max(method.shots) * method.seeds)
        seen = times.of(replace(task.finetune, resolution=method.resolution), present.classes)
        return replace(row, seconds=models * used * seen.judged if seen else None)
    tuned = with_defaults_for(with_setting(task.finetune, _one(method)), present.train)
    tuned = replace(tuned, repeats=method.repeats or tuned.repeats)
    runs = (len(tuned.sweep) if len(tuned.sweep) > 1 else 0) + tuned.repeats + 1
    row = replace(row, steps=tuned.steps, batch=tuned.batch, runs=models * runs)
    seen = times.of(tuned, present.classes)
    if seen is None:
        return row
    share = held_out_share(tuned, present.train)
    plan = make_plan(tuned, Sizes(present.train, round((share or 0) * present.train), present.test), 0, seen, None)
    trials = 0.0
    if len(method.settings) > 1 and task.choice is not None:
        trials = sum(setting.steps * seen.seconds(tuned.batch) for setting in method.settings)
    return replace(row, seconds=models * plan.seconds + trials, memory_gib=seen.memory_gib)


def _one(method: FineTuned) -> Setting | None:
    """The setting; of several the longest, which is at most what will be chosen."""
    return max(method.settings, key=lambda setting: setting.steps, default=None)


class _StepTimes:
    """The step time of the model at a resolution and batch, measured once for tasks that share both."""

    def __init__(self, published: PretrainedModel | None, machine: Machine):
        self._published, self._machine, self._known = published, machine, dict[Any, StepTime]()

    def of(self, config: Finetune, classes: int) -> StepTime | None:
        """None without a model."""
        if self._published is None:
            return None
        key = (config.resolution, config.batch, config.patch, config.pool, config.tuned)
        if key not in self._known:
            config = replace(config, batch=config.batch or 64)
            self._known[key] = measure_step_time(
                config, self._published, tuple(map(str, range(classes))), self._machine
            )
        return self._known[key]


def as_json(config: SuiteRun, rows: list[PlannedTask], machine: Machine) -> dict[str, Any]:
    """The plan for machines."""
    known = [row.seconds for row in rows if row.seconds is not None]
    device = devices.choose_device(machine.device)
    return {
        "suite": config.suite.name,
        "about": config.suite.about,
        "model": config.model or None,
        "against": config.against,
        "method": "few-shot" if isinstance(config.method, FewShot) else "finetune",
        "tasks": [asdict(row) for row in rows],
        "seconds": sum(known) if known else None,
        "device": devices.describe_device(device),
    }
