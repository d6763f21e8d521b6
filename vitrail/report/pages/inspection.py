"""An inspection: what the patches are compared with, what positions mean, how far and where the model looks."""

from vitrail.core import numbers
from vitrail.findings import inspection as findings
from vitrail.report.blocks import Section, Text
from vitrail.report.folder import Folder, Json, objects, pair
from vitrail.report.page import page
from vitrail.report.sections import attention_distance, attention_maps, nearest_images, painted
from vitrail.report.sections.position_embeddings import filters_part, positions_part


def inspection_page(folder: Folder) -> str:
    """The page of a folder that `vitrail inspect` wrote."""
    content = folder.json("inspection.json") or {}
    model = content.get("model")
    kind = f"Inspection in folder {folder.path.resolve().name}"
    title = f"Inside {model}" if model else "Inside the model"
    figures = section(folder, title="Figures", opening=anatomy(content))
    return page(title, finding(content), [figures], kind=kind, problems=folder.problems)


def finding(content: Json) -> str:
    """The first thing to say: how far the heads look, or what the nearest neighbours are, with its interval."""
    return findings.distance(content) or findings.neighbours(content) or "What the model has learned, seen from inside."


def anatomy(content: Json) -> str:
    """What the model does to an image, in numbers: "Images of 32 × 32 pixels are read as 64 patches ..."."""
    sides, grid, patch = pair(content.get("resolution")), pair(content.get("grid")), content.get("patch")
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
    images = arrays.get("images")
    parts = [
        filters_part(arrays.get("filters"), content),
        positions_part(arrays.get("position_similarity"), pair(content.get("grid")), str(content.get("positions"))),
        attention_distance.part(arrays.get("attention_distance"), content),
        attention_maps.rollout_part(images, arrays.get("rollout"), objects(content.get("images")), content),
        attention_maps.heads_part(arrays.get("head_maps"), images, content),
        painted.part(arrays.get("painted_images"), arrays.get("painted_seen"), arrays.get("painted")),
        nearest_images.part(content, folder.arrays("pictures.npz")),
    ]
    drawn = [part for part in parts if part]
    opening = opening or (anatomy(content) if of_this_run else _which(content))
    return Section(title, anchor, [Text(opening), *drawn]) if drawn else None


def _which(content: Json) -> str:
    return f"The model is {content['model']}. {anatomy(content)}" if content.get("model") else anatomy(content)
