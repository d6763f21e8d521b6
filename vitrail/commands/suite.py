"""`vitrail suite`: one model, or two, on many data sets."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from vitrail.commands.parsing import Command, Common, parse, show
from vitrail.core.errors import BadInput
from vitrail.core.numbers import duration
from vitrail.core.text import ordinary_spaces, table

if TYPE_CHECKING:
    from vitrail.core.estimate import Interval
    from vitrail.jobs.suite.plan import PlannedTask
    from vitrail.jobs.suite.run import SuiteRun
    from vitrail.records.suite import SuiteDifference, SuiteResult, ValueWithInterval


def run(args: list[str]) -> int:
    """`vitrail suite`; returns the exit code."""
    import tyro

    @dataclass(frozen=True)
    class Options:
        name: Annotated[str, tyro.conf.Positional] = ""  # paper, vtab, or a .toml or .json file; none: a list of them
        model: str = ""  # what is judged; without it the tasks are listed
        against: str | None = None  # a second model, compared task by task
        out: Path | None = None  # folder to write, or to go on in
        method: Literal["finetune", "few-shot"] = "finetune"  # or the closed form on frozen features
        only: tuple[str, ...] = ()  # tasks or groups
        skip: tuple[str, ...] = ()  # tasks or groups
        plan: bool = False  # tasks, images, steps and time; nothing is started
        rates: tuple[float, ...] = ()  # one for all tasks; of several the best on held-out parts (vtab)
        steps: tuple[int, ...] = ()  # likewise
        repeats: int = 0  # more fine-tunings of each task, with other seeds: mean and spread
        resolution: int | None = None  # of all tasks, instead of the suite's
        batch: int | None = None  # of all tasks, instead of the suite's
        shots: tuple[int, ...] = (1, 5, 10)  # few-shot: images a class
        draws: int = 3  # few-shot: random draws of them
        variant: Literal["official", "older"] = "official"  # few-shot: fixed ridge, or one chosen across the tasks
        example: bool = False  # prints a suite of your own
        common: Annotated[Common, tyro.conf.arg(name="")] = Common()

    options = parse(COMMAND, Options, args)
    if options.example:
        from vitrail.recipes.suites import EXAMPLE

        print(EXAMPLE, end="")
        return 0
    options.common.find_data()
    if not options.name:
        return _list(options.common)
    from vitrail.recipes.suites import adapted, suite_of

    suite = adapted(suite_of(options.name), resolution=options.resolution, batch=options.batch)
    config = _config(options, suite)
    if options.plan or not options.model:
        return _plan(config, options)
    if options.out is None:
        raise BadInput("where are the results to go? give --out DIR; --plan shows what would be done")
    return _run(config, options)


def _config(options: Any, suite: Any) -> "SuiteRun":
    from vitrail.jobs.suite.run import SuiteRun
    from vitrail.jobs.suite.suite import FewShot, FineTuned

    if options.method == "few-shot":
        if options.rates or options.steps or options.repeats:
            raise BadInput("--rates, --steps and --repeats are of --method finetune; few-shot has --shots and --draws")
        method: Any = FewShot(options.shots, options.draws, options.variant, options.resolution)
    else:
        method = FineTuned(_settings(options, suite), options.repeats)
    return SuiteRun(suite, options.model, method, options.against)


def _settings(options: Any, suite: Any) -> Any:
    """Every rate with every number of steps; what is not given is as in the suite, where all its tasks agree."""
    from vitrail.jobs.suite.suite import Setting, Task

    if not options.rates and not options.steps:
        return ()
    configs = [task.finetune for task in suite.tasks if isinstance(task, Task)]
    rates = options.rates or tuple({config.optimizer.lr for config in configs})
    steps = options.steps or tuple({config.steps for config in configs})
    if not options.rates and len(rates) > 1:
        raise BadInput(f"the tasks of {suite.name} have several rates; with --steps give --rates too")
    if not options.steps and (len(steps) > 1 or 0 in steps):
        raise BadInput(f"the tasks of {suite.name} have several numbers of steps; with --rates give --steps too")
    return tuple(Setting(rate, count) for rate in rates for count in steps)


def _list(common: Common) -> int:
    from vitrail.recipes.suites import SUITES

    suites = [make() for make in SUITES.values()]
    if common.json:
        print(json.dumps({"suites": [{"name": s.name, "about": s.about, "tasks": len(s.tasks)} for s in suites]}))
        return 0
    lines = table([[s.name, f"{len(s.tasks)} tasks", s.about] for s in suites], "<><")
    print("\n".join([*lines, "", "Your own: a .toml or .json file; `vitrail suite --example` prints one."]))
    return 0


def _plan(config: "SuiteRun", options: Any) -> int:
    from vitrail.jobs.suite.plan import as_json, plan_suite

    machine = options.common.machine()
    rows = plan_suite(config, options.out, machine, only=options.only, skip=options.skip)
    made = as_json(config, rows, machine)
    show(made, options.common, "\n".join(_plan_lines(config, rows, made)))
    return 0


def _plan_lines(config: "SuiteRun", rows: list["PlannedTask"], made: dict[str, Any]) -> list[str]:
    lines = [f"{config.suite.name}: {config.suite.about}", ""]
    group = None
    for row, line in zip(rows, table([[row.name, row.state, _facts(row)] for row in rows]), strict=True):
        if row.group and row.group != group:
            group = row.group
            lines.append(group)
        lines.append(f"  {line}")
    if made["seconds"] is not None:
        lines += [
            "",
            f"about {ordinary_spaces(duration(made['seconds']))} on {made['device']}, measured on grey images",
        ]
    if any(row.state == "to be downloaded" for row in rows):
        lines.append("What is to be downloaded is not in this time.")
    return lines


def _facts(row: "PlannedTask") -> str:
    if row.train_images is None:
        return row.note
    facts = [f"{row.classes} classes, {row.train_images:,} + {row.test_images:,} images"]
    if row.steps is not None:
        runs = "" if row.runs == 1 else f"{row.runs} x "
        facts.append(f"{runs}{row.steps:,} steps of {row.batch}")
    if row.seconds:
        facts.append(f"about {duration(row.seconds)}")
    if row.memory_gib is not None:
        facts.append(f"{row.memory_gib:.2g} GiB")
    return ", ".join(facts)


def _run(config: "SuiteRun", options: Any) -> int:
    from vitrail.jobs.suite.run import run_suite
    from vitrail.report.index import make

    result = run_suite(config, options.out, options.common.machine(), only=options.only, skip=options.skip)
    page = make(options.out)
    show(result, options.common, "\n".join([*_table(result), str(page)]), folder=str(options.out))
    bad = [row for row in result.tasks if row.state in ("failed", "absent")]
    return 1 if bad else 0


def _table(result: "SuiteResult") -> list[str]:
    of = result.headline
    lines = []
    for row in result.tasks:
        found = next((score for score in row.scores if score.of == of), None)
        said = f"{row.state}: {row.sentence}" if row.sentence else row.state
        lines.append([row.name, _shown(found.accuracy, found.interval, found.difference) if found else said])
    for group in result.means:
        if group.of == of and group.mean is not None:
            shown = _shown(group.mean.value, group.mean.interval, group.difference)
            lines.append([f"mean, {group.group}", f"{shown}  over {group.tasks} of {group.expected} tasks"])
    return [*table(lines), "", result.sentence]


def _shown(
    accuracy: float | None, interval: "Interval | None", difference: "ValueWithInterval | SuiteDifference | None"
) -> str:
    if accuracy is None:
        return "not done"
    said = f"{accuracy:.1%}" + (f" ({interval[0]:.1%} to {interval[1]:.1%})" if interval else "")
    if difference:
        within = difference.interval
        said += f"  {100 * difference.value:+.1f} points"
        said += f" ({100 * within[0]:+.1f} to {100 * within[1]:+.1f})" if within else ""
    return said


COMMAND = Command(
    "suite",
    "Transfer to many data sets: the paper's five, VTAB-1k, or your own list; one table.",
    "vitrail suite vtab --model runs/mine --against runs/other --out runs/vtab",
    run,
    ("NAME", "model", "against", "out", "method", "only", "skip", "plan", "resolution", "device"),
)
