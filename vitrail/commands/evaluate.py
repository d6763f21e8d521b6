"""`vitrail evaluate`: a classifier, judged, and compared with another."""

from typing import TYPE_CHECKING

from vitrail.commands.parsing import Command, CommonInference, parse, percent, show
from vitrail.commands.parsing import options as options_of

if TYPE_CHECKING:
    from vitrail.records.evaluation import EvaluationResult
    from vitrail.records.multi_label import MultiLabelSummary


def run(args: list[str]) -> int:
    """`vitrail evaluate`; returns the exit code."""
    from vitrail.jobs.evaluate import Evaluate, evaluate
    from vitrail.records.comparison import Comparison
    from vitrail.records.multi_label import MultiLabelSummary

    kind, _ = options_of(Evaluate, default=None, common=CommonInference)
    options = parse(COMMAND, kind, args)
    result = evaluate(options.config, options.out, options.common.machine())
    if isinstance(result, MultiLabelSummary):
        lines = _several(result)
    else:
        lines = [result.sentence] if isinstance(result, Comparison) else _said(result)
    if options.out is not None:
        from vitrail.report.index import make

        lines.append(str(make(options.out)))
    show(result, options.common, "\n".join(lines))
    return 1 if not isinstance(result, Comparison) and result.broken else 0


def _several(result: "MultiLabelSummary") -> list[str]:
    """For people, of images of several classes each."""
    mean = percent(result.mean_average_precision, result.mean_average_precision_interval)
    by = (
        f"thresholds chosen on {result.thresholds.data}"
        if result.thresholds
        else "thresholds of 0.5, which nothing chose"
    )
    lines = [
        f"mean average precision {mean} of {result.count:,} images, {result.classes_an_image:.1f} classes each",
        f"{by}: F1 {percent(result.f1, result.f1_interval)}, all answers right {result.exact:.1%}",
    ]
    if result.broken:
        lines += ["broken images:", *(f"  {b.key}: {b.reason}" for b in result.broken)]
    return lines


def _said(result: "EvaluationResult") -> list[str]:
    """For people, a line a finding."""
    from vitrail.jobs.train_test_overlap import sentence

    calibration, tempered, views = result.calibration, result.temperature, result.views
    assert views is not None
    mean = f"; mean of {views.crops} crops" if views.crops > 1 else ""
    if len(views.resolutions) > 1:
        mean += "; mean of " + " and ".join(f"{height} x {width}" for height, width in views.resolutions)
    line = f"accuracy {percent(result.accuracy, result.interval)} of {result.count:,} images; loss {result.loss:.3f}"
    lines = [f"{line}; calibration error {calibration.ece:.1%}{mean}"]
    if result.top5 is not None:
        lines.append(f"top-5 accuracy {result.top5:.1%}; balanced accuracy {result.balanced_accuracy:.1%}")
    if tempered:
        after = f"loss {tempered.loss:.3f}; calibration error {tempered.calibration.ece:.1%}"
        lines.append(f"with temperature {tempered.value:.3g}: {after}")
    if result.copies:
        said = sentence(result.copies, result.count)
        lines.append(f"warning: {said}" if result.copies.copies else said)
    if result.comparison:
        lines.append(result.comparison.sentence)
    if result.broken:
        lines += ["broken images:", *(f"  {b.key}: {b.reason}" for b in result.broken)]
    return lines


COMMAND = Command(
    "evaluate",
    "Accuracy with its interval, per class, calibration, against another model, without copies of training images.",
    "vitrail evaluate --model runs/cifar10 --data cifar10@test --against runs/other --out runs/judged",
    run,
    ("model", "data", "against", "calibrate-on", "store-temperature", "crops", "classes", "out", "device", "json"),
)
