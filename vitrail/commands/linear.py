"""`vitrail linear`: frozen features, judged."""

from vitrail.commands.parsing import Command, parse, show
from vitrail.commands.parsing import options as options_of


def run(args: list[str]) -> int:
    """`vitrail linear`; returns the exit code."""
    from vitrail.jobs.linear import Linear, linear

    kind, _ = options_of(Linear, out=None, default=None)
    options = parse(COMMAND, kind, args)
    result = linear(options.config, options.out, options.common.machine())
    lines = []
    for row in result["rows"]:
        low, high = row["interval"] or (row["mean"], row["mean"])
        spread = f"  ({low:.1%} to {high:.1%} over {len(row['accuracies'])} draws)" if row["interval"] else ""
        lines.append(f"{row['features']:>22}  {row['shots']:>3} shots  {row['mean']:.1%}{spread}")
    lines += [f"broken: {b['key']}: {b['reason']}" for b in result["broken"]]
    if options.out is not None:
        from vitrail.report import make

        lines.append(str(make(options.out)))
    show(result, options.common, "\n".join(lines))
    return 1 if result["broken"] else 0


COMMAND = Command(
    "linear",
    "Few-shot accuracy of frozen features, in closed form.",
    "vitrail linear --model runs/cifar10 --train photos@train --test photos@test --shots 1 5 10",
    run,
)
