"""Figure 5 and Table 6: what does compute buy, in a Transformer, a ResNet and a hybrid?

All models see as many images, as in the paper; a larger model spends more compute on each. Compute is that of
pre-training, 6 FLOPs a multiply-add, without the products with the zeros around an image: so Table 6 was counted.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vitrail.core.estimate import Estimate
from vitrail.core.figures import Figure, Line, Lines, Point, point
from vitrail.evals.paired import mean_of
from vitrail.models.cost import multiply_adds
from vitrail.recipes import finetuning, pretraining
from vitrail.recipes.paper import paper
from vitrail.studies import setups
from vitrail.studies.engine.findings import differs, middle, percent, unfinished
from vitrail.studies.engine.floor import LEAST, laws_alike, shows_floor
from vitrail.studies.engine.power_law import PowerLaw, gap_at_equal, ratio_at_equal
from vitrail.studies.engine.rates import at_rates, chosen
from vitrail.studies.engine.results import Results, Row
from vitrail.studies.engine.runs import Measure, Run, Scale, Tuned
from vitrail.studies.engine.study import Study
from vitrail.studies.table6 import FAMILIES, paper_laws, paper_ratios, table6

TASKS = ("paper-imagenet", "paper-cifar10", "paper-cifar100", "paper-pets", "paper-flowers")
UNITS = (("exaFLOPs", 1e18), ("petaFLOPs", 1e15), ("teraFLOPs", 1e12))
NOTE = "Curves: error = a · compute^b, fitted to the points of a family."
FLOORED = "Curves: error = floor + a · compute^b, fitted to the points of a family."
RATES = (2.5e-4, *setups.MEDIUM_RATES, 6e-3, 1.8e-2)  # at medium; of a larger model two, near that of the smaller one
CURVE = 40  # places at which a fitted law is drawn

# Table 6 but for R200x3 and the long R152x2, whose rates Table 3 does not have.
RECIPES = {
    "B/32, 7 epochs": ("ViT", "jft-b32"),
    "B/16, 7 epochs": ("ViT", "jft-b16"),
    "L/32, 7 epochs": ("ViT", "jft-l32"),
    "L/16, 7 epochs": ("ViT", "jft-l16-7"),
    "L/16, 14 epochs": ("ViT", "jft-l16-14"),
    "H/14, 14 epochs": ("ViT", "jft-h14"),
    "R50x1, 7 epochs": ("ResNet", "jft-r50x1"),
    "R50x2, 7 epochs": ("ResNet", "jft-r50x2"),
    "R101x1, 7 epochs": ("ResNet", "jft-r101x1"),
    "R152x1, 7 epochs": ("ResNet", "jft-r152x1"),
    "R152x2, 7 epochs": ("ResNet", "jft-r152x2"),
    "R50+B/32, 7 epochs": ("hybrid", "jft-r50-b32"),
    "R50+B/16, 7 epochs": ("hybrid", "jft-r50-b16"),
    "R50+L/32, 7 epochs": ("hybrid", "jft-r50-l32"),
    "R50+L/16, 7 epochs": ("hybrid", "jft-r50-l16-7"),
    "R50+L/16, 14 epochs": ("hybrid", "jft-r50-l16-14"),
}


def scaling(scale: Scale) -> Study:
    """Three families over pre-training compute."""
    runs, measures = _at(scale)
    if scale == "medium":
        runs = tuple(one for run in _grown(runs) for one in at_rates(run, RATES))
    ratios, theirs = paper_ratios(), paper_laws()["ViT"]
    assert theirs.floor is not None  # Table 6 does not change
    return Study(
        name="scaling",
        question="How much accuracy does compute buy, by family?",
        source="Figure 5, Table 6, section 4.4",
        scale=scale,
        runs=runs,
        measures=measures,
        finding=finding,
        figures=figures,
        paper="ViTs need 2 to 4 times less compute than ResNets for the same average accuracy of five tasks (a fit to "
        f"Table 6: ResNets take {times(ratios['ResNet'])}); hybrids are a little better than ViTs with little "
        "compute, and no more so with much; no level is in sight (the same fit has a floor of the errors of ViTs, "
        f"{percent(theirs.floor)}).",
        remarks=REMARKS[scale],
    )


REMARKS: dict[Scale, tuple[str, ...]] = {
    "smoke": ("Scattered digits, seconds of training: what is seen is the machinery, not the paper's question.",),
    "small": (
        "The same short schedule for all models, and one rate but for the widest; the paper's rates differ by model.",
        setups.SMALL_REMARK,
    ),
    "medium": (
        "All of Tiny-ImageNet at 32 pixels, 1,500 updates of 128 images (1.9 epochs), five sizes a family over nearly "
        "two decades of compute. The rate of the smallest is one of five, of each larger one that of the next smaller "
        "or a third of it, chosen by its validation images; the target is CIFAR-10.",
        "192,000 images are few: with few images ResNets are ahead in the paper, too (its Figure 4).",
    ),
    "paper": ("R200x3 and R152x2 of 14 epochs are missing: Table 3 does not say their rates.",),
}


def _at(scale: Scale) -> tuple[tuple[Run, ...], tuple[Measure, ...]]:
    if scale == "paper":
        configs = {name: (family, pretraining(recipe)) for name, (family, recipe) in RECIPES.items()}
        measures: tuple[Measure, ...] = tuple(Tuned(finetuning(task), name=task) for task in TASKS)
    elif scale == "medium":
        models = setups.MEDIUM_MODELS.items()
        configs = {name: (family, setups.medium_run(model)) for name, (family, model) in models}
        measures = (setups.CIFAR10,)
    else:
        configs, target = setups.small_runs(scale)
        measures = (target,)
    return tuple(Run(name, config, {"family": family}) for name, (family, config) in configs.items()), measures


def _grown(runs: Sequence[Run]) -> Iterator[Run]:
    """Each with the next smaller model of its family, near whose rate its own is looked for (engine/rates.py)."""
    smaller = dict[Any, str]()
    for run in runs:
        family = run.at["family"]
        yield replace(run, at={**run.at, "smaller": smaller[family]}) if family in smaller else run
        smaller[family] = run.name


@dataclass(frozen=True)
class Places:
    """The runs of a family: compute in FLOPs, error as a share, its estimate of accuracy, name."""

    compute: Sequence[float]
    accuracy: Sequence[Estimate]
    names: Sequence[str]


def laws_of(families: Mapping[str, Places]) -> dict[str, PowerLaw]:
    """Error over compute of each family that has enough runs."""
    return laws_alike(
        {name: (some.compute, [1 - estimate.value for estimate in some.accuracy]) for name, some in families.items()}
    )


def places(results: Results, measure: str) -> dict[str, Places]:
    """The finished runs by family. `measure`: a name, or "average" over all."""
    names = results.measure_names if measure == "average" else [measure]
    families = {}
    for family in FAMILIES:
        rows = [row for row in results.rows if row.run.at["family"] == family and all(row.values.get(n) for n in names)]
        rows = sorted(rows, key=_compute)
        values = [mean_of([results.value(row, name) for name in names]) for row in rows]
        families[family] = Places([_compute(row) for row in rows], values, [row.run.name for row in rows])
    return {family: some for family, some in families.items() if some.names}


def _compute(row: Row) -> float:
    """FLOPs of the run as Table 6 counts them."""
    model: Any = row.run.config.model
    done = row.mean_of("total_flops")
    if done is None:
        return 6.0 * multiply_adds(model, padding=False) * row.run.config.steps * row.run.config.batch
    return done * multiply_adds(model, padding=False) / multiply_adds(model)


def finding(results: Results) -> str:
    """Compute at equal accuracy, accuracy at equal compute where that decides more; how fast the error falls, where to.

    Laws that hardly fall leave the ratio of compute open, however far apart they lie.
    """
    if not results.complete:
        return unfinished(results)
    results = chosen(results)
    measure = _main(results)
    laws = laws_of(places(results, measure))
    first = laws.get("ViT")
    parts, gaps = [], []
    for family, law in laws.items():
        if family == "ViT" or first is None:
            continue
        ratio = ratio_at_equal(first, law)
        parts.append(
            f"{family}s take {times(ratio)} the compute of ViTs"
            if ratio is not None
            else f"{family}s and ViTs reach no accuracy in common"
        )
        gap = gap_at_equal(law, first)
        if gap is not None and not _within_a_decade(ratio):
            gaps.append(f"{family}s are {differs(gap[1], 'better', 'worse')} at {_amount(gap[0])}")
    slopes = [f"{family} {_power(law)}" for family, law in laws.items()]
    comparison = "; ".join(parts) or "Too few runs for a comparison of families"
    at_equal_compute = f" With the same compute {'; '.join(gaps)}." if gaps else ""
    return (
        f"For the same {measure} accuracy {comparison}.{at_equal_compute} The error falls with a power of compute: "
        f"{', '.join(slopes)}.{_floors(laws)}"
    )


def _floors(laws: Mapping[str, PowerLaw]) -> str:
    """The floors with their intervals, or that none is seen; nothing where the points are too few to tell."""
    floors = [
        f"{family} {percent(law.floor)}" + ("" if shows_floor(law) else ", which may be none")
        for family, law in laws.items()
        if law.floor is not None
    ]
    if floors:
        return f" It falls towards a floor: {'; '.join(floors)}."
    return " No floor is seen." if laws and all(law.freedom >= LEAST - 2 for law in laws.values()) else ""


def _main(results: Results) -> str:
    return "average" if any(isinstance(measure, Tuned) for measure in results.measures) else middle(results)


def _within_a_decade(ratio: Estimate | None) -> bool:
    return ratio is not None and ratio.interval is not None and ratio.interval[1] < 10 * ratio.interval[0]


def _amount(flops: float) -> str:
    """ "30 teraFLOPs"."""
    unit, one = _unit_of(flops)
    return f"{flops / one:.2g} {unit}"


def _unit_of(flops: float) -> tuple[str, float]:
    return next(unit for unit in UNITS if flops >= unit[1] or unit is UNITS[-1])


def times(ratio: Estimate) -> str:
    """ "2.9 times (95 % interval 1.8 to 4.6)"."""
    return f"{ratio.value:.2g} times (95 % interval {_short(ratio.low)} to {_short(ratio.high)})"


def _short(value: float | None) -> str:
    if value is None or not np.isfinite(value):
        return "any number"
    return f"{value:.2g}" if 0.01 < value < 1000 else "less than 0.01" if value <= 0.01 else "more than 1,000"


def _power(law: PowerLaw) -> str:
    shown = f"{law.exponent.value:.3f} ({law.exponent.low:.3f} to {law.exponent.high:.3f})"
    return shown.replace("-", "−")


def figures(results: Results) -> Sequence[Figure]:
    """Accuracy over compute with the fitted laws, for each measure, and the paper's figure 5."""
    results = chosen(results)
    names = results.measure_names
    drawn: list[Figure] = []
    for measure in ["average", *names] if _main(results) == "average" else names:
        families = places(results, measure)
        if families:
            most = max(max(some.compute) for some in families.values())
            unit, one = _unit_of(most)
            points = {
                family: [
                    point(x / one, y, name) for x, y, name in zip(some.compute, some.accuracy, some.names, strict=True)
                ]
                for family, some in families.items()
            }
            laws = laws_of(families)
            title = f"{measure} accuracy over compute of pre-training"
            drawn.append(_over_compute(title, unit, f"{measure} accuracy", points, laws, one))
    return [*drawn, _figure5()]


def _over_compute(
    title: str,
    unit: str,
    label: str,
    points: Mapping[str, Sequence[Point]],
    laws: Mapping[str, PowerLaw],
    scale: float,
) -> Lines:
    lines = []
    points = _named_apart(points)
    for colour, family in enumerate(FAMILIES):
        if family not in points:
            continue
        law = laws.get(family)
        lines.append(Line("" if law else family, points[family], joined=False, colour=colour))
        if law is not None:
            xs = np.geomspace(*law.span, CURVE)
            curve = [Point(float(x) / scale, 1 - law.at(float(x)).value) for x in xs]
            lines.append(Line(family, curve, dots=False, colour=colour))
    note = FLOORED if any(law.floor is not None for law in laws.values()) else NOTE
    return Lines(title, f"compute of pre-training, {unit}", label, lines, log_x=True, note=note)


def _named_apart(points: Mapping[str, Sequence[Point]]) -> dict[str, list[Point]]:
    """Without the names for which there is no room: near the right end, where families have theirs, and near others."""
    everything = sorted((p for some in points.values() for p in some), key=lambda p: p.x)
    span_x = np.log(everything[-1].x / everything[0].x) or 1.0
    heights = [p.y for p in everything]
    span_y = (max(heights) - min(heights)) or 1.0
    labelled: list[Point] = []
    for p in everything:
        room = np.log(everything[-1].x / p.x) / span_x > 0.1
        apart = all(np.log(p.x / other.x) / span_x > 0.16 or abs(p.y - other.y) / span_y > 0.07 for other in labelled)
        if room and apart:
            labelled.append(p)
    return {family: [p if p in labelled else replace(p, name="") for p in some] for family, some in points.items()}


def _figure5() -> Lines:
    rows = paper("table6").records()
    points = {}
    for family in FAMILIES:
        xs, errors = table6(family)
        names = [row["variant"] for row in rows if row["family"] == family]
        points[family] = [Point(x, 1 - error, name=name) for x, error, name in zip(xs, errors, names, strict=True)]
    title = "The paper's figure 5: average of five tasks over compute (Table 6)"
    return _over_compute(title, "exaFLOPs", "accuracy, average of 5", points, paper_laws(), 1.0)
