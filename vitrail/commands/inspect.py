"""`vitrail inspect`: what a model has learned, as pictures."""

from vitrail.commands.parsing import Command, parse, show
from vitrail.commands.parsing import options as options_of
from vitrail.core.errors import BadInput


def run(args: list[str]) -> int:
    """`vitrail inspect`; returns the exit code."""
    from vitrail.jobs.inspect import Inspect, inspect
    from vitrail.report import make

    kind, _ = options_of(Inspect, out=None, default=None)
    options = parse(COMMAND, kind, args)
    if options.out is None:
        raise BadInput("vitrail inspect needs --out DIR for its figures")
    result = inspect(options.config, options.out, options.common.machine())
    show(result, options.common, str(make(options.out)))
    return 0


COMMAND = Command(
    "inspect",
    "Filters, positions, attention distance, rollout.",
    "vitrail inspect --model runs/cifar10 --images cifar10@test --out runs/inside",
    run,
)
