"""`vitrail models`: what can be built."""

import json
from dataclasses import dataclass
from typing import Annotated

from vitrail.commands.parsing import Command, parse


def run(args: list[str]) -> int:
    """`vitrail models`; returns the exit code."""
    import tyro

    from vitrail.models.summary import describe, facts, listing
    from vitrail.models.variants import list_models

    @dataclass(frozen=True)
    class Options:
        name: Annotated[tuple[str, ...], tyro.conf.Positional] = ()  # whose facts to print; none: a table of all
        resolution: int = 224  # pixels of a side
        num_classes: int = 1000
        json: bool = False  # one JSON object on standard output, alone

    options = parse(COMMAND, Options, args)
    rows = [describe(name, options.resolution, options.num_classes) for name in options.name or list_models()]
    if options.json:
        print(json.dumps({"models": rows}))
        return 0
    print(f"{options.resolution} x {options.resolution} pixels, {options.num_classes} classes\n")
    print("\n\n".join(map(facts, rows)) if options.name else listing(rows))
    return 0


COMMAND = Command(
    "models",
    "The models, with sizes and cost.",
    "vitrail models B/16 --resolution 384",
    run,
)
