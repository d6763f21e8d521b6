"""An inspection: what the patches are compared with, what positions mean, how far and where the model looks."""

import numpy as np

from vitrail.report import numbers
from vitrail.report.charts import Reference, scatter
from vitrail.report.page import Picture, Section, fragment, page
from vitrail.report.pictures import attention_overlay, filter_tiles, picture, position_tiles
from vitrail.report.reading import Folder, Json, objects

FILTERS = 28  # as in the paper's figure 7, left
COLUMNS = 7
EXAMPLES = 12  # pairs of images under "where it looks"


def inspection_page(folder: Folder) -> str:
    """The page of a folder that `vitrail inspect` wrote."""
    content = folder.json("inspection.json") or {}
    model = content.get("model")
    kind = f"Inspection in folder {folder.path.resolve().name}"
    title = f"Inside {model}" if model else "Inside the model"
    figures = section(folder, title="Figures", opening="What it has learned, seen from inside.")
    return page(title, anatomy(content), [figures], kind=kind, problems=folder.problems)


def anatomy(content: Json) -> str:
    """What the model does to an image, in numbers: "Images of 32 × 32 pixels are read as 64 patches ..."."""
    sides, grid, patch = _pair(content.get("resolution")), _pair(content.get("grid")), content.get("patch")
    said = []
    if sides and grid:
        size = f" of {patch} × {patch} pixels" if numbers.known(patch) else ""
        number = grid[0] * grid[1]
        said.append(
            f"An image of {sides[0]} × {sides[1]} pixels is read as {grid[0]} × {grid[1]} = {number:,} patches{size}."
        )
    if numbers.known(content.get("depth")) and numbers.known(content.get("heads")):
        said.append(f"They pass through {content['depth']} layers of {content['heads']} attention heads each.")
    return " ".join(said) or "What the model has learned, as figures."


def section(
    folder: Folder,
    *,
    title: str = "Inside the model",
    anchor: str = "inspection",
    opening: str = "",
    of_this_run: bool = False,
) -> Section | None:
    """The figures of an inspection, each with a sentence on what it shows here; None where there are none."""
    content = folder.json("inspection.json")
    if content is None:
        return None
    arrays = folder.arrays("arrays.npz")
    parts = {
        "opening": opening or (anatomy(content) if of_this_run else _which(content)),
        **_filters(arrays.get("filters"), content),
        **_positions(arrays.get("position_similarity"), _pair(content.get("grid")), str(content.get("positions"))),
        **_distance(arrays.get("attention_distance"), content),
        "rollout": _rollout(arrays.get("images"), arrays.get("rollout"), objects(content.get("images"))),
    }
    if not any(parts[key] is not None and parts[key] != [] for key in ("filters", "positions", "distance", "rollout")):
        return None
    return Section(title, anchor, fragment("inspection.html.j2", **parts))


def _which(content: Json) -> str:
    return f"The model is {content['model']}. {anatomy(content)}" if content.get("model") else anatomy(content)


def _filters(filters: np.ndarray | None, content: Json) -> dict[str, object]:
    if filters is None or filters.ndim != 4 or not len(filters):
        return {"filters": None, "filters_sentence": ""}
    shown = filters[:FILTERS]
    sheet = filter_tiles(shown, columns=min(COLUMNS, len(shown)))
    scale = max(1, round(64 * min(COLUMNS, len(shown)) / sheet.shape[1]))
    variance = content.get("filters_variance")
    share = sum(variance[: len(shown)]) if isinstance(variance, list) and all(map(numbers.known, variance)) else None
    covers = f" Together they make up {numbers.percent(share, 0)} of what the layer responds to." if share else ""
    said = (
        "The first layer compares each patch with small patterns."
        f" These are the {len(shown)} main ones (principal components)."
    )
    alt = f"{len(shown)} principal components of the patch embedding as small colour patterns."
    return {
        "filters": picture(sheet, alt, width=min(720, sheet.shape[1] * scale)),
        "filters_sentence": said + covers,
    }


def _positions(similarity: np.ndarray | None, grid: tuple[int, int] | None, kind: str) -> dict[str, object]:
    if similarity is None or grid is None or similarity.shape != (grid[0] * grid[1],) * 2:
        return {"positions": None, "positions_sentence": "", "positions_note": ""}
    sheet, stride = position_tiles(similarity, grid)
    scale = max(1, 480 // sheet.shape[1])
    near, far = _near_and_far(similarity, grid)
    said = (
        "One tile for each patch, laid out as in the image. A tile shows how similar the position of its patch"
        f" is to that of every other patch. Neighbours have a similarity of {near:.2f} on average,"
        f" patches at least half an image apart {far:.2f}: "
    )
    said = said.replace("-", "−") + _what_positions_say(near, far, kind)
    alt = f"Position similarity, {grid[0]} by {grid[1]} tiles: neighbours {near:.2f}, far patches {far:.2f} on average."
    return {
        "positions": picture(sheet, alt, width=min(720, sheet.shape[1] * scale)),
        "positions_sentence": said,
        "positions_note": f"Every {stride}th row and column of tiles is shown." if stride > 1 else "",
    }


def _what_positions_say(near: float, far: float, kind: str) -> str:
    """Only positions that were learned from noise are the model's own finding."""
    if kind == "fixed sines and cosines":
        return "the positions are sines and cosines of the place, given and not learned."
    if near <= far + 0.1:
        return "the positions hardly say which patches lie next to each other."
    if kind == "learned from sines and cosines":
        return "the positions started as sines and cosines of the place, so the model was told what lies beside what."
    return "the model has found out by itself which patches lie next to each other."


def _offsets(grid: tuple[int, int]) -> np.ndarray:
    """Distance between any two patches, in patches."""
    places = np.stack(np.meshgrid(np.arange(grid[0]), np.arange(grid[1]), indexing="ij"), axis=-1).reshape(-1, 2)
    distances: np.ndarray = np.sqrt(((places[:, None] - places[None]) ** 2).sum(-1))
    return distances


def _near_and_far(similarity: np.ndarray, grid: tuple[int, int]) -> tuple[float, float]:
    offsets = _offsets(grid)
    near, far = (similarity[part] for part in (offsets == 1, offsets >= max(grid) / 2))
    return float(np.nanmean(near)) if near.size else 0.0, float(np.nanmean(far)) if far.size else 0.0


def _distance(distance: np.ndarray | None, content: Json) -> dict[str, object]:
    if distance is None or distance.ndim != 2 or not distance.size or not np.isfinite(distance).any():
        return {"distance": None, "distance_sentence": "", "distance_note": ""}
    grid, patch = _pair(content.get("grid")), content.get("patch")
    even = float(_offsets(grid).mean() * patch) if grid and numbers.known(patch) and max(grid) <= 64 else None
    first, last = distance[0], distance[-1]
    said = (
        f"Each dot is one attention head. In the first layer the heads look {_span(first)} pixels far,"
        f" in the last {_span(last)}."
    )
    local = even is not None and np.nanmin(first) < 0.5 * even
    if even is not None and local and np.nanmax(first) > 0.8 * even:
        said += " So some heads look only nearby from the start while others already see the whole image."
    elif local and np.nanmean(last) > 1.2 * np.nanmean(first):
        said += " So the first layer looks nearby, and later layers look further."
    points = [(layer + 1.0, float(value)) for layer, heads in enumerate(distance) for value in heads]
    drawing = scatter(
        points,
        title=f"Mean attention distance of each head by layer. {said}",
        x_label="layer",
        y_label="attention distance in pixels",
        mean=[(layer + 1.0, float(np.nanmean(heads))) for layer, heads in enumerate(distance)],
        references=[Reference(even, "attending evenly to all")] if even else [],
    )
    images = content.get("distance_images")
    note = f"Mean over {numbers.count(images)} images. " if numbers.known(images) and images else ""
    return {"distance": drawing, "distance_sentence": said, "distance_note": note.strip()}


def _span(values: np.ndarray) -> str:
    low, high = f"{np.nanmin(values):.1f}", f"{np.nanmax(values):.1f}"
    return low if low == high else f"{low} to {high}"


def _rollout(images: np.ndarray | None, rollout: np.ndarray | None, rows: list[Json]) -> list[tuple[Picture, Picture]]:
    if images is None or rollout is None or images.ndim != 4 or rollout.ndim != 3:
        return []
    pairs = []
    for i, (image, weights) in enumerate(zip(images[:EXAMPLES], rollout, strict=False)):
        row = rows[i] if i < len(rows) else {}
        label, predicted = row.get("label"), row.get("predicted")
        name = f"image {i + 1}" if label is None else str(label)
        caption = "" if label is None else str(label)
        if predicted is not None:
            answer = f"answer {predicted}, {numbers.percent(row.get('confidence'), 0)} sure"
            caption = answer if label is None else f"{label}: {answer}"
        before = picture(image, f"Example of {name}", width=112, caption=caption)
        after = picture(attention_overlay(image, weights), f"The same {name}, lit where the model looks", width=112)
        pairs.append((before, after))
    return pairs


def _pair(value: object) -> tuple[int, int] | None:
    if isinstance(value, list) and len(value) == 2 and all(numbers.known(side) for side in value):
        return int(value[0]), int(value[1])
    return None
