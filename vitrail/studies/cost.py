"""Figure 12: how many images a second, and how many at once, by model and size of the image?

Measured on the machine that the study runs on, one model and one size a run. `vitrail.jobs.throughput` says how.
"""

from collections.abc import Sequence
from dataclasses import replace
from statistics import mean

from vitrail.core.errors import BadInput
from vitrail.core.estimate import Estimate
from vitrail.core.figures import Figure, Line, Lines, Point
from vitrail.jobs.throughput import Throughput, measure_throughput
from vitrail.models.build import ModelConfig
from vitrail.models.variants import variant
from vitrail.studies import setups
from vitrail.studies.engine.findings import unfinished
from vitrail.studies.engine.power_law import power_law
from vitrail.studies.engine.results import Results, Row
from vitrail.studies.engine.runs import Reached, Run, Scale
from vitrail.studies.engine.study import Study

RATE, TRAINING, LARGEST, LARGEST_TRAINING = "images/s", "training images/s", "largest batch", "largest training batch"

SIDES: dict[Scale, tuple[int, ...]] = {
    "smoke": (16, 32, 64),
    "small": (64, 128, 224),
    "medium": (32, 64, 128, 224, 320),  # two decades of pixels
    "paper": (64, 128, 224, 384, 512),
}

NAMES: dict[Scale, tuple[str, ...]] = {
    "smoke": (),
    "small": ("Ti/16", "S/16", "R26x1", "R50x1"),
    "medium": ("Ti/16", "S/16", "B/32", "B/16", "R26x1", "R50x1", "R50x2"),
    "paper": ("B/32", "B/16", "L/32", "L/16", "H/14", "R50x1", "R50x2", "R152x4"),
}

BATCHES: dict[Scale, tuple[int, ...]] = {
    "smoke": (4, 32),
    "small": (1, 8, 32),
    "medium": (1, 4, 16),  # a larger one of B/16 at 320 pixels does not train in the memory of a small machine
    "paper": tuple(2**n for n in range(0, 13, 2)),
}

SECONDS: dict[Scale, float] = {"smoke": 0.2, "small": 2.0, "medium": 5.0, "paper": 5.0}


def cost(scale: Scale) -> Study:
    """Models of two families over the sides of images."""
    return Study(
        name="cost",
        question="How fast are models, and how many images do they hold, by the size of the image?",
        source="Figure 12, appendix D.5",
        scale=scale,
        runs=tuple(
            Run(
                f"{name}, {side} pixels",
                _speed(model, side, scale),
                {"model": name, "side": float(side), "family": _family(name)},
            )
            for name, model in _models(scale).items()
            for side in SIDES[scale]
        ),
        measures=(
            Reached(RATE, "images_per_second"),
            Reached(TRAINING, "training_images_per_second"),
            Reached(LARGEST, "largest_batch"),
            Reached(LARGEST_TRAINING, "largest_training_batch"),
        ),
        finding=finding,
        figures=figures,
        paper="ViTs infer about as fast as ResNets of like accuracy; the growth with the fourth power of the side that "
        "attention has is barely seen, and only in the largest models at the largest sizes; large ViTs hold larger "
        "batches than ResNets; training takes a constant times inference, whatever the model (TPUv3).",
        remarks=REMARKS[scale],
        seeds=2 if scale == "medium" else 1,
        job=measure_throughput,
    )


_RECKONED = "On a CPU the largest batch is not tried but reckoned from the free memory and the sizes of activations."

REMARKS: dict[Scale, tuple[str, ...]] = {
    "smoke": (_RECKONED, "Tiny models and a fifth of a second each: the machine's noise is large."),
    "small": (_RECKONED,),
    "medium": (
        _RECKONED,
        "Sides over two decades of pixels, models over more than one of arithmetic an image; each is measured twice, "
        "and the mean is shown. Nothing is trained, so there are no rates to choose.",
    ),
    "paper": ("The paper measured inference alone; the largest batch is a power of two.",),
}


def _models(scale: Scale) -> dict[str, ModelConfig]:
    if scale == "smoke":
        return {
            "ViT-64/8": setups.vit(8, 64, 4, 32),
            "ViT-64/4": setups.vit(4, 64, 4, 32),
            "R8x0.5": setups.resnet((1, 1), 32, 32),
        }
    return {name: variant(name) for name in NAMES[scale]}


def _speed(model: ModelConfig, side: int, scale: Scale) -> Throughput:
    sized = replace(model, resolution=(side, side), num_classes=1000)
    return Throughput(sized, BATCHES[scale], SECONDS[scale])


def _family(name: str) -> str:
    return "ResNet" if name.startswith("R") else "ViT"


def finding(results: Results) -> str:
    """The sentence: how time grows with the side, and what training takes."""
    if not results.complete:
        return unfinished(results)
    powers = [f"{name} {_range(growth)}" for name in _names(results) if (growth := _growth(results, name)) is not None]
    ratios = [_value(row, RATE) / _value(row, TRAINING) for row in results.has(TRAINING) if _value(row, TRAINING)]
    start = f"The time of an image grows with a power of its side: {', '.join(powers)}; " if powers else ""
    return (
        f"{start}{'a' if start else 'A'} training step takes {mean(ratios):.1f} times an inference on average "
        f"({min(ratios):.1f} to {max(ratios):.1f} over {len(ratios)} models and sizes)."
    )


def _growth(results: Results, name: str) -> Estimate | None:
    """The power of the side with which seconds an image grow; None from too few sizes."""
    rows = [row for row in results.has(RATE) if row.run.at["model"] == name]
    try:
        return power_law([_side(row) for row in rows], [1 / _value(row, RATE) for row in rows]).exponent
    except BadInput:
        return None


def _range(estimate: Estimate) -> str:
    return f"{estimate.value:.1f} ({estimate.low:.1f} to {estimate.high:.1f})"


def figures(results: Results) -> Sequence[Figure]:
    """Images a second and the largest batch over the side, as in figure 12; what training takes of inference."""
    drawn: list[Figure] = []
    for measure, title in (
        (RATE, "Images a second, without gradients"),
        (LARGEST, "The largest batch, without gradients"),
        (LARGEST_TRAINING, "The largest batch of training in one pass"),
    ):
        lines = _lines(results, {row.run.name: _value(row, measure) for row in results.has(measure)})
        if lines:
            drawn.append(_over_side(title, measure, lines, log_y=True))
    both = [row for row in results.has(TRAINING) if _value(row, TRAINING)]
    lines = _lines(results, {row.run.name: _value(row, RATE) / _value(row, TRAINING) for row in both})
    if lines:
        drawn.append(
            _over_side("What training takes, in inferences", "training / inference, in time", lines, log_y=False)
        )
    return drawn


def _over_side(title: str, label: str, lines: Sequence[Line], log_y: bool) -> Lines:
    ticks = sorted({point.x for line in lines for point in line.points})
    return Lines(title, "pixels of a side", label, lines, log_x=True, log_y=log_y, percent=False, x_ticks=ticks)


def _lines(results: Results, values: dict[str, float]) -> list[Line]:
    """A line a model, over the side; a logarithm has no place for zero."""
    lines = []
    for name in _names(results):
        rows = sorted((row for row in results.rows if row.run.at["model"] == name), key=_side)
        points = [Point(_side(row), values[row.run.name]) for row in rows if values.get(row.run.name)]
        if points:
            lines.append(Line(name, points))
    return lines


def _names(results: Results) -> list[str]:
    return list(dict.fromkeys(str(row.run.at["model"]) for row in results.rows))


def _side(row: Row) -> float:
    return float(row.run.at["side"])


def _value(row: Row, measure: str) -> float:
    return mean(row.values[measure])
