"""`vitrail study`: the paper's studies."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from vitrail.commands.parsing import Command, Common, parse_known, with_options
from vitrail.core.errors import BadInput
from vitrail.core.text import table

if TYPE_CHECKING:
    from vitrail.core.device import Machine
    from vitrail.studies.engine.results import Results
    from vitrail.studies.engine.study import Study


@dataclass(frozen=True)
class Options(Common):
    """Any other option is one of the runs, as `vitrail pretrain RECIPE --help` lists them, and is put into all runs."""

    name: str = ""  # the study; --list shows them
    out: Path | None = None  # folder of the runs, which studies share, and of a folder for each study
    scale: Literal["smoke", "small", "medium", "paper"] = "smoke"  # minutes; an hour; a night; the paper's own
    runs: tuple[str, ...] = ()  # only these, by their names in the table, and the base; none: all
    seeds: int | None = None  # how often each run is repeated; None: as the study says
    target_train: str | None = None  # instead of the study's: from where few-shot images are drawn
    target_test: str | None = None  # and what they are judged on
    merge: tuple[Path, ...] = ()  # the --out of other machines: what is finished there is taken, and not made again
    jobs: int = 1  # runs at a time, each with its share of the cores
    cluster: Literal["ray"] | None = None  # a run a task on the cluster that RAY_ADDRESS names
    compile: bool | None = None  # torch.compile of the layers in training; None: on CUDA
    plan: bool = False  # only show what would run, and its cost
    commands: bool = False  # only show a shell command a run
    only: str | None = None  # only this run, by the name of its folder, as --commands says it
    list: bool = False  # the studies there are
    paper: str | None = None  # only show one of the paper's tables; "all" for their names

    def machine(self) -> "Machine":
        """Where to run."""
        return replace(super().machine(), compile=self.compile)


def run(args: list[str]) -> int:
    """`vitrail study`; returns the exit code."""
    options, overrides = _parse(args)
    options.find_data()
    if options.list:
        return _list(options)
    if options.paper is not None:
        return _paper(options)
    if not options.name:
        raise BadInput("vitrail study needs the name of a study first; vitrail study --list shows them")
    study = _study(options, overrides)
    if options.out is None and (options.merge or not options.plan):
        raise BadInput("give a folder to write: --out runs/studies")
    if options.plan:
        return _plan(options, study)
    _merge(options, study)
    if options.commands:
        return _commands(options, study, args)
    return _carry_out(options, study, args)


def _parse(args: list[str]) -> tuple[Options, list[str]]:
    import tyro

    @dataclass(frozen=True)
    class WithName(Options):
        name: Annotated[str, tyro.conf.Positional] = field(default="")

    return parse_known(COMMAND._replace(about=f"{COMMAND.about}\n\n{Options.__doc__}"), WithName, args)


def _study(options: Options, overrides: list[str]) -> "Study":
    """The study with what the options change."""
    from vitrail.studies import study as named
    from vitrail.studies.engine.runs import FewShot

    made = named(options.name, options.scale)
    if options.runs:
        made = made.part(options.runs)
    if options.seeds is not None:
        made = replace(made, seeds=options.seeds)
    train, test = options.target_train, options.target_test
    made = replace(
        made,
        measures=tuple(
            replace(measure, train=train or measure.train, test=test or measure.test)
            if isinstance(measure, FewShot)
            else measure
            for measure in made.measures
        ),
        runs=tuple(replace(run, config=with_options(run.config, overrides, "vitrail study")) for run in made.runs),
    )
    made.check()
    return made


def _merge(options: Options, study: "Study") -> None:
    if options.merge:
        from vitrail.studies.engine.merge import merge

        assert options.out is not None
        merge(study, options.out, options.merge)


def _carry_out(options: Options, study: "Study", args: list[str]) -> int:
    from vitrail.core.progress import say
    from vitrail.records.record import as_json
    from vitrail.report.index import make
    from vitrail.studies.engine.execute import execute_only, failures, finish, run_study, study_result
    from vitrail.studies.engine.launch import on_ray, spread

    assert options.out is not None
    machine = options.machine()
    if options.only is not None:
        execute_only(study, options.out, options.only, machine)
        folder = str(options.out / "runs" / options.only)
        print(json.dumps({"folder": folder}) if options.json else folder)
        return 0
    if options.cluster == "ray":
        on_ray(study, options.out, lambda plan: _command(args, plan.folder.name))
    elif options.jobs > 1:
        spread(study, options.out, lambda plan: _command(args, plan.folder.name), options.jobs)
    else:
        run_study(study, options.out, machine)
    results = finish(study, options.out, ["vitrail", "study", *args])
    page = make(options.out / study.name)
    content = study_result(study, results)
    if options.json:
        print(json.dumps({**as_json(content), "folder": str(options.out / study.name)}))
    else:
        print("\n".join([_table(results), "", content.finding, str(page)]))
    for name, failed in failures(results):
        say(f"failed: {name}, seed {failed.seed}: {failed.failure}")
    return 1 if failures(results) else 0


def _table(results: "Results") -> str:
    from vitrail.studies.engine.findings import shown

    names = results.measure_names
    rows = [["run", *names, "change"]]
    for row in results.rows:
        found = [shown(results, row, name) if row.values.get(name) else "–" for name in names]
        rows.append([row.run.name, *found, row.change])
    return "\n".join(table(rows))


def _command(args: list[str], only: str) -> list[str]:
    """The command of one run: the same options and `--only`."""
    return ["vitrail", "study", *_without(args), "--only", only]


def _without(args: list[str]) -> list[str]:
    """The options without those that say how runs are spread, and from where they are taken: that is done by then."""
    kept, skip = [], 0
    for arg in args:
        name = arg.split("=", 1)[0].replace("_", "-")
        if name.startswith("--"):
            skip = 0
        if skip:
            skip -= 1
        elif name in ("--jobs", "--cluster"):
            skip = "=" not in arg
        elif name == "--merge":
            skip = len(args)
        elif name not in ("--commands", "--json", "--plan"):
            kept.append(arg)
    return kept


def _commands(options: Options, study: "Study", args: list[str]) -> int:
    import shlex

    from vitrail.core.progress import say
    from vitrail.studies.engine.execute import missing

    assert options.out is not None
    todo = missing(study, options.out)
    if more := len(missing(study, options.out, counted=True)) - len(todo):
        say(f"{more} more once rates are chosen by the first seeds: the same command again, then")
    commands = [shlex.join(_command(args, plan.folder.name)) for plan in todo]
    print(json.dumps({"commands": commands}) if options.json else "\n".join(commands))
    return 0


def _plan(options: Options, study: "Study") -> int:
    from vitrail.studies.engine.merge import check_others
    from vitrail.studies.engine.plan import plan, plan_text

    if options.out is not None:
        check_others(options.out, options.merge)
    found = plan(study, options.out, options.machine(), options.jobs, options.merge)
    print(json.dumps(found) if options.json else plan_text(found))
    return 0


def _list(options: Options) -> int:
    from vitrail.studies import STUDIES

    if options.json:
        print(json.dumps({"studies": [{"name": name, "about": about} for name, (_, about) in STUDIES.items()]}))
    else:
        print("\n".join(table([[name, about] for name, (_, about) in STUDIES.items()])))
    return 0


def _paper(options: Options) -> int:
    from vitrail.recipes.paper.show import paper_json, paper_text

    assert options.paper is not None
    print(json.dumps(paper_json(options.paper)) if options.json else paper_text(options.paper))
    return 0


COMMAND = Command(
    "study",
    "A study of the paper: its runs, a table, a figure, a finding.",
    "vitrail study position --out runs/studies",
    run,
    ("NAME", "out", "scale", "runs", "seeds", "jobs", "merge", "plan", "list", "paper", "device"),
)
