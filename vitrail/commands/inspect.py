"""`vitrail inspect`: what a model has learned, as pictures."""

from vitrail.commands.parsing import Command, parse, show
from vitrail.commands.parsing import options as options_of
from vitrail.core.errors import BadInput


def run(args: list[str]) -> int:
    """`vitrail inspect`; returns the exit code."""
    from vitrail.findings.inspection import findings
    from vitrail.jobs.inspect import Inspect, inspect
    from vitrail.records.record import as_json
    from vitrail.report.index import make

    kind, _ = options_of(Inspect, default=None)
    options = parse(COMMAND, kind, args)
    if options.out is None:
        raise BadInput("vitrail inspect needs --out DIR for its figures")
    result = inspect(options.config, options.out, options.common.machine())
    said = findings(as_json(result))
    said += [f"broken: {broken.key}: {broken.reason}" for broken in result.broken]
    show(result, options.common, "\n".join([*said, str(make(options.out))]))
    return 1 if result.broken else 0


COMMAND = Command(
    "inspect",
    "Filters, positions, attention distance, rollout, single heads, nearest neighbours.",
    "vitrail inspect --model runs/cifar10 --images cifar10@test --neighbours cifar10@train[:5000] --out runs/inside",
    run,
)
