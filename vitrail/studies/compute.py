"""Of equal compute, which size of a ViT reaches most, few steps of a large one or many of a small one?

Not a figure of the paper, which gives all sizes the same images (figure 5, `scaling`). Sizes grow in proportion, which
appendix D.2 finds robust: the width is a fixed number of times the depth. What is spent is the arithmetic of training,
images times FLOPs; the learning rate is proportional to 1 / width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vitrail.core.figures import Figure, Line, Lines, point
from vitrail.core.text import listed
from vitrail.jobs.pretrain import Pretrain
from vitrail.models.cost import training_flops
from vitrail.models.vit import ViTConfig
from vitrail.recipes import pretraining
from vitrail.studies import setups
from vitrail.studies.engine.findings import unfinished
from vitrail.studies.engine.optimum import Optimum, optimum, optimum_words
from vitrail.studies.engine.results import Results, Row
from vitrail.studies.engine.runs import FewShot, Measure, Reached, Run, Scale
from vitrail.studies.engine.study import Study


@dataclass(frozen=True)
class Grid:
    """What is tried: a run of each depth for each compute."""

    base: Pretrain  # of the depth `at`; its rate is that of this depth
    at: int
    depths: tuple[int, ...]
    width: int  # for each layer
    compute: tuple[float, ...]  # FLOPs of training
    measure: Measure


def compute(scale: Scale) -> Study:
    """Depths at equal compute."""
    grid = _grid(scale)
    return Study(
        name="compute",
        question="Of equal compute, which size of a ViT reaches most?",
        source="Section 4.4, appendix D.2; the question of equal compute is not the paper's",
        scale=scale,
        runs=tuple(_run(grid, depth, flops) for flops in grid.compute for depth in grid.depths),
        measures=(grid.measure,),
        finding=finding,
        figures=figures,
        paper="All sizes see as many images, and larger reach more (Table 5); to grow depth, width, MLP and patches "
        "in proportion is robust (figure 8). What is best for a given compute the paper does not ask.",
        remarks=REMARKS[scale],
    )


def _run(grid: Grid, depth: int, flops: float) -> Run:
    assert isinstance(grid.base.model, ViTConfig)
    width, first = depth * grid.width, grid.base.model
    ratio, head = first.mlp / first.width, first.width // first.heads
    hidden = None if first.hidden is None else width  # of the head, as wide as the model
    model = replace(first, depth=depth, width=width, heads=width // head, mlp=round(ratio * width), hidden=hidden)
    steps = max(10, round(flops / training_flops(model) / grid.base.batch))
    rate = float(f"{grid.base.optimizer.lr * grid.at / depth:.3g}")
    config = replace(
        grid.base,
        model=model,
        steps=steps,
        optimizer=replace(grid.base.optimizer, lr=rate),
        schedule=replace(grid.base.schedule, warmup=max(1, steps // 10)),
        evaluate_every=steps,
        save_every=steps,
    )
    return Run(f"{depth} layers, {flops:.2g} FLOPs".replace("e+", "e"), config, {"depth": depth, "compute": flops})


REMARKS: dict[Scale, tuple[str, ...]] = {
    "smoke": ("Scattered digits, seconds of training: what is seen is the machinery.",),
    "small": (
        "All of Tiny-ImageNet at 32 pixels with patches of 4, widths of 32 a layer, one rate a depth, one seed.",
        "Judged on the 10,000 validation images of Tiny-ImageNet, by which nothing is chosen.",
    ),
    "paper": ("Widths of 64 a layer, patches of 16 pixels, ImageNet-21k; chosen here.",),
}


def _grid(scale: Scale) -> Grid:
    match scale:
        case "smoke":
            base = replace(setups.scattered_digits(setups.vit(4, 64, 2, 24)), validation=None, test=_SMOKE_TEST)
            return Grid(base, 2, (1, 2, 3, 4), 32, (2e11, 8e11), Reached("test"))
        case "small":
            small = setups.tiny_imagenet(setups.vit(4, 128, 4, 32))
            base = replace(small, train="tiny-imagenet@train", validation=None, test="tiny-imagenet@validation")
            return Grid(base, 4, (2, 3, 4, 6, 8), 32, (6e12, 2.4e13, 9.6e13), Reached("test"))
        case "paper":
            base = pretraining("imagenet21k-b16")
            return Grid(base, 12, (6, 8, 12, 16, 24), 64, (1e19, 4e19, 1.6e20), _FIVE_SHOT)
        case _:
            raise ValueError(f"there is no scale {scale}")


_SMOKE_TEST = "scattered-digits@seen-test"
_FIVE_SHOT: FewShot = setups.IMAGENET


def best(results: Results, flops: float) -> Optimum | None:
    """The depth that reaches most with a compute."""
    rows = _rows(results, flops)
    measure = results.measure_names[0]
    return optimum([_depth(row) for row in rows], [results.value(row, measure) for row in rows])


def finding(results: Results) -> str:
    """The best depth at each compute."""
    if not results.complete:
        return unfinished(results)
    spent = sorted({float(row.run.at["compute"]) for row in results.rows})
    depths = sorted({_depth(row) for row in results.rows})
    parts = [f"{optimum_words(best(results, flops), depths)} layers for {flops:.2g} FLOPs" for flops in spent]
    return f"The best depth in {results.measure_names[0]} accuracy is {listed(parts)}.".replace("e+", "e")


def figures(results: Results) -> Sequence[Figure]:
    """Accuracy over depth, a line for each compute."""
    (measure,) = results.measure_names
    lines = []
    for flops in sorted({float(row.run.at["compute"]) for row in results.rows}):
        rows = [row for row in _rows(results, flops) if row.values.get(measure)]
        if rows:
            name = f"{flops:.2g} FLOPs".replace("e+", "e")
            lines.append(Line(name, [point(_depth(row), results.value(row, measure)) for row in rows]))
    if not lines:
        return []
    ticks = sorted({_depth(row) for row in results.rows})
    title = f"{measure} accuracy over depth, at equal compute"
    return [Lines(title, "layers, the width in proportion", f"{measure} accuracy", lines, log_x=True, x_ticks=ticks)]


def _rows(results: Results, flops: float) -> list[Row]:
    return sorted((row for row in results.rows if row.run.at["compute"] == flops), key=_depth)


def _depth(row: Row) -> float:
    return float(row.run.at["depth"])
