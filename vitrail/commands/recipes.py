"""`vitrail recipes`: what can be trained."""

import json
from dataclasses import dataclass
from typing import Annotated

from vitrail.commands.parsing import Command, parse


def run(args: list[str]) -> int:
    """`vitrail recipes`; returns the exit code."""
    import tyro

    from vitrail.recipes.table import chosen, describe, facts, listing

    @dataclass(frozen=True)
    class Options:
        name: Annotated[tuple[str, ...], tyro.conf.Positional] = ()  # "digits", "finetune digits"; none: a line of each
        json: bool = False  # one JSON object on standard output, alone

    options = parse(COMMAND, Options, args)
    rows = [describe(command, name) for command, name in chosen(options.name)]
    if options.json:
        print(json.dumps({"recipes": rows}))
        return 0
    print("\n\n".join(map(facts, rows)) if options.name else listing(rows))
    return 0


COMMAND = Command(
    "recipes",
    "The recipes, or one: source, cost, what to expect, proof.",
    "vitrail recipes cifar10",
    run,
)
