"""`vitrail linear`: frozen features, judged."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from vitrail.commands.parsing import Command, CommonInference, parse, show
from vitrail.commands.parsing import options as options_of

if TYPE_CHECKING:
    from vitrail.records.linear import LinearRow


@dataclass(frozen=True)
class CommonLinear(CommonInference):
    """Options of models in use, and where their features are computed."""

    cluster: Literal["ray"] | None = None  # the features by 1,024 images a task on the cluster that RAY_ADDRESS names


def run(args: list[str]) -> int:
    """`vitrail linear`; returns the exit code."""
    from vitrail.core.dist import launched
    from vitrail.jobs.linear_probe import Linear, linear

    kind, _ = options_of(Linear, default=None, common=CommonLinear)
    options = parse(COMMAND, kind, args)
    result = linear(options.config, options.out, options.common.machine(), options.common.cluster)
    if not launched().first:
        return 0
    lines = [_line(row) for row in result.rows]
    if result.measure:
        lines.append(f"of several classes an image: {result.measure}")
    lines += [f"broken: {b.key}: {b.reason}" for b in result.broken]
    if options.out is not None:
        from vitrail.report.index import make

        lines.append(str(make(options.out)))
    show(result, options.common, "\n".join(lines))
    return 1 if result.broken else 0


def _line(row: "LinearRow") -> str:
    what: str = row.features
    if row.layer is not None:
        what = f"layer {row.layer}, {row.tokens}"
    how = "all images" if row.shots == "all" else f"{row.shots} shots"
    spread = ""
    if row.interval:
        low, high = row.interval
        over = f"over {len(row.accuracies)} draws" if row.interval_over == "draws" else "over the test images"
        spread = f"  ({low:.1%} to {high:.1%} {over})"
    return f"{what:>26}  {row.judge:>8}  {how:>10}  {row.mean:.1%}{spread}"


COMMAND = Command(
    "linear",
    "What frozen features tell: by the closed form, nearest neighbours or logistic regression, layer by layer.",
    "vitrail linear --model runs/cifar10 --train photos@train --test photos@test --shots 1 5 10 all --judge ridge knn",
    run,
    ("model", "train", "test", "shots", "judge", "layers", "seeds", "resolution", "out", "device"),
)
