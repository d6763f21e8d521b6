"""Of equal compute, which size of a ViT reaches most, few steps of a large one or many of a small one?

Not a figure of the paper, which gives all sizes the same images (figure 5, `scaling`). Sizes grow in proportion, which
appendix D.2 finds robust: the width is a fixed number of times the depth. What is spent is the arithmetic of training,
images times FLOPs; Adam's learning rate is proportional to 1 / width. The law of `pretrain auto` is fitted to the runs
of scale small.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from vitrail.core.figures import Figure, Line, Lines, point
from vitrail.core.text import listed
from vitrail.jobs.pretrain import Pretrain
from vitrail.jobs.pretrain_auto.config import BATCH, AutoPretrain, Facts, run_of, vit_of
from vitrail.models.build import ModelConfig
from vitrail.models.cost import training_flops
from vitrail.models.vit import ViTConfig
from vitrail.recipes import pretraining
from vitrail.studies import setups
from vitrail.studies.engine.findings import unfinished
from vitrail.studies.engine.optimum import FEWEST, Optimum, optimum, optimum_words
from vitrail.studies.engine.results import Results, Row
from vitrail.studies.engine.runs import FewShot, Measure, Reached, Run, Scale
from vitrail.studies.engine.study import Study


@dataclass(frozen=True)
class Grid:
    """What is tried."""

    made: Callable[[int, float], Pretrain]  # of a depth, for so many FLOPs
    depths: Mapping[float, tuple[int, ...]]  # FLOPs of training -> those around the best one
    measure: Measure


def compute(scale: Scale) -> Study:
    """Depths at equal compute."""
    grid = _grid(scale)
    return Study(
        name="compute",
        question="Of equal compute, which size of a ViT reaches most?",
        source="Section 4.4, appendix D.2; the question of equal compute is not the paper's",
        scale=scale,
        runs=tuple(_run(grid, depth, flops) for flops, depths in grid.depths.items() for depth in depths),
        measures=(grid.measure,),
        finding=finding,
        figures=figures,
        paper="All sizes see as many images, and larger reach more (Table 5); to grow depth, width, MLP and patches "
        "in proportion is robust (figure 8). What is best for a given compute the paper does not ask.",
        remarks=REMARKS[scale],
    )


def _run(grid: Grid, depth: int, flops: float) -> Run:
    config = grid.made(depth, flops)
    return Run(f"{depth} layers, {flops:.2g} FLOPs".replace("e+", "e"), config, {"depth": depth, "compute": flops})


def _steps(model: ModelConfig, flops: float, batch: int) -> int:
    return max(10, round(flops / training_flops(model) / batch))


def _like(base: Pretrain, at: int, width: int, depth: int, flops: float) -> Pretrain:
    """The run of a depth that grows from `base`, of the depth `at`, with `width` numbers for each layer."""
    assert isinstance(base.model, ViTConfig)
    first, wide = base.model, depth * width
    ratio, head = first.mlp / first.width, first.width // first.heads
    hidden = None if first.hidden is None else wide  # of the head, as wide as the model
    model = replace(first, depth=depth, width=wide, heads=wide // head, mlp=round(ratio * wide), hidden=hidden)
    steps = _steps(model, flops, base.batch)
    return replace(
        base,
        model=model,
        steps=steps,
        optimizer=replace(base.optimizer, lr=float(f"{base.optimizer.lr * at / depth:.3g}")),
        schedule=replace(base.schedule, warmup=max(1, steps // 10)),
        evaluate_every=steps,
        save_every=steps,
    )


TINY = Facts(images=100_000, classes=200, side=32, square=True)  # half of its pixels a side


def _automatic(depth: int, flops: float) -> Pretrain:
    """The run that `pretrain auto` makes of a depth, which it knows by these."""
    steps = _steps(vit_of(depth, TINY), flops, BATCH)
    asked = AutoPretrain("tiny-imagenet@train", "tiny-imagenet@validation", flops=flops)
    return replace(run_of(asked, TINY, depth, steps, flip=True), evaluate_every=steps)


REMARKS: dict[Scale, tuple[str, ...]] = {
    "smoke": ("Scattered digits, seconds of training: what is seen is the machinery.",),
    "small": (
        "All of Tiny-ImageNet at 32 pixels with patches of 4, widths of 32 a layer, one seed: runs of `pretrain auto`.",
        "Judged on the 10,000 validation images of Tiny-ImageNet, by which nothing is chosen.",
    ),
    "paper": ("Widths of 64 a layer, patches of 16 pixels, ImageNet-21k; chosen here.",),
}


def _grid(scale: Scale) -> Grid:
    match scale:
        case "smoke":
            base = replace(setups.scattered_digits(setups.vit(4, 64, 2, 24)), validation=None, test=_SMOKE_TEST)
            return Grid(partial(_like, base, 2, 32), dict.fromkeys((2e11, 8e11), (1, 2, 3, 4)), Reached("test"))
        case "small":
            around: dict[float, tuple[int, ...]] = {3e11: (2,), 1.2e12: (2, 3)}  # as pilots are
            around |= dict.fromkeys((5e12, 1.5e13, 4.5e13), (2, 3, 4, 6))
            return Grid(_automatic, around, Reached("test"))
        case "paper":
            base = pretraining("imagenet21k-b16")
            tried = dict.fromkeys((1e19, 4e19, 1.6e20), (6, 8, 12, 16, 24))
            return Grid(partial(_like, base, 12, 64), tried, _FIVE_SHOT)
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
    every = {float(row.run.at["compute"]) for row in results.rows}
    spent = sorted(flops for flops in every if len(_depths(results, flops)) >= FEWEST)  # others are for the law alone
    parts = [
        f"{optimum_words(best(results, flops), _depths(results, flops))} layers for {flops:.2g} FLOPs"
        for flops in spent
    ]
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


def _depths(results: Results, flops: float) -> list[float]:
    return [_depth(row) for row in _rows(results, flops)]


def _depth(row: Row) -> float:
    return float(row.run.at["depth"])
