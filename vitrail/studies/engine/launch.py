"""The runs of a study in processes of their own: several at a time on this machine, or as tasks on a Ray cluster.

A process is the command that `vitrail study --commands` shows for its run, so all ways of running a study are one.
"""

import os
import shlex
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from vitrail.core.cluster import ray_cluster
from vitrail.core.errors import BadInput
from vitrail.core.files import make_folder, read_json
from vitrail.core.pool import usable_cores
from vitrail.core.progress import QUIET_SECONDS, console, say
from vitrail.core.run import read_metrics
from vitrail.core.signals import SignalWatch
from vitrail.studies.engine.execute import done, missing, note_failure, write_study
from vitrail.studies.engine.runs import StudyRun
from vitrail.studies.engine.study import Study

PAUSE = 0.5  # seconds between two looks at the processes


@dataclass
class Child:
    """A run at work."""

    plan: StudyRun
    process: subprocess.Popen[bytes]
    log: IO[bytes]


def spread(study: Study, out: Path, command: Callable[[StudyRun], Sequence[str]], jobs: int) -> None:
    """Makes what is missing, `jobs` runs at a time, each with its share of the cores; failures are noted.

    What a run says goes to a `.log` beside its folder. Raises Interrupted after a signal, once all runs are saved.
    """
    study.check()
    if jobs < 1:
        raise BadInput(f"--jobs is {jobs}, expected at least 1")
    threads = max(1, usable_cores() // jobs)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    total = len(missing(study, out, counted=True))
    todo, tried, running = deque(missing(study, out)), set[Path](), list[Child]()
    with SignalWatch() as watch, board(total) as show:
        try:
            while todo or running:
                while todo and len(running) < jobs and watch.received is None:
                    plan = todo.popleft()
                    tried.add(plan.folder)
                    running.append(_start(plan, command, environment))
                time.sleep(PAUSE)
                watch.check()
                for child in [child for child in running if child.process.poll() is not None]:
                    running.remove(child)
                    _end(study, child)
                    write_study(study, out)
                    todo = todo or deque(missing(study, out, tried))
                show([child.plan for child in running], max(len(todo), total - len(tried)))
        finally:
            for child in running:  # they save where they are; a process that had the signal already does not mind
                child.process.terminate()
            for child in running:
                child.process.wait()
                child.log.close()


def _start(plan: StudyRun, command: Callable[[StudyRun], Sequence[str]], environment: dict[str, str]) -> Child:
    make_folder(plan.folder.parent)
    plan.failure.unlink(missing_ok=True)  # of an earlier attempt: this one may end for another reason
    log = open(plan.folder.with_name(f"{plan.folder.name}.log"), "wb")  # noqa: SIM115 - as long as the process
    arguments = [sys.executable, "-m", *command(plan)]
    return Child(plan, subprocess.Popen(arguments, stdout=log, stderr=log, env=environment), log)


def _end(study: Study, child: Child) -> None:
    child.log.close()
    code = child.process.returncode
    if code == 0 and done(child.plan, study.measures):
        return
    if child.plan.failure.is_file():  # it said why
        say(f"{child.plan.run.name}, seed {child.plan.config.seed}, failed: {read_json(child.plan.failure)['said']}")
        return
    note_failure(child.plan, _last_words(child.plan, code))


def _last_words(plan: StudyRun, code: int) -> str:
    log = plan.folder.with_name(f"{plan.folder.name}.log")
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    ended = f"killed by signal {-code}" if code < 0 else f"ended with code {code}"
    return f"{ended}; {lines[-1].removeprefix('vitrail: ')}" if lines else ended


@contextmanager
def board(total: int) -> Iterator[Callable[[Sequence[StudyRun], int], None]]:
    """A bar over the runs and a line for each at work; without a terminal, all in one line now and then."""
    if not console.is_terminal:
        last = [time.monotonic()]

        def tell(running: Sequence[StudyRun], waiting: int) -> None:
            finished = total - waiting - len(running)
            if time.monotonic() - last[0] > QUIET_SECONDS or finished == total:
                last[0] = time.monotonic()
                say("; ".join([f"runs {finished}/{total}", *(f"{_title(plan)} {_stands(plan)}" for plan in running)]))

        yield tell
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=console) as bars:
        overall = bars.add_task("runs", total=total, note="")
        tasks: dict[Path, Any] = {}

        def draw(running: Sequence[StudyRun], waiting: int) -> None:
            bars.update(overall, completed=total - waiting - len(running))
            for folder in set(tasks) - {plan.folder for plan in running}:
                bars.remove_task(tasks.pop(folder))
            for plan in running:
                if plan.folder not in tasks:
                    tasks[plan.folder] = bars.add_task(_title(plan), total=getattr(plan.config, "steps", None), note="")
                bars.update(tasks[plan.folder], completed=_step(plan), note=_stands(plan))

        yield draw


def _title(plan: StudyRun) -> str:
    return f"{plan.run.name}, seed {plan.config.seed}"


def _step(plan: StudyRun) -> int:
    rows = read_metrics(plan.folder / "metrics.jsonl")
    return rows[-1]["step"] if rows else 0


def _stands(plan: StudyRun) -> str:
    rows = [row for row in read_metrics(plan.folder / "metrics.jsonl") if row["kind"] == "train"]
    if plan.finished:
        return "measuring"
    return f"step {rows[-1]['step']:,}, loss {rows[-1]['loss']:.3f}" if rows else "starting"


def on_ray(study: Study, out: Path, command: Callable[[StudyRun], Sequence[str]]) -> None:
    """A task a run on the cluster that RAY_ADDRESS names; every node sees the data and `out` under the same names.

    A task has one GPU where the cluster has any, else the cores of a node.
    """
    study.check()
    total, tried = len(missing(study, out, counted=True)), set[Path]()
    with ray_cluster() as ray:
        resources = ray.cluster_resources()
        nodes = max(1, sum(node["Alive"] for node in ray.nodes()))
        share = {"num_gpus": 1} if resources.get("GPU") else {"num_cpus": max(1, int(resources["CPU"] // nodes))}
        task = ray.remote(**share)(_in_task)
        waiting: dict[Any, StudyRun] = {}

        def start() -> None:
            for plan in missing(study, out, tried):
                tried.add(plan.folder)
                plan.failure.unlink(missing_ok=True)
                waiting[task.remote([sys.executable, "-m", *command(plan)], str(Path.cwd()))] = plan

        start()
        with SignalWatch() as watch, board(total) as show:
            while waiting:
                ended, _ = ray.wait(list(waiting), timeout=1.0)
                watch.check()
                for reference in ended:
                    plan = waiting.pop(reference)
                    code, reason = ray.get(reference)
                    if code != 0 and not plan.failure.is_file():
                        note_failure(plan, reason)
                    write_study(study, out)
                    start()
                show([plan for plan in waiting.values() if plan.folder.is_dir()], total - len(tried))


def _in_task(command: Sequence[str], folder: str) -> tuple[int, str]:
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    lines = ended.stderr.strip().splitlines()
    return ended.returncode, lines[-1].removeprefix("vitrail: ") if lines else f"{shlex.join(command)} failed"
