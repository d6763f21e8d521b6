"""How far the heads look (figures 7 right and 11): mean attention distance by head and depth."""

import numpy as np

from vitrail.core import numbers
from vitrail.findings import inspection
from vitrail.report.blocks import Chart, Part, Text
from vitrail.report.charts.lines import Reference, scatter
from vitrail.report.folder import Json, pair
from vitrail.report.sections.position_embeddings import offsets


def part(found: np.ndarray | None, content: Json) -> Part | None:
    """The figure and its sentences, of `attention_distance` in arrays.npz; None where there is none."""
    if found is None or found.ndim != 2 or not found.size or not np.isfinite(found).any():
        return None
    even = _even(content)
    first, last = found[0], found[-1]
    said = (
        f"Each dot is one attention head. In the first layer the heads look {_span(first)} pixels far,"
        f" in the last {_span(last)}."
    )
    local = even is not None and np.nanmin(first) < 0.5 * even
    if even is not None and local and np.nanmax(first) > 0.8 * even:
        said += " So some heads look only nearby from the start while others already see the whole image."
    elif local and np.nanmean(last) > 1.2 * np.nanmean(first):
        said += " So the first layer looks nearby, and later layers look further."
    thirds = inspection.distance(content)
    points = [(layer + 1.0, float(value)) for layer, heads in enumerate(found) for value in heads]
    drawing = scatter(
        points,
        title=f"Mean attention distance of each head by layer. {said}",
        x_label="layer",
        y_label="attention distance in pixels",
        mean=[(layer + 1.0, float(np.nanmean(heads))) for layer, heads in enumerate(found)],
        references=[Reference(even, "even")] if even else [],
    )
    images = content.get("distance_images")
    note = f"Mean over {numbers.count(images)} images." if numbers.known(images) and images else ""
    if even:
        note += " Dashed: a head whose patches attend evenly to all."
    return Part("How far it looks", [Text(f"{thirds} {said}".strip()), Chart(drawing, note.strip())])


def _even(content: Json) -> float | None:
    measured = content.get("distance")
    if isinstance(measured, dict) and numbers.known(measured.get("even")):
        return float(measured["even"])
    grid, patch = pair(content.get("grid")), content.get("patch")
    known = grid is not None and numbers.known(patch) and max(grid) <= 64
    return float(offsets(grid).mean() * patch) if known else None  # type: ignore[arg-type]


def _span(values: np.ndarray) -> str:
    low, high = f"{np.nanmin(values):.1f}", f"{np.nanmax(values):.1f}"
    return low if low == high else f"{low} to {high}"
