"""Table 8: does a ViT need to be told where its patches lie, how, and how often (appendix D.4)?"""

from collections.abc import Sequence
from dataclasses import replace

from vitrail.core.figures import Dot, Dots, Figure, Panel, dot
from vitrail.models.position import Learned1d, Learned2d, NoPosition, PositionConfig, Relative
from vitrail.models.vit import ViTConfig
from vitrail.studies import setups
from vitrail.studies.engine.findings import differs, middle, no_more_than_noise, unfinished
from vitrail.studies.engine.rates import at_rates, chosen
from vitrail.studies.engine.results import Results
from vitrail.studies.engine.runs import Run, Scale
from vitrail.studies.engine.study import Study

# kind, where it acts, its config, 5-shot accuracy on ImageNet in Table 8; the default of the paper is the base
CELLS: tuple[tuple[str, str, PositionConfig, float], ...] = (
    ("1-D", "stem", Learned1d("stem"), 0.64206),
    ("none", "", NoPosition(), 0.61382),
    ("2-D", "stem", Learned2d("stem"), 0.64001),
    ("relative", "", Relative(), 0.64032),
    ("1-D", "every layer", Learned1d("layers"), 0.63964),
    ("1-D", "every layer, shared", Learned1d("shared"), 0.64292),
    ("2-D", "every layer", Learned2d("layers"), 0.64046),
    ("2-D", "every layer, shared", Learned2d("shared"), 0.64022),
)


RATES = (1e-3, 3e-3)  # at scale medium; of these, for each cell, the better one by the validation images


def position(scale: Scale) -> Study:
    """The eight cells of Table 8."""
    base, target, seeds = setups.varied_vit(scale)

    def run(kind: str, where: str, config: PositionConfig) -> Run:
        assert isinstance(base.model, ViTConfig)
        model = replace(base.model, position=config)  # the one line of change
        return Run(_name(kind, where), replace(base, model=model), {"kind": kind})

    runs = [run(kind, where, config) for kind, where, config, _ in CELLS]
    return Study(
        name="position",
        question="Does a ViT need positions, and of which kind?",
        source="Table 8, appendix D.4",
        scale=scale,
        runs=tuple(one for run in runs for one in at_rates(run, RATES)) if scale == "medium" else tuple(runs),
        measures=(target,),
        finding=finding,
        figures=figures,
        paper="Without positions 2.8 points less than with 1-D; the other kinds and places differ by at most 0.3 "
        "points (ViT-B/16 on JFT, 5-shot ImageNet, one run each).",
        remarks=REMARKS[scale],
        effect=0.028,  # Table 8: 61.4 without, 64.2 with 1-D positions
        seeds=seeds,
    )


REMARKS: dict[Scale, tuple[str, ...]] = {
    "smoke": (
        "The classes are a digit and the quarter that it lies in: a bag of patches can tell the digits apart and not "
        "the quarters, so the gap is there by design. Relative embeddings learn this task slowly.",
    ),
    "small": (setups.SMALL_REMARK,),
    "medium": (
        "All of Tiny-ImageNet at 32 pixels, 4,000 updates, two seeds; for each cell the rate is chosen by its "
        "validation images, the target is CIFAR-10.",
    ),
    "paper": (),
}


def _name(kind: str, where: str) -> str:
    return f"{kind}, {where}" if where else kind


def finding(results: Results) -> str:
    """None against the mean of all others, and whether these differ at all."""
    if not results.complete:
        return unfinished(results)
    results = chosen(results)
    measure = middle(results)
    others = [row.run.name for row in results.rows if row.run.name != "none"]
    gap = results.contrast({"none": -1.0, **{name: 1 / len(others) for name in others}}, measure)
    assert gap is not None
    return (
        f"Without positions {measure} accuracy is {differs(gap, 'lower', 'higher')} than with any of the "
        f"{len(others)} kinds on average; {no_more_than_noise(results, others, measure)}."
    )


def figures(results: Results) -> Sequence[Figure]:
    """The cells beside the paper's, for each number of shots."""
    paper = Panel(
        "the paper's: ViT-B/16 on JFT, 5-shot ImageNet",
        [Dot(where, value, group=kind) for kind, where, _, value in _ordered()],
    )
    drawn: list[Figure] = []
    results = chosen(results)
    for measure in results.measure_names:
        estimates = {row.run.name: results.value(row, measure) for row in results.has(measure)}
        dots = [
            dot(where, estimates[_name(kind, where)], kind)
            for kind, where, _, _ in _ordered()
            if _name(kind, where) in estimates
        ]
        if dots:
            panels = [Panel("these runs", dots), *([paper] if not drawn else [])]
            drawn.append(Dots(f"{measure} accuracy by kind of position and place", f"{measure} accuracy", panels))
    return drawn


def _ordered() -> list[tuple[str, str, PositionConfig, float]]:
    order = ("none", "1-D", "2-D", "relative")
    return sorted(CELLS, key=lambda cell: order.index(cell[0]))
