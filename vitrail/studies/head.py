"""Figure 9: a class token or the average of the patches? Both are as good, each at a learning rate of its own (D.3)."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from vitrail.core.figures import Figure, Line, Lines, Point, point
from vitrail.jobs.pretrain import Pretrain
from vitrail.models.head import AveragePool, ClassToken, PoolConfig
from vitrail.models.vit import ViTConfig
from vitrail.studies import setups
from vitrail.studies.engine.findings import differs, middle, percent, unfinished
from vitrail.studies.engine.rates import at_rates, chosen
from vitrail.studies.engine.results import Results, Row
from vitrail.studies.engine.runs import Run, Scale
from vitrail.studies.engine.study import Study

HEADS: dict[str, PoolConfig] = {"class token": ClassToken(), "average": AveragePool()}

# The first rate is the base's, but at scale medium, whose first and third are those of `position`. The paper has the
# class token at 8e-4 alone.
RATES: dict[Scale, tuple[float, ...]] = {
    "smoke": (1e-2, 3e-3, 3e-2),
    "small": (2e-3, 5e-4, 8e-3),
    "medium": (1e-3, 3e-4, 3e-3, 9e-3),
    "paper": (8e-4, 3e-4),
}


def head(scale: Scale) -> Study:
    """Two heads over learning rates."""
    base, target, seeds = setups.varied_vit(scale)
    return Study(
        name="head",
        question="Class token or average pooling?",
        source="Figure 9, appendix D.3",
        scale=scale,
        runs=tuple(run for name in HEADS for run in _runs(base, name, scale)),
        measures=(target,),
        finding=finding,
        figures=figures,
        paper="At 8e-4 average pooling is far below the class token, at 3e-4 it is about as good: the learning rate "
        "makes the difference, not the head (JFT, 5-shot ImageNet, one run each; read off a figure).",
        remarks=REMARKS[scale],
        seeds=seeds,
        all_rates=True,
    )


REMARKS: dict[Scale, tuple[str, ...]] = {
    "smoke": ("Neither head has the paper's hidden layer, so that the heads differ in one thing.",),
    "small": (
        "Neither head has the paper's hidden layer, so that the heads differ in one thing.",
        setups.SMALL_REMARK,
    ),
    "medium": (
        "All of Tiny-ImageNet at 32 pixels, 4,000 updates, two seeds, four rates a head over a factor of 30; the "
        "target is CIFAR-10.",
        "Neither head has the paper's hidden layer, so that the heads differ in one thing.",
    ),
    "paper": (
        "As in the paper, the class token is followed by a hidden tanh layer and the average is not.",
        "The better rate of the average is chosen by the accuracy that is shown: there are no validation images.",
    ),
}


def _runs(base: Pretrain, name: str, scale: Scale) -> Iterator[Run]:
    assert isinstance(base.model, ViTConfig)
    hidden = base.model.hidden if name == "class token" else None
    model = replace(base.model, pool=HEADS[name], hidden=hidden)  # the head; rates are what varies, too
    runs = at_rates(Run(name, replace(base, model=model), {"head": name}), RATES[scale])
    if scale != "paper":
        yield from runs
        return
    for run in runs:
        if (name, run.at["rate"]) != ("class token", 3e-4):
            yield replace(run, at={key: value for key, value in run.at.items() if key != "of"})  # each by itself


def finding(results: Results) -> str:
    """The heads at the rate chosen for each, and how much is lost at the rate that is worst for each."""
    if not results.complete:
        return unfinished(results)
    measure = middle(results)
    at_one = chosen(results)
    best = {name: _best(at_one, name, measure) for name in HEADS}
    token, average = (best[name].run for name in HEADS)
    gap = at_one.contrast({token.name: 1.0, average.name: -1.0}, measure)
    assert gap is not None
    shown = ", ".join(
        f"{name} {percent(at_one.value(row, measure))} at {row.run.at['rate']:g}" for name, row in best.items()
    )
    compared = f"the class token is {differs(gap, 'better', 'worse')} in {measure} accuracy"
    lost = _lost(results, measure)
    costs = f"the wrong rate costs {lost}" if lost else "what a wrong rate costs was not tried"
    by = "validation images prefer" if len(at_one.rows) < len(results.rows) else "is best of those tried"
    return f"Each at the rate that {by} ({shown}), {compared}; {costs}."


def _best(results: Results, name: str, measure: str) -> Row:
    rows = [row for row in results.has(measure) if row.run.at["head"] == name]
    return max(rows, key=lambda row: results.value(row, measure).value)


def _lost(results: Results, measure: str) -> str:
    parts = []
    for name in HEADS:
        accuracies = [results.value(row, measure).value for row in results.has(measure) if row.run.at["head"] == name]
        if len(accuracies) > 1:
            parts.append(f"the {name} up to {100 * (max(accuracies) - min(accuracies)):.1f} points")
    return " and ".join(parts)


def figures(results: Results) -> Sequence[Figure]:
    """Accuracy over the learning rate, and over the epochs as in figure 9."""
    drawn: list[Figure] = []
    for measure in results.measure_names:
        lines = []
        for name in HEADS:
            rows = sorted((row for row in results.has(measure) if row.run.at["head"] == name), key=_rate)
            if rows:
                lines.append(Line(name, [point(_rate(row), results.value(row, measure)) for row in rows]))
        if lines:
            rates = sorted({_rate(row) for row in results.rows})
            title = f"{measure} accuracy over the learning rate"
            drawn.append(Lines(title, "learning rate", f"{measure} accuracy", lines, log_x=True, x_ticks=rates))
    curves = []
    for row in results.rows:
        curve = results.curve(row)
        if curve:
            colour = list(HEADS).index(str(row.run.at["head"]))
            points = [Point(step, accuracy) for step, accuracy in curve]
            curves.append(Line(row.run.name, points, dots=False, colour=colour))
    if curves:
        note = "Accuracy of the validation images; the paper's figure 9 has 5-shot ImageNet accuracy instead."
        drawn.append(Lines("Validation accuracy over the run", "steps", "validation accuracy", curves, note=note))
    return drawn


def _rate(row: Row) -> float:
    return float(row.run.at["rate"])
