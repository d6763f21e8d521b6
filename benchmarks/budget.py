"""`vitrail pretrain auto` against hand-written recipes at equal time, and what it foretells of data left out.

    python benchmarks/budget.py OUT [--data cifar10 ...] [--budgets 2m 4m 8m] [--jobs 2] [--show]

For each data set and budget: `pretrain auto` with that budget; then the recipe of DATA, cut to as many steps as fit
into the time that it took (measured as for a budget). Each is one command in a process with its share of the cores; OUT
keeps its folder and its seconds, and what is finished there is not made again; a run that was stopped is made anew, for
its time. Prints Markdown: accuracies with 95 % intervals of the test images, seconds of the whole commands; and, for
each run of `auto`, the accuracy and the interval foretold from the runs of the other data alone. --show: only that.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from vitrail.core.device import Machine, processor_name
from vitrail.core.errors import BadInput
from vitrail.core.estimate import Interval, wilson
from vitrail.core.numbers import interval, measured, percent
from vitrail.core.pool import usable_cores
from vitrail.data.open.names import open_data
from vitrail.jobs.finetune.schedule_rule import seconds_of
from vitrail.jobs.forecast.forecast import forecast
from vitrail.jobs.pretrain_auto.law import Carried, Law, shipped_law
from vitrail.jobs.pretrain_auto.plan import foretold
from vitrail.recipes import pretraining
from vitrail.records.auto import Foretold, PretrainPlan
from vitrail.records.record import load_record
from vitrail.records.run import RunData, RunResult
from vitrail.studies.law import carried_of


@dataclass(frozen=True)
class Data:
    """What is learned, and by which recipe; None: `auto` alone, for what it foretells."""

    train: str
    test: str
    recipe: str | None = None


DATA = {
    "cifar10": Data("cifar10@train", "cifar10@test", "cifar10"),
    "tiny-imagenet": Data("tiny-imagenet@train", "tiny-imagenet@validation", "tiny-imagenet"),
    "cifar10-fifth": Data("cifar10@train[:20%]", "cifar10@test"),
    "strewn-digits": Data("strewn-digits@train[:10%]", "strewn-digits@test", "scattered-digits"),
}


@dataclass(frozen=True)
class Foretelling:
    """What the other data say of a run, and what became of it."""

    pilot: float
    expected: float
    interval: Interval | None
    reached: float
    inside: bool | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--budgets", nargs="+", default=["2m", "4m", "8m"])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--show", action="store_true")
    options = parser.parse_args()
    if options.jobs < 1:
        parser.error(f"--jobs is {options.jobs}, expected at least 1")
    try:
        [seconds_of(budget) for budget in options.budgets]
    except BadInput as problem:
        parser.error(str(problem))
    if not options.show:
        # the longest first, so that no process is left alone at the end
        cells = sorted(product(options.data, options.budgets), key=lambda cell: -seconds_of(cell[1]))
        with ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(lambda cell: _make(options.out, *cell, usable_cores() // options.jobs), cells))
    print(f"{processor_name()}, {usable_cores()} cores, {options.jobs} run(s) at a time\n")
    print("\n".join(compared(options.out)))
    print("\n" + "\n".join(predicted(options.out)))


def _make(out: Path, name: str, budget: str, cores: int) -> None:
    data, place = DATA[name], out / f"{name}-{budget}"
    asked = ["--test", data.test]
    took = _run(place / "auto", ["auto", data.train, *asked, "--budget", budget], cores)
    if data.recipe is None or (place / "recipe.seconds.json").exists():
        return
    words = [data.recipe, "--train", data.train, "--validation", "None", *asked]
    steps = _steps(data, took, cores)
    _run(place / "recipe", [*words, "--steps", str(steps), "--evaluate-every", str(10 * steps)], cores)


def _run(folder: Path, words: Sequence[str], cores: int) -> float:
    """Seconds of the whole command; from the file beside the folder where it was made before."""
    file = _file(folder)
    if file.exists():
        return _seconds(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, cores))}
    command = [sys.executable, "-m", "vitrail", "pretrain", *words, "--out", str(folder), "--workers", "0"]
    print(" ".join(command), flush=True)
    start = time.perf_counter()
    with folder.with_name(f"{folder.name}.log").open("w") as log:
        subprocess.run(command, env=environment, stdout=log, stderr=log, check=True)
    seconds = time.perf_counter() - start
    file.write_text(json.dumps({"seconds": seconds, "command": command}))
    return seconds


def _file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.seconds.json")


def _seconds(folder: Path) -> float:
    """What the finished command took."""
    return float(json.loads(_file(folder).read_text())["seconds"])


def _steps(data: Data, seconds: float, cores: int) -> int:
    """Of the recipe, in so many seconds here."""
    assert data.recipe is not None
    config = replace(pretraining(data.recipe), train=data.train, validation=None, test=data.test)
    train, test = open_data(data.train, "train"), open_data(data.test, "test")
    model = replace(config.model, num_classes=len(train.classes))
    found = forecast(
        config, model, train_images=len(train), test_images=len(test), resize=config.resize,
        machine=Machine("cpu", 0), threads=max(1, cores),
    )  # fmt: skip
    besides = found.start_seconds + found.evaluation_seconds + found.finish_seconds
    return max(1, int((seconds - besides) / found.seconds_per_step))


def compared(out: Path) -> list[str]:
    """`auto` beside the recipe, a row for each data set and budget that OUT has of both."""
    lines = ["| data | budget | by `auto` | seconds | by the recipe | seconds |", "|---|---|---|---|---|---|"]
    for place in _places(out, "recipe"):
        name, budget = place.name.rsplit("-", 1)
        ours, theirs = (load_record(RunResult, place / kind / "result.json") for kind in ("auto", "recipe"))
        recipe = f"`{DATA[name].recipe}`, {theirs.steps:,} steps: {_shown(theirs)}"
        times = [f"{_seconds(place / kind):.0f}" for kind in ("auto", "recipe")]
        lines.append(f"| {name} | {budget} | {_shown(ours)} | {times[0]} | {recipe} | {times[1]} |")
    return lines


def predicted(out: Path) -> list[str]:
    """What is foretold of each run of `auto` from those of other data, a row each, and how often it was right."""
    lines = ["| data | budget | pilot | expected | 95 % interval | reached |", "|---|---|---|---|---|---|"]
    places = _places(out, "auto")
    told = foretellings([place / "auto" for place in places])
    for place, one in zip(places, told, strict=True):
        name, budget = place.name.rsplit("-", 1)
        numbers = [percent(one.pilot), percent(one.expected), interval(one.interval), percent(one.reached)]
        cells = [name, budget, *numbers]
        lines.append(f"| {' | '.join(cells)} |")
    judged = [one.inside for one in told if one.inside is not None]
    return [*lines, "", f"{sum(judged)} of {len(judged)} inside"]


def foretellings(folders: Sequence[Path]) -> list[Foretelling]:
    """Of runs of `pretrain auto`, each from those whose training images have another name (without a part's)."""
    law, _ = shipped_law()
    plans = [load_record(PretrainPlan, folder / "plan.json") for folder in folders]
    carried = [carried_of(law, folder) for folder in folders]
    told = []
    for folder, plan, mine in zip(folders, plans, carried, strict=True):
        others = [one for one in carried if _of(one) != _of(mine)]
        told.append(_foretelling(law, others, folder, plan))
    return told


def _of(carried: Carried) -> str:
    return carried.data.split("[")[0]


def _foretelling(law: Law, others: Sequence[Carried], folder: Path, plan: PretrainPlan) -> Foretelling:
    assert plan.pilot is not None
    told = load_record(Foretold, folder / "foretold.json")
    low, high = wilson(round(told.reached * told.count), told.count)
    classes = len(load_record(RunData, folder / "data.json").parts["train"].classes)
    expected, within = foretold(law, others, plan.pilot, plan.depth, plan.flops, classes)
    inside = None if within is None else within[0] <= high and low <= within[1]
    return Foretelling(plan.pilot.accuracy, expected, within, told.reached, inside)


def _places(out: Path, kind: str) -> list[Path]:
    """The cells with a finished run of a kind, in the order of DATA and of the budgets."""
    found = [file.parent for file in out.glob(f"*/{kind}.seconds.json")]
    names = list(DATA)

    def order(place: Path) -> tuple[int, float]:
        name, budget = place.name.rsplit("-", 1)
        return names.index(name), seconds_of(budget)

    return sorted(found, key=order)


def _shown(result: RunResult) -> str:
    return measured(result.accuracy, result.interval)


if __name__ == "__main__":
    main()
