"""`vitrail evaluate`: a classifier, judged."""

from vitrail.commands.parsing import Command, parse, percent, show
from vitrail.commands.parsing import options as options_of


def run(args: list[str]) -> int:
    """`vitrail evaluate`; returns the exit code."""
    from vitrail.jobs.evaluate import Evaluate, evaluate

    kind, _ = options_of(Evaluate, out=None, default=None)
    options = parse(COMMAND, kind, args)
    result = evaluate(options.config, options.out, options.common.machine())
    text = f"accuracy {percent(result)} of {result['count']:,} images; loss {result['loss']:.3f}"
    text += f"; calibration error {result['calibration']['ece']:.1%}"
    if result["broken"]:
        text += "\nbroken images:\n" + "\n".join(f"  {b['key']}: {b['reason']}" for b in result["broken"])
    if options.out is not None:
        from vitrail.report import make

        text += f"\n{make(options.out)}"
    show(result, options.common, text)
    return 1 if result["broken"] else 0


COMMAND = Command(
    "evaluate",
    "Accuracy with its interval, per class, calibration.",
    "vitrail evaluate --model runs/cifar10 --data cifar10@test --out runs/judged",
    run,
)
