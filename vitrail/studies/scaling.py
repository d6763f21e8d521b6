"""Figure 5 and Table 6: what does compute buy, in a Transformer, a ResNet and a hybrid?

A larger model spends more compute on each of as many images; at scale medium the smallest of each family are trained
for longer, too, as some of the paper's are, and laws go through what compute buys at best. Compute is that of
pre-training, 6 FLOPs a multiply-add, without the products with the zeros around an image: so Table 6 was counted.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vitrail.core.errors import BadInput
from vitrail.core.estimate import Estimate
from vitrail.core.figures import Figure, Lines, Point, point
from vitrail.recipes import finetuning, pretraining
from vitrail.recipes.paper import paper
from vitrail.studies import setups
from vitrail.studies.engine.findings import differs, middle, percent, unfinished
from vitrail.studies.engine.floor import LEAST, shows_floor
from vitrail.studies.engine.power_law import PowerLaw, exponents, gap_at_equal, ratio_at_equal
from vitrail.studies.engine.rates import at_rates, chosen
from vitrail.studies.engine.results import Results
from vitrail.studies.engine.runs import Measure, Run, Scale, Tuned
from vitrail.studies.engine.study import Study
from vitrail.studies.over_compute import Place, Places, amount, frontier, laws_of, over_compute, places, unit_of
from vitrail.studies.table6 import FAMILIES, paper_laws, paper_ratios, table6

TASKS = ("paper-imagenet", "paper-cifar10", "paper-cifar100", "paper-pets", "paper-flowers")
RATES = (2.5e-4, *setups.MEDIUM_RATES, 6e-3, 1.8e-2)  # at medium; of a larger model two, near that of the smaller one
GRID = "fitted to the runs of a family that no cheaper one of it beats. After a name: its updates, if not 1,500."
LONGER = {3000: 3, 6000: 3, 12000: 1}  # updates besides 1,500, and of how many of each family: the smallest cost least

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
        runs = tuple(one for run in (*_grown(runs), *_longer(runs)) for one in at_rates(run, RATES))
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
        "All of Tiny-ImageNet at 32 pixels, 1,500 updates of 128 images (1.9 epochs) for five sizes a family over "
        "nearly two decades of compute, 3,000 and 6,000 for the three smallest besides, 12,000 for the smallest. The "
        "rate of the smallest is one of five, of each larger one that of the next smaller or a third of it, chosen by "
        "its validation images; of a longer run it is that of the short one. The target is CIFAR-10.",
        "1,536,000 images at most are few: with few images ResNets are ahead in the paper, too (its Figure 4).",
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


def _longer(runs: Sequence[Run]) -> Iterator[Run]:
    """The smallest of each family for more updates, at the rate that is chosen for the short run."""
    for steps, count in LONGER.items():
        for family in FAMILIES:
            for run in [run for run in runs if run.at["family"] == family][:count]:
                config = setups.medium_run(run.config.model, steps)
                yield Run(f"{run.name}, {steps} updates", config, {**run.at, "shorter": run.name})


def finding(results: Results) -> str:
    """Compute at equal accuracy, accuracy at equal compute where that decides more; how fast the error falls, where to.

    Laws that hardly fall leave the ratio of compute open, however far apart they lie.
    """
    if not results.complete:
        return unfinished(results)
    results = chosen(results)
    measure = _main(results)
    families = places(results, measure)
    laws = laws_of(_fitted(results, families))
    slopes = ", ".join(f"{family} {_power(law.exponent)}" for family, law in laws.items())
    return (
        f"For the same {measure} accuracy {_at_equal_accuracy(laws)}.{_at_equal_compute(laws)} The error falls with a "
        f"power of compute: {slopes}.{_floors(laws)}{_bought(families)}"
    )


def _fitted(results: Results, families: Mapping[str, Places]) -> Mapping[str, Places]:
    """What the laws go through: all runs, or where models were trained longer, too, those that no cheaper one beats."""
    return {family: frontier(some) for family, some in families.items()} if _is_grid(results) else families


def _is_grid(results: Results) -> bool:
    return any("shorter" in row.run.at for row in results.rows)


def _at_equal_accuracy(laws: Mapping[str, PowerLaw]) -> str:
    first = laws.get("ViT")
    parts = []
    for family, law in laws.items():
        if first is not None and law is not first:
            ratio = ratio_at_equal(first, law)
            parts.append(
                f"{family}s take {times(ratio)} the compute of ViTs"
                if ratio is not None
                else f"{family}s and ViTs reach no accuracy in common"
            )
    return "; ".join(parts) or "Too few runs for a comparison of families"


def _at_equal_compute(laws: Mapping[str, PowerLaw]) -> str:
    """Of the families whose ratio of compute is not known within a decade."""
    first = laws.get("ViT")
    parts = []
    for family, law in laws.items():
        if first is None or law is first or _within_a_decade(ratio_at_equal(first, law)):
            continue
        gap = gap_at_equal(law, first)
        if gap is not None:
            parts.append(f"{family}s are {differs(gap[1], 'better', 'worse')} at {amount(gap[0])}")
    return f" With the same compute {'; '.join(parts)}." if parts else ""


def _bought(families: Mapping[str, Places]) -> str:
    """What compute buys that is spent on more updates of a model, and what on a larger one; "" where these are one."""
    by_length, by_size = [], []
    for family, some in families.items():
        lengths, sizes = [place.images for place in some], [place.compute / place.images for place in some]
        try:
            of_length, of_size = exponents([lengths, sizes], [place.error for place in some])
        except BadInput:
            continue
        by_length.append(f"{family} {_power(of_length)}")
        by_size.append(f"{family} {_power(of_size)}")
    if not by_length:
        return ""
    return (
        f" Spent on more updates of the same models it takes the error down by the powers {', '.join(by_length)}; on "
        f"larger models at as many updates {', '.join(by_size)}."
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


def times(ratio: Estimate) -> str:
    """ "2.9 times (95 % interval 1.8 to 4.6)"."""
    return f"{ratio.value:.2g} times (95 % interval {_short(ratio.low)} to {_short(ratio.high)})"


def _short(value: float | None) -> str:
    if value is None or not np.isfinite(value):
        return "any number"
    return f"{value:.2g}" if 0.01 < value < 1000 else "less than 0.01" if value <= 0.01 else "more than 1,000"


def _power(exponent: Estimate) -> str:
    shown = f"{exponent.value:.3f} ({exponent.low:.3f} to {exponent.high:.3f})"
    return shown.replace("-", "−")


def figures(results: Results) -> Sequence[Figure]:
    """Accuracy over compute with the fitted laws, for each measure, and the paper's figure 5."""
    results = chosen(results)
    names = results.measure_names
    note = GRID if _is_grid(results) else "fitted to the points of a family."
    drawn: list[Figure] = []
    for measure in ["average", *names] if _main(results) == "average" else names:
        families = places(results, measure)
        if families:
            unit, one = unit_of(max(some[-1].compute for some in families.values()))
            fitted = _fitted(results, families)
            points = {
                family: [
                    point(place.compute / one, place.accuracy, _short_name(place) if place in fitted[family] else "")
                    for place in some
                ]
                for family, some in families.items()
            }
            laws = laws_of(fitted)
            title = f"{measure} accuracy over compute of pre-training"
            drawn.append(over_compute(title, unit, f"{measure} accuracy", points, laws, one, note=note))
    return [*drawn, _figure5()]


def _short_name(place: Place) -> str:
    return place.name.removesuffix(" updates")


def _figure5() -> Lines:
    rows = paper("table6").records()
    points = {}
    for family in FAMILIES:
        xs, errors = table6(family)
        names = [row["variant"] for row in rows if row["family"] == family]
        points[family] = [Point(x, 1 - error, name=name) for x, error, name in zip(xs, errors, names, strict=True)]
    title = "The paper's figure 5: average of five tasks over compute (Table 6)"
    return over_compute(title, "exaFLOPs", "accuracy, average of 5", points, paper_laws(), 1.0)
