"""Figures 3 and 4: does a Transformer need more images than a ResNet before it transfers as well?

All runs of a model have the same hyper-parameters, those of the whole set, and as many updates; the smaller sets are
parts of the larger. The weights of the best validation accuracy are judged (early stopping), as in figure 4.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial

from vitrail.core.figures import Dot, Dots, Figure, Line, Lines, Panel, Point, point
from vitrail.jobs.pretrain import EarlyStopping, Pretrain
from vitrail.models.build import ModelConfig
from vitrail.recipes import finetuning, pretraining
from vitrail.recipes.paper import paper
from vitrail.recipes.pretraining import IMAGES
from vitrail.studies import setups
from vitrail.studies.engine.crossing import Crossing, crossing, overtaking
from vitrail.studies.engine.findings import differs, middle, unfinished
from vitrail.studies.engine.rates import at_rates, chosen
from vitrail.studies.engine.results import Results, Row
from vitrail.studies.engine.runs import Measure, Reached, Run, Scale, Tuned
from vitrail.studies.engine.study import Study

SIZES: dict[Scale, tuple[int, ...]] = {
    "smoke": (400, 1500, 6000),
    "small": (2_000, 10_000, 50_000),
    "medium": (500, 2_000, 8_000, 32_000, 128_000, 500_000),
    "paper": (9_000_000, 30_000_000, 90_000_000, IMAGES["jft"]),
}

# Model -> family and recipe; the ViT-b/32 of figure 4 is not in Table 3.
PAPER_MODELS = {
    "ViT-B/32": ("ViT", "jft-b32"),
    "ViT-L/32": ("ViT", "jft-l32"),
    "ViT-L/16": ("ViT", "jft-l16-14"),
    "R50x1": ("ResNet", "jft-r50x1"),
    "R152x2": ("ResNet", "jft-r152x2"),
}

# Models and steps of the two smaller scales.
SMALL_MODELS: dict[Scale, tuple[tuple[str, ...], int]] = {
    "smoke": (("ViT-64/4", "R8x0.5"), 300),
    "small": (("ViT-128/8", "ViT-192/8", "R11x0.5", "R11x1"), 1000),
}

# Of equal compute: 26, 22 and 24 million FLOPs an image in training.
MEDIUM_MODELS: dict[str, tuple[str, ModelConfig]] = {
    "ViT-64/4": ("ViT", setups.vit(4, 64, 3, 24)),
    "R14x0.5": ("ResNet", setups.resnet((2, 2), 32, 24)),
    "R8x0.5+64/4": ("hybrid", setups.hybrid(64, 4, 24)),
}
RATES = (1e-3, 3e-3)  # of these, for each model and size, the better one by the validation images


def data_size(scale: Scale) -> Study:
    """Models of two families over sizes of the training set."""
    models, measures = _at(scale)
    runs = [
        Run(
            f"{name}, {images:,} images",
            replace(config, images=images),
            {"family": family, "model": name, "images": float(images)},
        )
        for images in reversed(SIZES[scale])
        for name, (family, config) in models.items()
    ]
    return Study(
        name="data-size",
        question="Does a Transformer need more data than a ResNet?",
        source="Figure 4, section 4.3",
        scale=scale,
        runs=tuple(one for run in runs for one in at_rates(run, RATES)) if scale == "medium" else tuple(runs),
        measures=measures,
        finding=finding,
        figures=figures,
        paper="On 9 million images of JFT ViTs are far below ResNets of the same compute, from 90 million on they are "
        "above: ResNets are better with less data and level off sooner (figure 4; read off, no numbers are given).",
        remarks=REMARKS[scale],
        seeds=2 if scale == "medium" else 1,
    )


REMARKS: dict[Scale, tuple[str, ...]] = {
    "smoke": (
        "Scattered digits, 24 pixels, seconds of training: what is seen is the machinery, not the paper's question.",
    ),
    "small": (
        "Models of 0.6 to 2.2 million parameters on 32 pixels, and as many updates for every size: many epochs of "
        "few images, two and a half of all. The paper does not say how long the runs on its subsets were.",
    ),
    "medium": (
        "Digits at any place and size of a canvas; three models of equal compute, 6,000 updates of 64 images, early "
        "stopping, two rates: of half a million images three quarters are seen, 500 are seen 768 times. Validation and "
        "test show digits that training does not; more images are more places of the same 1,352 digits.",
    ),
    "paper": (
        "ViT-b/32 of figure 4 is not in Table 3 and is left out; early stopping is by validation images of JFT.",
    ),
}


def _at(scale: Scale) -> tuple[dict[str, tuple[str, EarlyStopping]], tuple[Measure, ...]]:
    """Family and run of each model, and what is measured."""
    if scale == "paper":
        runs = {
            label: (family, _early(replace(pretraining(recipe), validation="jft@validation")))
            for label, (family, recipe) in PAPER_MODELS.items()
        }
        return runs, (setups.IMAGENET, Tuned(finetuning("paper-imagenet")))
    if scale == "medium":
        runs = {
            name: (family, _early(setups.strewn_digits(model, RATES[0])))
            for name, (family, model) in MEDIUM_MODELS.items()
        }
        return runs, (Reached("test"),)
    names, steps = SMALL_MODELS[scale]
    configs, target = setups.small_runs(scale, names)
    runs = {name: (family, _early(replace(config, steps=steps))) for name, (family, config) in configs.items()}
    return runs, (target,)


def _early(config: Pretrain) -> EarlyStopping:
    """The run with early stopping, judged often enough to find where."""
    same = {f.name: getattr(config, f.name) for f in fields(Pretrain)}
    every = max(1, min(config.evaluate_every, config.steps // 8))
    return EarlyStopping(**{**same, "keep": "best", "evaluate_every": every})


def finding(results: Results) -> str:
    """The gap between the families at the smallest and the largest set, how it moves from where it is widest."""
    if not results.complete:
        return unfinished(results)
    results = chosen(results)
    measure = middle(results)
    sizes = sorted({_images(row) for row in results.rows})
    if len(sizes) < 2:
        raise ValueError("one size of the data says nothing about sizes")
    gaps = {size: gap for size in sizes if (gap := results.contrast(_gap(results, size, 1.0), measure)) is not None}
    first, last = gaps.get(sizes[0]), gaps.get(sizes[-1])
    widest = max(gaps, key=lambda size: abs(gaps[size].value))
    between = (
        f", from {widest:,} {differs(gaps[widest], 'better', 'worse')}" if widest not in (sizes[0], sizes[-1]) else ""
    )
    start = sizes[0] if widest == sizes[-1] else widest
    moved = Counter(_gap(results, sizes[-1], 1.0))
    moved.update(_gap(results, start, -1.0))
    change = results.contrast(moved, measure)
    assert first is not None
    assert last is not None
    assert change is not None
    where = overtaking("ViTs", _crossing(results, sizes, measure), [float(size) for size in sizes], "images")
    return (
        f"From {sizes[0]:,} images ViTs are {differs(first, 'better', 'worse')} than ResNets in {measure} accuracy"
        f"{between}, from {sizes[-1]:,} images {differs(last, 'better', 'worse')}; from {start:,} to {sizes[-1]:,} "
        f"images it moves by {differs(change, 'towards ViTs', 'towards ResNets')}. {where}."
        f"{_hybrids(results, sizes, measure)}"
    )


def _hybrids(results: Results, sizes: Sequence[int], measure: str) -> str:
    """What hybrids are beside either family, on the mean of all sizes; nothing where there are none."""
    if not any(row.run.at["family"] == "hybrid" for row in results.rows):
        return ""
    said = []
    for other in ("ViT", "ResNet"):
        weights: Counter[str] = Counter()
        for size in sizes:
            weights.update(_gap(results, size, 1.0 / len(sizes), ("hybrid", other)))
        gap = results.contrast(weights, measure)
        assert gap is not None
        said.append(f"{differs(gap, 'better', 'worse')} than {other}s")
    return f" On the mean of the sizes hybrids are {' and '.join(said)}."


def _crossing(results: Results, sizes: Sequence[int], measure: str) -> Crossing | None:
    gaps = [results.contrast(_gap(results, size, 1.0), measure) for size in sizes]
    return crossing([float(size) for size in sizes], [gap for gap in gaps if gap is not None])


def _gap(
    results: Results, images: int, weight: float, families: tuple[str, str] = ("ViT", "ResNet")
) -> dict[str, float]:
    """Weights of the runs in (mean of the first family less the second's) of a size; ValueError where one lacks."""
    rows = [row for row in results.rows if _images(row) == images]
    signs = {families[0]: 1.0, families[1]: -1.0}
    sizes = Counter(family for row in rows if (family := str(row.run.at["family"])) in signs)
    if set(sizes) != set(signs):
        raise ValueError(f"{images} images have runs of {', '.join(sizes)} alone")
    return {
        row.run.name: weight * signs[family] / sizes[family]
        for row in rows
        for family in [str(row.run.at["family"])]
        if family in signs
    }


def figures(results: Results) -> Sequence[Figure]:
    """Accuracy over images as in figure 4, where the best weights were, and the paper's figure 3."""
    drawn: list[Figure] = []
    results = chosen(results)
    for measure in results.measure_names:
        lines = _lines(results.has(measure), partial(_reached, results, measure))
        if lines:
            drawn.append(_over_images(f"{measure} accuracy over images of pre-training", f"{measure} accuracy", lines))
    stopped = [row for row in results.rows if row.mean_of("best_step") is not None]
    if stopped:
        lines = _lines(
            stopped, lambda row: Point(float(_images(row)), (row.mean_of("best_step") or 0) / row.run.config.steps)
        )
        note = "100 %: the last weights were the best; earlier: the run had begun to learn its images by heart."
        drawn.append(replace(_over_images("Where the best weights were", "share of the run", lines), note=note))
    return [*drawn, _figure3()]


def _reached(results: Results, measure: str, row: Row) -> Point:
    return point(float(_images(row)), results.value(row, measure))


def _over_images(title: str, label: str, lines: Sequence[Line]) -> Lines:
    ticks = sorted({point.x for line in lines for point in line.points})
    return Lines(title, "images of pre-training", label, lines, log_x=True, x_ticks=ticks)


def _lines(rows: Sequence[Row], made: Callable[[Row], Point]) -> list[Line]:
    """A line a model, over the images."""
    names = list(dict.fromkeys(str(row.run.at["model"]) for row in rows))
    of = {name: sorted((row for row in rows if row.run.at["model"] == name), key=_images) for name in names}
    return [Line(name, [made(row) for row in of[name]]) for name in names]


def _figure3() -> Dots:
    table = paper("table5")
    panels = [
        Panel(
            f"pre-trained on {row['pre-training']}",
            [Dot(name, row[name] / 100) for name in table.columns[2:] if row[name]],
        )
        for row in table.records()
        if row["data set"] == "ImageNet"
    ]
    note = "Table 5: top-1 accuracy on ImageNet, fine-tuned at 384 pixels."
    return Dots("The paper's figure 3: larger models need more data", "ImageNet accuracy", panels, note=note)


def _images(row: Row) -> int:
    return int(row.run.at["images"])
