"""What a model knows about places (figures 7 centre and 10): the similarity of its position embeddings."""

import math

import numpy as np

from vitrail.core import numbers
from vitrail.findings import inspection
from vitrail.report.blocks import Chart, Images, Part, Text, Tile
from vitrail.report.charts.images import filter_tiles, picture, position_tiles, sheet_chart
from vitrail.report.folder import Json


def positions_part(similarity: np.ndarray | None, grid: tuple[int, int] | None, kind: str) -> Part | None:
    """The figure and its sentence, of `position_similarity` in arrays.npz; None where there is none."""
    if similarity is None or grid is None or similarity.shape != (grid[0] * grid[1],) * 2:
        return None
    low = _low(similarity)
    sheet, stride = position_tiles(similarity, grid, low)
    near, far = _near_and_far(similarity, grid)
    said = (
        "One tile for each patch, laid out as in the image. A tile shows how similar the position of its patch"
        f" is to that of every other patch. Neighbours have a similarity of {near:.2f} on average,"
        f" patches at least half an image apart {far:.2f}: "
    )
    said = said.replace("-", "−") + inspection.positions(near, far, kind)
    alt = f"Position similarity, {grid[0]} by {grid[1]} tiles: neighbours {near:.2f}, far patches {far:.2f} on average."
    drawing = sheet_chart(
        sheet,
        [str(i + 1) for i in range(0, grid[0], stride)],
        [str(i + 1) for i in range(0, grid[1], stride)],
        row_name="row of the patch",
        column_name="column of the patch",
        title=alt,
        widest=560,
    )
    note = f"Every {_ordinal(stride)} row and column of tiles is shown." if stride > 1 else ""
    scale = (f"{low:.4g}".replace("-", "−"), "1", "cosine similarity")
    return Part("What it knows about places", [Text(said), Chart(drawing, note, scale)])


def offsets(grid: tuple[int, int]) -> np.ndarray:
    """Distance between any two patches, in patches."""
    places = np.stack(np.meshgrid(np.arange(grid[0]), np.arange(grid[1]), indexing="ij"), axis=-1).reshape(-1, 2)
    distances: np.ndarray = np.sqrt(((places[:, None] - places[None]) ** 2).sum(-1))
    return distances


def _near_and_far(similarity: np.ndarray, grid: tuple[int, int]) -> tuple[float, float]:
    apart = offsets(grid)
    near, far = (similarity[part] for part in (apart == 1, apart >= max(grid) / 2))
    return float(np.nanmean(near)) if near.size else 0.0, float(np.nanmean(far)) if far.size else 0.0


def _low(similarity: np.ndarray) -> float:
    """Where the colours start: at -1, as in the paper, or where all are alike at the least of them, in tenths."""
    least = math.floor(10 * float(np.nanmin(similarity))) / 10 if np.isfinite(similarity).any() else -1.0
    return min(least, 0.9) if least > 0 else -1.0


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")


FILTERS = 28  # as in the paper's figure
COLUMNS = 7


def filters_part(found: np.ndarray | None, content: Json) -> Part | None:
    """The figure and its sentence, of the `filters` in arrays.npz; None where there are none."""
    if found is None or found.ndim != 4 or not len(found) or found.shape[3] not in (1, 3):
        return None  # of two or four channels there is no picture
    shown = np.broadcast_to(found[:FILTERS], (*found[:FILTERS].shape[:3], 3))  # of grey images: grey
    columns = min(COLUMNS, len(shown))
    sheet = filter_tiles(shown, columns=columns)
    scale = max(1, round(64 * columns / sheet.shape[1]))
    variance = content.get("filters_variance")
    share = sum(variance[: len(shown)]) if isinstance(variance, list) and all(map(numbers.known, variance)) else None
    covers = f" Together they make up {numbers.percent(share, 0)} of what the layer responds to." if share else ""
    said = (
        "The first layer compares each patch with small patterns."
        f" These are the {len(shown)} main ones (principal components)."
    )
    alt = f"{len(shown)} principal components of the patch embedding as small colour patterns."
    drawn = picture(sheet, alt, width=min(720, sheet.shape[1] * scale))
    return Part("What it looks for in a patch", [Text(said + covers), Images([[Tile([drawn])]])])
