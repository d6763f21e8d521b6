"""One run of a study made and measured; all of them, one after another; and study.json, which says how they stand."""

import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, assert_never

from vitrail.core.config import to_json
from vitrail.core.device import Machine
from vitrail.core.errors import BadInput, Interrupted, unknown
from vitrail.core.files import read_json
from vitrail.core.progress import say
from vitrail.jobs.finetune.finetune import finetune
from vitrail.jobs.linear_probe import Linear, linear
from vitrail.records.record import load_record, write_record
from vitrail.records.study import (
    FailedRun,
    Measured,
    OtherResults,
    State,
    StudyBase,
    StudyCost,
    StudyMeasure,
    StudyResult,
    StudyRow,
    StudyRunState,
    StudyValue,
)
from vitrail.studies.engine.rates import needed
from vitrail.studies.engine.remarks import remarks
from vitrail.studies.engine.results import Results, Row, measured_file, pooled, read_measured
from vitrail.studies.engine.runs import FewShot, Measure, Reached, Run, StudyRun, Tuned, digest
from vitrail.studies.engine.study import Study, study_runs


def execute(study: Study, plan: StudyRun, machine: Machine) -> None:
    """Makes or continues one run and what is measured of it; what is done already is not done again.

    Raises:
        BadInput: as the job does.
        Interrupted: after a signal, once the run is saved.
    """
    study.job(plan.config, plan.folder, machine)
    for measure in study.measures:
        if read_measured(plan, measure) is None:
            started = time.perf_counter()
            measurement = _measured(plan, measure, machine)
            if measurement is not None:
                seconds = time.perf_counter() - started
                write_record(measured_file(plan, measure), replace(measurement, seconds=seconds))
    plan.failure.unlink(missing_ok=True)


def _measured(plan: StudyRun, measure: Measure, machine: Machine) -> Measured | None:
    bundle, about = str(plan.folder / "bundle"), to_json(measure)
    match measure:
        case FewShot(train, test, shots, draws):
            judged = linear(Linear(bundle, train, test, shots, draws), None, machine)
            values = {FewShot.name_of(row.shots): row.mean for row in judged.rows}
            return Measured(measure=about, values=values, count=judged.count, rows=judged.rows)
        case Tuned(config, name):
            folder = plan.folder / f"tuned-{digest(config)}"
            result = finetune(replace(config, init=bundle, seed=plan.config.seed), folder, machine)
            return Measured(measure=about, values={name: result.accuracy}, count=result.count, folder=folder.name)
        case Reached():
            return None  # it lies in result.json
        case _:
            assert_never(measure)


def done(plan: StudyRun, measures: Sequence[Measure]) -> bool:
    """True once a run is trained and every measure of it is written."""
    return plan.finished and all(read_measured(plan, measure) is not None for measure in measures)


def run_study(study: Study, out: Path, machine: Machine | None = None) -> Results:
    """Makes what is missing in this process, one run after another, and writes `out/STUDY/study.json`.

    A run that fails is noted with its sentence, and the others go on.

    Raises:
        BadInput: every run failed, all for the same reason.
        Interrupted: after a signal, once the run at work is saved.
    """
    study.check()
    total, tried = len(missing(study, out, counted=True)), set[Path]()
    while todo := missing(study, out, tried):
        for plan in todo:
            tried.add(plan.folder)
            say(f"run {len(tried)} of {total}: {plan.run.name}, seed {plan.config.seed}")
            attempt(plan, lambda plan=plan: execute(study, plan, machine or Machine()))  # type: ignore[misc]
            write_study(study, out)
    return finish(study, out)


def missing(study: Study, out: Path, tried: Collection[Path] = (), *, counted: bool = False) -> list[StudyRun]:
    """What is to be made now, but for the folders that were tried; later seeds of rates once these are chosen.

    `counted`: as many as will be made, if a rate can be chosen wherever it is to be.
    """
    plans = needed(study, study_runs(study, out), counted=counted)
    return [plan for plan in plans if plan.folder not in tried and not done(plan, study.measures)]


def execute_only(study: Study, out: Path, name: str, machine: Machine) -> None:
    """One run by the name of its folder, and study.json; raises BadInput for a name that the study does not have."""
    plans = {plan.folder.name: plan for plan in study_runs(study, out)}
    if name not in plans:
        raise unknown(f"run of {study.name}", name, plans)
    try:
        execute(study, plans[name], machine)
    except BadInput as problem:
        note_failure(plans[name], str(problem))
        raise


def attempt(plan: StudyRun, work: Callable[[], None]) -> None:
    """Does the work; a failure is written down beside the folder of the run. Interrupted is passed on."""
    try:
        work()
    except (Interrupted, KeyboardInterrupt):
        raise
    except Exception as problem:  # whatever it was, it is shown, and the other runs go on
        known = isinstance(problem, BadInput)
        note_failure(plan, str(problem) if known else f"{type(problem).__name__}: {problem}", traceback.format_exc())


def note_failure(plan: StudyRun, reason: str, trace: str = "") -> None:
    """Writes down why a run ended."""
    write_record(plan.failure, FailedRun(said=reason, trace=trace))
    say(f"{plan.run.name}, seed {plan.config.seed}, failed: {reason}")


def finish(study: Study, out: Path, command: Sequence[str] = ()) -> Results:
    """The results, and study.json; raises BadInput where every run failed for the same reason."""
    results = write_study(study, out, command)
    reasons = Counter(_state(plan, study.measures).failure for row in results.rows for plan in row.plans)
    reason = next(iter(reasons), None)
    if len(reasons) == 1 and reason is not None:
        raise BadInput(reason)
    return results


def write_study(study: Study, out: Path, command: Sequence[str] = ()) -> Results:
    """Writes `out/STUDY/study.json` (docs/files.md) of what there is by now; `command` makes it again."""
    results = collect(study, out)
    write_record(out / study.name / "study.json", replace(study_result(study, results), command=command))
    return results


def study_result(study: Study, results: Results) -> StudyResult:
    """What study.json holds, without the command."""
    return StudyResult(
        study=study.name,
        question=study.question,
        source=study.source,
        scale=study.scale,
        seeds=study.seeds,
        finding=_finding(study, results),
        complete=results.complete,
        paper=study.paper,
        remarks=remarks(study, results),
        measures=[
            StudyMeasure(name=name, noise=results.noise_of(name), share=results.is_share(name))
            for name in results.measure_names
        ],
        measured=[to_json(measure) for measure in study.measures],
        base=StudyBase(name=study.runs[0].name, config=to_json(study.runs[0].config)),
        rows=[_study_row(results, row) for row in results.rows],
        figures=study.figures(results),
        cost=_cost(results),
    )


def _finding(study: Study, results: Results) -> str:
    """The study's sentence; a part of a study may lack a run that the sentence is about."""
    try:
        return study.finding(results)
    except (KeyError, ValueError, IndexError):
        return f"A part of the study, of {len(results.rows)} runs, which do not answer its question."


def _study_row(results: Results, row: Row) -> StudyRow:
    estimates = {name: results.value(row, name) for name in row.values}
    return StudyRow(
        name=row.run.name,
        change=row.change,
        at=row.run.at,
        values={
            name: StudyValue(values=row.values[name], mean=estimate.value, interval=estimate.interval)
            for name, estimate in estimates.items()
        },
        parameters=row.mean_of("parameters"),
        flops_per_image=row.mean_of("training_flops_per_image"),
        total_flops=row.mean_of("total_flops"),
        seconds=row.mean_of("seconds"),
        runs=[_state(plan, results.measures) for plan in row.plans],
    )


def _state(plan: StudyRun, measures: Sequence[Measure]) -> StudyRunState:
    failure = None
    if done(plan, measures):
        state: State = "finished"
    elif plan.failure.is_file():
        state, failure = "failed", load_record(FailedRun, plan.failure).said
    else:
        state = "unfinished" if (plan.folder / "config.json").is_file() else "missing"
    differs = list(load_record(OtherResults, plan.differs).said.values()) if plan.differs.is_file() else None
    return StudyRunState(folder=plan.folder.name, seed=plan.config.seed, state=state, failure=failure, differs=differs)


def _cost(results: Results) -> StudyCost:
    """Sums seconds of training and measuring, FLOPs and machines over all runs, whichever study had them made."""
    trained = [result for row in results.rows for result in row.results]
    files = [file for row in results.rows for plan in row.plans for file in (plan.folder / "measured").glob("*.json")]
    places: list[str] = []
    for row in results.rows:
        environments = [plan.folder / "environment.json" for plan in row.plans if plan.finished]
        places += [place_of(read_json(file)) for file in environments if file.is_file()]
    return StudyCost(
        runs=len(trained),
        seconds=sum((result.get("seconds") or 0.0 for result in trained), 0.0),
        measuring_seconds=sum((load_record(Measured, file).seconds or 0.0 for file in files), 0.0),
        total_flops=sum(result.get("total_flops") or 0 for result in trained),
        machines=dict(Counter(places)),
    )


def place_of(environment: dict[str, Any]) -> str:
    """The machine that an environment.json is of, its threads and precision, for people."""
    threads, precision = environment.get("threads"), environment.get("precision")
    name = environment.get("processor") or environment.get("device") or "unknown"
    if str(environment.get("device", "cpu")) == "cpu" and threads:
        name = f"{name}, {threads} thread{'' if threads == 1 else 's'}"
    return f"{name}, {precision}" if precision else str(name)


def failures(results: Results) -> list[tuple[str, StudyRunState]]:
    """The runs that failed, with their names."""
    runs = [(row.run.name, _state(plan, results.measures)) for row in results.rows for plan in row.plans]
    return [run for run in runs if run[1].state == "failed"]


def collect(study: Study, out: Path) -> Results:
    """Reads what lies in the folders of the runs; what is missing is missing, and what is not to be made has no row."""
    plans = study_runs(study, out)
    wanted = {plan.folder for plan in needed(study, plans)}
    plans = [plan for plan in plans if plan.folder in wanted or plan.finished]
    of = {id(run): [plan for plan in plans if plan.run is run] for run in study.runs}
    rows = [_row(study, run, of[id(run)]) for run in study.runs if of[id(run)]]
    results = Results(study.scale, study.measures, rows)
    noises = {
        name: pooled([row.values.get(name, ()) for row in rows], shares=results.is_share(name))
        for name in results.measure_names
    }
    return replace(results, noises=noises)


def _row(study: Study, run: Run, plans: Sequence[StudyRun]) -> Row:
    results = [read_json(plan.folder / "result.json") for plan in plans if plan.finished]
    values: dict[str, list[float]] = {}
    counts: dict[str, int | None] = {}
    for measure in study.measures:
        for plan in plans:
            measurement = read_measured(plan, measure)
            for name, value in measurement.values.items() if measurement else ():
                if value is not None:
                    values.setdefault(name, []).append(value)
                counts[name] = measurement.count if measurement else None
    return Row(run, study.change(run), plans, results, values, counts)
