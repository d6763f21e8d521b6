"""`vitrail demo`: the whole story."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from vitrail.commands.parsing import Command, Common, parse, show


def run(args: list[str]) -> int:
    """`vitrail demo`; returns the exit code."""
    import tyro

    from vitrail.jobs.demo import demo
    from vitrail.recipes.small import DEMOS
    from vitrail.report.index import make

    @dataclass(frozen=True)
    class Options:
        story: Annotated[Literal["digits", "photographs"], tyro.conf.Positional] = (
            "digits"  # photographs: Tiny-ImageNet to CIFAR-10, an hour on two cores
        )
        out: Path = Path("runs/demo")  # folder to write
        common: Annotated[Common, tyro.conf.arg(name="")] = Common()

    options = parse(COMMAND, Options, args)
    result = demo(DEMOS[options.story](), options.out, options.common.machine())
    for run in result.runs.values():
        make(options.out / run)
    page = make(options.out)
    show(result, options.common, f"{result.seconds:.0f} s; open {page}", report=str(page))
    return 0


COMMAND = Command(
    "demo",
    "The whole story on digits, or on photographs: pre-train, transfer, look inside.",
    "vitrail demo",
    run,
)
