"""Figure 13: is attention along rows and columns worth its compute (appendix D.6)?"""

from collections.abc import Sequence
from dataclasses import replace

from vitrail.core.figures import Figure, Line, Lines, Point, point
from vitrail.jobs.pretrain import Pretrain
from vitrail.models.cost import training_flops
from vitrail.models.resnet import ResNetConfig
from vitrail.models.variants import variant
from vitrail.models.vit import ViTConfig
from vitrail.recipes import pretraining
from vitrail.studies import setups
from vitrail.studies.engine.findings import differs, unfinished
from vitrail.studies.engine.results import Results, Row
from vitrail.studies.engine.runs import FewShot, Reached, Run, Scale
from vitrail.studies.engine.study import Study

SPEED = "training images/s"
ORDER = "Axial-ViT-B/16, ViT-B/16, Axial-ViT-B/32, ViT-B/32, AxialResNet50, ResNet50"
NAMES: dict[Scale, tuple[str, ...]] = {
    "smoke": ("ViT-64/4", "ViT-32/4", "R8x0.5"),
    "small": ("ViT-96/4", "ViT-128/8", "R11x0.5"),
    "paper": ("B/16", "B/32", "R50x1"),
}
PAPER_RECIPES = {"B/16": "jft-b16", "B/32": "jft-b32", "R50x1": "jft-r50x1"}
AXIAL_HEADS = 4  # of the small ResNets, whose narrowest map has 32 channels


def axial(scale: Scale) -> Study:
    """Three models, and the same with attention along the axes; all else of their training is the same."""
    plain, target = _plain(scale)
    runs = []
    for name, config in plain.items():
        for kind in ("plain", "axial"):
            run = config if kind == "plain" else replace(config, model=_axial(config.model, scale))
            at = {"model": name, "kind": kind, "compute": float(training_flops(run.model))}
            runs.append(Run(name if kind == "plain" else f"Axial-{name}", run, at))
    return Study(
        name="axial",
        question="Is attention along rows and columns worth its compute?",
        source="Figure 13, appendix D.6",
        scale=scale,
        runs=tuple(runs),
        measures=(target, Reached(SPEED, "images_per_second")),
        finding=finding,
        figures=figures,
        paper="Both axial ViTs are more accurate than their ViT and cost more compute; the axial ResNet is more "
        f"accurate than ResNet50 and very slow. From the best: {ORDER} (5-shot ImageNet; a figure without numbers).",
        remarks=REMARKS[scale],
        seeds=1 if scale == "paper" else 2,
    )


REMARKS: dict[Scale, tuple[str, ...]] = {
    "smoke": ("Scattered digits, seconds of training: what is seen is the machinery, not the paper's question.",),
    "small": ("The rates are those of the plain models.", setups.SMALL_REMARK),
    "paper": ("Trained as the plain models of Table 3; the paper does not say how its axial models were.",),
}


def _plain(scale: Scale) -> tuple[dict[str, Pretrain], FewShot]:
    if scale == "paper":
        return {name: pretraining(recipe) for name, recipe in PAPER_RECIPES.items()}, setups.IMAGENET
    runs, target = setups.small_runs(scale, NAMES[scale])
    return {name: config for name, (_, config) in runs.items()}, target


def _axial(model: ViTConfig | ResNetConfig, scale: Scale) -> ViTConfig | ResNetConfig:
    """The one change: attention along the axes for attention over all, or for 3x3 convolutions."""
    if isinstance(model, ViTConfig):
        return replace(model, axial=True)
    if scale == "paper":
        return replace(variant("Axial-R50x1"), resolution=model.resolution, num_classes=model.num_classes)
    return replace(model, axial_heads=AXIAL_HEADS)


def finding(results: Results) -> str:
    """Each axial model against its own, with what it costs; then the order of all."""
    if not results.complete:
        return unfinished(results)
    measure = middle_shots(results)
    parts = []
    for name in NAMES[results.scale]:
        gap = results.contrast({f"Axial-{name}": 1.0, name: -1.0}, measure)
        assert gap is not None
        compute = _compute(results.row(f"Axial-{name}")) / _compute(results.row(name))
        parts.append(
            f"Axial-{name} is {differs(gap, 'better', 'worse')} than {name} at {compute:.1f} times its compute"
        )
    ordered = sorted(results.rows, key=lambda row: -results.value(row, measure).value)
    order = ", ".join(row.run.name for row in ordered)
    return f"In {measure} accuracy {'; '.join(parts)}. From the best: {order}."


def middle_shots(results: Results) -> str:
    """The measure of accuracy that the finding is about."""
    shots = [name for name in results.measure_names if name != SPEED]
    return shots[len(shots) // 2]


def figures(results: Results) -> Sequence[Figure]:
    """Accuracy over compute and over speed, each model tied to its axial form."""
    drawn: list[Figure] = []
    measure = middle_shots(results)
    for title, label, place in (
        (f"{measure} accuracy over compute", "compute of training an image, in that of the first", _compute),
        (f"{measure} accuracy over speed", SPEED, _speed),
    ):
        rows = [row for row in results.has(measure) if place(row)]
        first = _compute(results.rows[0]) if place is _compute else 1.0
        lines = []
        for name in NAMES[results.scale]:
            found: list[Point] = [
                point(place(row) / first, results.value(row, measure)) for row in rows if row.run.at["model"] == name
            ]
            if found:
                lines.append(Line(f"{name} and Axial-{name}", found))
        if lines:
            drawn.append(Lines(title, label, f"{measure} accuracy", lines, log_x=True))
    return drawn


def _compute(row: Row) -> float:
    return float(row.run.at["compute"])


def _speed(row: Row) -> float:
    return row.mean_of("images_per_second") or 0.0
