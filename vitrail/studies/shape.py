"""Figure 8: of a Transformer's shape, what is worth its compute: depth, width, MLP, patches, or all of them (D.2)?"""

from collections.abc import Sequence
from dataclasses import replace
from math import log2

from vitrail.core.estimate import Estimate
from vitrail.core.figures import Figure, Line, Lines, Point, point
from vitrail.models.cost import training_flops
from vitrail.models.vit import ViTConfig
from vitrail.recipes import pretraining
from vitrail.studies import setups
from vitrail.studies.engine.findings import middle, points, unfinished
from vitrail.studies.engine.rates import at_rates, chosen
from vitrail.studies.engine.results import Results, Row
from vitrail.studies.engine.runs import Run, Scale
from vitrail.studies.engine.study import Study

# layers, width, MLP, patch
Shape = tuple[int, int, int, int]

PAPER_BASE = ViTConfig(patch=32, width=1024, depth=8, heads=16, mlp=2048, hidden=1024)
HEAD_WIDTH = {"smoke": 16, "small": 32, "medium": 32, "paper": 64}

# What each line of the figure changes of the base, which is on all of them. The paper gives the base and that depth
# goes to 64; the other sizes are chosen here, for up to about 10 times the compute of the base.
LINES: dict[Scale, dict[str, tuple[Shape, ...]]] = {
    "smoke": {
        "depth": ((4, 64, 128, 4), (8, 64, 128, 4)),
        "width": ((2, 128, 128, 4),),
        "MLP": ((2, 64, 512, 4),),
        "patch": ((2, 64, 128, 2),),
        "all": ((3, 96, 192, 4),),
    },
    "small": {
        "depth": ((8, 128, 256, 8), (16, 128, 256, 8)),
        "width": ((4, 192, 256, 8), (4, 384, 256, 8)),
        "MLP": ((4, 128, 768, 8), (4, 128, 2048, 8)),
        "patch": ((4, 128, 256, 4),),
        "all": ((5, 160, 320, 8), (6, 192, 384, 4)),
    },
    "medium": {
        "depth": ((8, 128, 256, 8), (16, 128, 256, 8), (32, 128, 256, 8)),
        "width": ((4, 192, 256, 8), (4, 384, 256, 8), (4, 512, 256, 8)),
        "MLP": ((4, 128, 768, 8), (4, 128, 2048, 8), (4, 128, 4096, 8)),
        "patch": ((4, 128, 256, 4),),
        "all": ((5, 160, 320, 8), (6, 192, 384, 4)),
    },
    "paper": {
        "depth": ((16, 1024, 2048, 32), (32, 1024, 2048, 32), (64, 1024, 2048, 32)),
        "width": ((8, 1536, 2048, 32), (8, 2048, 2048, 32), (8, 3072, 2048, 32)),
        "MLP": ((8, 1024, 4096, 32), (8, 1024, 8192, 32), (8, 1024, 16384, 32)),
        "patch": ((8, 1024, 2048, 28), (8, 1024, 2048, 16), (8, 1024, 2048, 14)),
        "all": ((10, 1280, 2560, 28), (12, 1536, 3072, 16)),
    },
}


def shape(scale: Scale) -> Study:
    """Lines through one base, each changing one size."""
    base, target, seeds = setups.varied_vit(scale)
    if scale == "medium":
        base = setups.medium_run(base.model)
    if scale == "paper":
        base = replace(pretraining("jft-b32"), model=PAPER_BASE)
    medium = scale == "medium"
    assert isinstance(base.model, ViTConfig)
    first = training_flops(base.model)
    runs = [Run("base", base, {"line": "base", "compute": 1.0})]
    for line, shapes in LINES[scale].items():
        for depth, width, mlp, patch in shapes:
            heads = width // HEAD_WIDTH[scale]
            model = replace(base.model, depth=depth, width=width, mlp=mlp, patch=patch, heads=heads)  # the change
            at: dict[str, float | str] = {"line": line, "compute": training_flops(model) / first}
            runs.append(Run(_name(line, (depth, width, mlp, patch)), replace(base, model=model), at))
    return Study(
        name="shape",
        question="Which size of a Transformer is worth its compute?",
        source="Figure 8, appendix D.2",
        scale=scale,
        runs=tuple(one for run in runs for one in at_rates(run, setups.MEDIUM_RATES)) if medium else tuple(runs),
        measures=(target,),
        finding=finding,
        figures=figures,
        paper="Depth helps most, up to 64 layers and less from 16 on; width helps least; smaller patches help without "
        "new parameters; scaling all in proportion is robust (5-shot ImageNet, a figure without numbers).",
        remarks=REMARKS[scale],
        seeds=seeds if medium else 1,
    )


REMARKS: dict[Scale, tuple[str, ...]] = {
    "smoke": ("One rate for all shapes, seconds of training, few test images: what is seen is the machinery.",),
    "small": ("One learning rate for all shapes.", setups.SMALL_REMARK),
    "medium": (
        "All of Tiny-ImageNet at 32 pixels, 1,500 updates, two seeds; for each shape the rate is chosen of two by its "
        "validation images, the target is CIFAR-10.",
        "Up to about 10 times the compute of the base; of smaller patches there is one size.",
    ),
    "paper": (
        "The paper gives the base and that depth goes to 64 layers; the other sizes, the number of heads (16) and the "
        "training (7 epochs of JFT as its B/32) are chosen here.",
    ),
}


def _name(line: str, sizes: Shape) -> str:
    if line == "all":
        return "all " + "-".join(map(str, sizes))
    return f"{line} {sizes[('depth', 'width', 'MLP', 'patch').index(line)]}"


def finding(results: Results) -> str:
    """Points a doubling of compute for each line, from the base to its largest."""
    if not results.complete:
        return unfinished(results)
    results = chosen(results)
    measure = middle(results)
    worth = {line: _worth(results, line, measure) for line in LINES[results.scale]}
    ordered = sorted(worth.items(), key=lambda item: -item[1].value)
    listed = ", ".join(f"{_scaled(line)} {_points(gain)}" for line, gain in ordered)
    return f"A doubling of compute is worth, in points of {measure} accuracy from the base to the largest: {listed}."


def _worth(results: Results, line: str, measure: str) -> Estimate:
    largest = _rows(results, line, measure)[-1]
    doublings = log2(_compute(largest))
    gain = results.contrast({largest.run.name: 1 / doublings, "base": -1 / doublings}, measure)
    assert gain is not None
    return gain


def _points(estimate: Estimate) -> str:
    within = f" ({' to '.join(map(points, estimate.interval))})" if estimate.interval else ""
    return points(estimate.value) + within


def _scaled(line: str) -> str:
    return {"patch": "smaller patches", "all": "all together"}.get(line, line)


def _rows(results: Results, line: str, measure: str) -> list[Row]:
    return sorted((row for row in results.has(measure) if row.run.at["line"] == line), key=_compute)


def _compute(row: Row) -> float:
    return float(row.run.at["compute"])


def figures(results: Results) -> Sequence[Figure]:
    """Accuracy over compute in that of the base, a line for each size, all through the base."""
    results = chosen(results)
    drawn: list[Figure] = []
    for measure in results.measure_names:
        start: list[Point] = [point(1.0, results.value(row, measure)) for row in _rows(results, "base", measure)]
        lines = []
        for line in LINES[results.scale]:
            rows = _rows(results, line, measure)
            if rows:
                points_of_line = [point(_compute(row), results.value(row, measure)) for row in rows]
                lines.append(Line(_scaled(line), [*start, *points_of_line]))
        if lines:
            title, label = f"{measure} accuracy over compute", "compute an image, in that of the base"
            drawn.append(Lines(title, label, f"{measure} accuracy", lines, log_x=True, x_ticks=(1, 2, 4, 8, 16)))
    return drawn
