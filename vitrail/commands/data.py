"""`vitrail data`: data sets examined, prepared, and freed of copies of test images; one explicit table."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from vitrail.commands.parsing import Command, Common, CommonInference, parse, show
from vitrail.core.errors import BadInput, nearest


def _parse(name: str, kind: Any, args: list[str]) -> Any:
    return parse(COMMANDS[name], kind, args)


def _check(args: list[str]) -> int:
    import tyro

    from vitrail.core.progress import say
    from vitrail.jobs.data_check import Check, check, summary

    @dataclass(frozen=True)
    class Options:
        data: Annotated[str, tyro.conf.Positional]  # what to examine; all its splits where none is named
        against: tuple[str, ...] = ()  # test sets that it must not overlap with
        model: str | None = None  # finds labels that its features, or its classifier, think unlikely
        quick: bool = False  # names, class sizes, and a sample of the images
        few: int = 10  # images below which a class has too few
        untrusted: bool = False  # decode in a process with limits of memory and time, which may die of an image
        out: Path | None = None  # folder to write: the page, what was found and what to drop as CSV
        common: Annotated[Common, tyro.conf.arg(name="")] = Common()

    chosen = _parse("check", Options, _gathered("--against", args))
    chosen.common.find_data()
    config = Check(chosen.data, chosen.against, chosen.model, chosen.quick, chosen.few, chosen.untrusted)
    result = check(config, chosen.out, workers=chosen.common.workers, device=chosen.common.device)
    lines = [summary(result)]
    if chosen.out is not None:
        from vitrail.report.index import make

        lines.append(str(make(chosen.out)))
    show(result, chosen.common, "\n".join(lines))
    if chosen.common.json:
        say(summary(result))
    return 1 if result.findings else 0


def _prepare(args: list[str]) -> int:
    import tyro

    from vitrail.jobs.prepare import prepare, prepare_config, summary

    @dataclass(frozen=True)
    class Options:
        data: Annotated[str, tyro.conf.Positional]  # what to prepare; all its splits where none is named
        out: Annotated[Path, tyro.conf.Positional]  # folder to write, of a folder for each split
        side: int = 256  # pixels of the shorter side, at most; nothing is made larger
        encoding: Literal["jpeg", "png", "webp"] = "jpeg"  # png and webp are lossless
        quality: int | None = None  # of jpeg, 1 to 100; None: 90
        container: Literal["arrow", "tar"] = "arrow"  # arrow: mapped into memory; tar: WebDataset's layout
        shard_mib: int | None = None  # about so large a shard; None: 256
        shard_images: int | None = None  # instead, so many images a shard
        cluster: Literal["ray"] | None = None  # a shard a task on the cluster that RAY_ADDRESS names
        workers: int | None = None  # processes; None: one a core
        data_root: Path | None = None  # folder of the named data sets; otherwise the environment variable VITRAIL_DATA
        columns: tuple[str, ...] = ()  # of tables: image=NAME label=NAME split=NAME
        json: bool = False  # one JSON object on standard output, alone

    chosen = _parse("prepare", Options, args)
    common = Common(data_root=chosen.data_root, columns=chosen.columns, json=chosen.json)
    common.find_data()
    config = prepare_config(
        chosen.data,
        chosen.side,
        chosen.container,
        encoding=chosen.encoding,
        quality=chosen.quality,
        shard_mib=chosen.shard_mib,
        shard_images=chosen.shard_images,
    )
    prepared = prepare(config, chosen.out, chosen.workers, chosen.cluster)
    show({"folder": str(chosen.out)}, common, summary(prepared, chosen.out), prepared=prepared)
    return 1 if any(part.dropped for part in prepared) else 0


def _duplicates(args: list[str]) -> int:
    import tyro

    from vitrail.jobs.duplicates import Duplicates, duplicates, summary

    @dataclass(frozen=True)
    class Options:
        train: Annotated[str, tyro.conf.Positional]  # the data that copies are to be removed from
        against: tuple[str, ...] = ()  # test sets; none: copies within the data themselves
        model: str | None = None  # also compares the features of this model
        features: float = 0.95  # cosine of two images' features from which they are copies
        out: Path | None = None  # folder to write: the list, the page, and the filtered view, which is DATA
        cluster: Literal["ray"] | None = None  # 256 images a task on the cluster that RAY_ADDRESS names
        common: Annotated[CommonInference, tyro.conf.arg(name="")] = CommonInference()

    chosen = _parse("duplicates", Options, _gathered("--against", args))
    config = Duplicates(chosen.train, chosen.against, chosen.model, chosen.features)
    machine = chosen.common.machine()
    result = duplicates(
        config,
        chosen.out,
        workers=machine.workers,
        device=machine.device,
        runtime=machine.runtime,
        cluster=chosen.cluster,
    )
    lines = [summary(result)]
    if chosen.out is not None:
        from vitrail.report.index import make

        lines.append(str(make(chosen.out)))
    show(result, chosen.common, "\n".join(lines))
    return 1 if result.pairs else 0


def _gathered(option: str, args: list[str]) -> list[str]:
    """`--against a --against b` as `--against a b`: of two lists the parser would keep the last alone."""
    rest: list[str] = []
    values: list[str] = []
    taking = False
    for arg in args:
        if arg == option or arg.startswith(f"{option}="):
            taking = True
            values += [arg.removeprefix(f"{option}=")] if arg != option else []
        elif taking and not arg.startswith("-"):
            values.append(arg)
        else:
            taking = False
            rest.append(arg)
    return [*rest, option, *values] if values else rest


COMMANDS = {
    "check": Command(
        "data check",
        "The doctor: broken, odd, duplicated, leaking, conflicting, unbalanced and unlikely images.",
        "vitrail data check photos@train --against photos@test --out runs/checked",
        _check,
    ),
    "prepare": Command(
        "data prepare",
        "Images made small, encoded anew and sharded once, so that training never waits for them.",
        "vitrail data prepare photos prepared/photos --side 256",
        _prepare,
    ),
    "duplicates": Command(
        "data duplicates",
        "Images of TRAIN that are also in the test sets; and TRAIN without them.",
        "vitrail data duplicates photos@train --against photos@test cifar10@test --out runs/copies",
        _duplicates,
    ),
}


def run(args: list[str]) -> int:
    """`vitrail data NAME ...`; returns the exit code. Raises BadInput for a name that is not in the table."""
    if not args or args[0] in ("-h", "--help"):
        print(_help())
        return 0 if args else 2
    if args[0] not in COMMANDS:
        raise BadInput(f"unknown command 'data {args[0]}'{nearest(args[0], COMMANDS)}")
    return COMMANDS[args[0]].run(args[1:])


def _help() -> str:
    lines = [f"  {name:<10} {command.about}" for name, command in COMMANDS.items()]
    examples = [f"  {command.usage}" for command in COMMANDS.values()]
    head = "usage: vitrail data COMMAND DATA [options]\n"
    return "\n".join([head, *lines, "\nFor example:", *examples, "\nThe options: vitrail data COMMAND --help."])


COMMAND = Command(
    "data",
    "Examine data, prepare them, find copies of test images.",
    "vitrail data check photos --out runs/checked",
    run,
)
