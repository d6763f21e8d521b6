"""Runs of a study that were made elsewhere, on another machine say: what is finished there is taken, once.

A run is known by the digest of its config (engine/runs.py). One that is finished there and not here is copied whole,
but for its checkpoints, to which a finished run never goes back; it brings its environment.json, by which the study's
cost names the machine. One that is finished in both stays as it is here, and is compared: on machines of one kind the
two are equal bit for bit. Measures that were made there of the same weights are taken; those of other weights never.
"""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from vitrail.core.errors import BadInput
from vitrail.core.files import atomic_folder, read_json
from vitrail.core.locks import try_lock
from vitrail.core.progress import say
from vitrail.core.resumable import LOCK
from vitrail.records.record import load_record, write_record
from vitrail.records.run import DataPart, RunData
from vitrail.records.study import OtherResults
from vitrail.studies.engine.execute import place_of
from vitrail.studies.engine.results import measured_file, read_measured
from vitrail.studies.engine.runs import Measure, Reached, StudyRun
from vitrail.studies.engine.study import Study, run_folders, study_runs

WEIGHTS = "weights_sha256"
COMPARED = (WEIGHTS, "accuracy", "loss")  # of result.json; all else in it is of time and memory


def merge(study: Study, out: Path, others: Sequence[Path]) -> None:
    """Takes what is finished in other folders of studies into `out`, and says of each how much that was.

    Where both have a run with other results, that is said, and written down beside the run.

    Raises:
        BadInput: a folder that holds no runs, or `out` itself; runs of other images under one name.
    """
    check_others(out, others)
    for other in others:
        pairs = list(zip(study_runs(study, out), study_runs(study, other), strict=True))
        _check_data(run for pair in pairs for run in pair if run.finished)
        counts = {"taken": 0, "of which measures were taken": 0, "here already": 0, "not finished there": 0}
        for here, there in pairs:
            if not there.finished:
                counts["not finished there"] += (there.folder / "config.json").is_file()
            elif here.finished:
                counts["here already"] += 1
                counts["of which measures were taken"] += _take_measures(here, there, study.measures)
                _compare(here, there, other, study.measures)
            else:
                counts["taken"] += _take(here, there)
        begun = sum((there.folder / "config.json").is_file() for _, there in pairs)
        counts["of other studies, options or versions"] = len(list(run_folders(other / "runs"))) - begun
        told = [f"{count} {what}" for what, count in counts.items() if count or what == "taken"]
        say(f"runs of {other}: {', '.join(told)}")


def check_others(out: Path, others: Sequence[Path]) -> None:
    """Raises BadInput for a folder that holds no runs, and for `out` itself."""
    for other in others:
        if other.exists() and out.exists() and other.samefile(out):
            raise BadInput(f"--merge {other} is --out itself; name the folder of another machine's runs")
        if not any(run_folders(other / "runs")):
            within = (
                f"; did you mean {other.parent}?" if any(run_folders(other)) else ", as `vitrail study` writes them"
            )
            raise BadInput(f"--merge {other} holds no runs in {other / 'runs'}{within}")


def done_with(here: StudyRun, theirs: Sequence[StudyRun], measures: Sequence[Measure]) -> bool:
    """Whether a run would be done once it is merged with the same run of other folders; nothing is taken."""
    finished = [there for there in theirs if there.finished]
    first = next((run for run in (here, *finished) if run.finished), None)
    if first is None:
        return False
    givers = [first, *(run for run in finished if _same_weights(first, run))]
    return all(any(read_measured(run, measure) is not None for run in givers) for measure in measures)


def _take(here: StudyRun, there: StudyRun) -> bool:
    """Copies a run; one that was only begun here is replaced, unless a process is at work there."""
    lock = try_lock(here.folder / LOCK) if here.folder.is_dir() else None
    if here.folder.is_dir():
        if lock is None:
            say(f"{_title(here)} is at work here, and not taken from {there.folder}")
            return False
        say(f"{_title(here)} was begun here; it is taken finished from {there.folder}")
    try:
        with atomic_folder(here.folder) as new:
            shutil.copytree(there.folder, new, ignore=_left_out, dirs_exist_ok=True)
        here.failure.unlink(missing_ok=True)
    finally:
        if lock is not None:
            lock.release()
    return True


def _left_out(folder: str, names: list[str]) -> list[str]:
    """Checkpoints, locks, and what is half-written."""
    return [name for name in names if name.startswith(".") or name == "checkpoints"]


def _take_measures(here: StudyRun, there: StudyRun, measures: Sequence[Measure]) -> bool:
    """Takes the measures that are missing here and were made there of the same weights; whether there were any."""
    if not _same_weights(here, there):
        return False
    taken = False
    for measure in measures:
        found = read_measured(there, measure)
        if found is None or read_measured(here, measure) is not None:
            continue
        if found.folder is not None:
            with atomic_folder(here.folder / found.folder) as new:
                shutil.copytree(there.folder / found.folder, new, ignore=_left_out, dirs_exist_ok=True)
        write_record(measured_file(here, measure), found)
        taken = True
    return taken


def _same_weights(one: StudyRun, other: StudyRun) -> bool:
    weights = [read_json(run.folder / "result.json").get(WEIGHTS) for run in (one, other)]
    return weights[0] is not None and weights[0] == weights[1]


def _compare(here: StudyRun, there: StudyRun, other: Path, measures: Sequence[Measure]) -> None:
    """Says where the two have other results, and keeps that in a file beside the run until they are alike."""
    file = here.differs
    said = dict(load_record(OtherResults, file).said) if file.is_file() else {}
    said.pop(str(other), None)
    ours, theirs = _results(here, measures), _results(there, measures)
    unlike = [key for key in ours if key in theirs and ours[key] != theirs[key]]
    if unlike:
        numbers = "; ".join(f"{key} {ours[key]} here and {theirs[key]} there" for key in unlike)
        said[str(other)] = f"made in {other} too, with other results: {numbers}. {_machines(here, there)}"
        say(f"{_title(here)}, was {said[str(other)]}")
    if said:
        write_record(file, OtherResults(said=said))
    else:
        file.unlink(missing_ok=True)


def _results(run: StudyRun, measures: Sequence[Measure]) -> dict[str, Any]:
    """What two runs of one config are compared by."""
    result = read_json(run.folder / "result.json")
    found = {key: result[key] for key in COMPARED if result.get(key) is not None}
    for measure in measures:
        measured = read_measured(run, measure)
        if measured is not None and not (isinstance(measure, Reached) and measure.key in COMPARED):
            found |= measured.values
    return {key: value[:10] if key == WEIGHTS else value for key, value in found.items()}


def _machines(here: StudyRun, there: StudyRun) -> str:
    places = [_place(run) for run in (here, there)]
    if places[0] == places[1]:
        return f"Both by {places[0]}: trained weights should be equal bit for bit there"
    return f"Here {places[0]}, there {places[1]}: other machines or versions round otherwise"


def _place(run: StudyRun) -> str:
    file = run.folder / "environment.json"
    if not file.is_file():
        return "an unknown machine"
    environment = read_json(file)
    return ", ".join([place_of(environment), *(f"{name} {environment.get(name)}" for name in ("torch", "vitrail"))])


def _check_data(runs: Iterable[StudyRun]) -> None:
    """Refuses runs of other images under one name: in one table they would be compared for what they were fed."""
    seen: dict[tuple[Any, ...], tuple[DataPart, Path]] = {}
    said: set[tuple[Any, ...]] = set()
    for run in runs:
        for key, part in _data(run):
            before, place = seen.setdefault(key, (part, run.folder))
            if (before.count, before.classes) != (part.count, part.classes):
                raise BadInput(
                    f"{key[0]} was other data in {run.folder} ({part.count:,} images, {len(part.classes)} classes) "
                    f"than in {place} ({before.count:,} images, {len(before.classes)} classes): their results do "
                    "not belong in one table; remove the runs of one of them, to make them anew"
                )
            if before.digest != part.digest and key not in said:
                said.add(key)
                say(f"{key[0]} has images of other names, or in another order, in {run.folder} than in {place}")


def _data(run: StudyRun) -> Iterator[tuple[tuple[Any, ...], DataPart]]:
    """The parts of data.json by all that they depend on, first the name of the data."""
    file, config = run.folder / "data.json", run.config
    for part, about in load_record(RunData, file).parts.items() if file.is_file() else ():
        name = getattr(config, part, None)
        if name is not None:
            yield (name, part, config.train, getattr(config, "images", None), bool(about.classes)), about


def _title(run: StudyRun) -> str:
    return f"{run.run.name}, seed {run.config.seed}"
