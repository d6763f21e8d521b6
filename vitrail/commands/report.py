"""`vitrail report`: the page of a folder."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from vitrail.commands.parsing import PROOFS, Command, parse


def run(args: list[str]) -> int:
    """`vitrail report`; returns the exit code."""
    import tyro

    from vitrail.report.index import make

    @dataclass(frozen=True)
    class Options:
        folder: Annotated[
            Path, tyro.conf.Positional
        ]  # a run, an evaluation, an inspection, a demo, or a folder of them
        json: bool = False  # one JSON object on standard output, alone

    options = parse(COMMAND, Options, args)
    page = make(options.folder, PROOFS)
    print(json.dumps({"report": str(page)}) if options.json else page)
    return 0


COMMAND = Command(
    "report",
    "(Re)make the page of a run or of a folder of runs.",
    "vitrail report runs",
    run,
)
