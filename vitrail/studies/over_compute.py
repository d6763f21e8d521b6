"""Families of runs over the compute that they took: their places, the laws through these, the picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vitrail.core.estimate import Estimate
from vitrail.core.figures import Line, Lines, Point
from vitrail.evals.paired import mean_of
from vitrail.models.cost import multiply_adds
from vitrail.studies.engine.floor import laws_alike
from vitrail.studies.engine.power_law import PowerLaw
from vitrail.studies.engine.results import Results, Row
from vitrail.studies.table6 import FAMILIES

UNITS = (("exaFLOPs", 1e18), ("petaFLOPs", 1e15), ("teraFLOPs", 1e12))
CURVE = 40  # places at which a fitted law is drawn
LETTER = 0.016  # of the width of the picture that a letter of a name takes


@dataclass(frozen=True)
class Place:
    """A run: FLOPs of its pre-training, its accuracy, its name, and the images that it saw."""

    compute: float
    accuracy: Estimate
    name: str
    images: float

    @property
    def error(self) -> float:
        """A share."""
        return 1 - self.accuracy.value


Places = Sequence[Place]  # of a family, from little compute to much


def frontier(some: Places) -> Places:
    """Those that no run of less compute reaches: what compute buys at best."""
    return [place for i, place in enumerate(some) if all(place.error < cheaper.error for cheaper in some[:i])]


def laws_of(families: Mapping[str, Places]) -> dict[str, PowerLaw]:
    """Error over compute of each family that has enough runs."""
    return laws_alike(
        {name: ([place.compute for place in some], [place.error for place in some]) for name, some in families.items()}
    )


def places(results: Results, measure: str) -> dict[str, Places]:
    """The finished runs by family. `measure`: a name, or "average" over all."""
    names = results.measure_names if measure == "average" else [measure]
    families: dict[str, list[Place]] = {family: [] for family in FAMILIES}
    for row in results.rows:
        if all(row.values.get(name) for name in names):
            accuracy = mean_of([results.value(row, name) for name in names])
            images = float(row.run.config.steps * row.run.config.batch)
            families[str(row.run.at["family"])].append(Place(_compute(row), accuracy, row.run.name, images))
    return {family: sorted(some, key=lambda place: place.compute) for family, some in families.items() if some}


def _compute(row: Row) -> float:
    """FLOPs of the run as Table 6 counts them."""
    model: Any = row.run.config.model
    done = row.mean_of("total_flops")
    if done is None:
        return 6.0 * multiply_adds(model, padding=False) * row.run.config.steps * row.run.config.batch
    return done * multiply_adds(model, padding=False) / multiply_adds(model)


def amount(flops: float) -> str:
    """ "30 teraFLOPs"."""
    unit, one = unit_of(flops)
    return f"{flops / one:.2g} {unit}"


def unit_of(flops: float) -> tuple[str, float]:
    return next(unit for unit in UNITS if flops >= unit[1] or unit is UNITS[-1])


def over_compute(
    title: str,
    unit: str,
    label: str,
    points: Mapping[str, Sequence[Point]],
    laws: Mapping[str, PowerLaw],
    scale: float,
    *,
    note: str = "fitted to the points of a family.",
) -> Lines:
    """The picture. `points`: of each family, in `unit`, of `scale` FLOPs each; `note`: what the laws go through."""
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
    floored = any(law.floor is not None for law in laws.values())
    note = f"Curves: error = {'floor + ' if floored else ''}a · compute^b, {note}"
    return Lines(title, f"compute of pre-training, {unit}", label, lines, log_x=True, note=note)


def _named_apart(points: Mapping[str, Sequence[Point]]) -> dict[str, list[Point]]:
    """Without the names for which there is no room: near the right end, where families have theirs, and near others."""
    everything = sorted((p for some in points.values() for p in some), key=lambda p: p.x)
    span_x = np.log(everything[-1].x / everything[0].x) or 1.0
    heights = [p.y for p in everything]
    span_y = (max(heights) - min(heights)) or 1.0
    labelled: list[Point] = []

    def reaches(p: Point, other: Point, below: float) -> bool:
        """Whether the name at p, right of it and a little above, lies over a point right of it."""
        height = (other.y - p.y) / span_y
        return bool(np.log(other.x / p.x) / span_x < LETTER * len(p.name) + 0.03 and -below < height < 0.07)

    for p in everything:
        room = np.log(everything[-1].x / p.x) / span_x > LETTER * len(p.name)
        free = not any(reaches(p, other, 0.01) for other in everything if other.x > p.x)
        if p.name and room and free and not any(reaches(other, p, 0.07) for other in labelled):
            labelled.append(p)
    return {family: [p if p in labelled else replace(p, name="") for p in some] for family, some in points.items()}
