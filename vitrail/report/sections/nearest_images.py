"""Which images a model takes to be alike: the nearest neighbours of each in its features."""

from pathlib import PurePath

import numpy as np

from vitrail.core import numbers
from vitrail.findings import inspection
from vitrail.report.blocks import Images, Part, Picture, Text, Tile
from vitrail.report.charts.images import photograph
from vitrail.report.folder import Json, objects

WIDTH = 84  # CSS pixels of a picture
ROWS = 16


NOTE = (
    "Left an image, then those that are nearest to it, the nearest first, with the cosine similarity of what the "
    "classifier reads."
)
LINES = " A solid line marks the same class, a dashed one another."


def part(content: Json, pictures: dict[str, np.ndarray]) -> Part | None:
    """The figure and its sentence, of "neighbours" in inspection.json and pictures.npz; None where there are none."""
    found = content.get("neighbours")
    if not isinstance(found, dict):
        return None
    comparable = numbers.known(found.get("same"))
    rows = [_row(row, pictures, comparable) for row in objects(found.get("rows"))[:ROWS]]
    drawn = Images([row for row in rows if row], NOTE + LINES * comparable, "neighbours")
    return Part("What it takes to be alike", [Text(inspection.neighbours(content)), drawn]) if drawn else None


def _row(row: Json, pictures: dict[str, np.ndarray], comparable: bool) -> list[Tile]:
    """The image and those nearest to it; empty where its picture is missing."""
    query = _picture(row, pictures)
    if query is None:
        return []
    tiles = [Tile([query], _name(row))]
    for other in objects(row.get("nearest")):
        drawn = _picture(other, pictures)
        if drawn is not None:
            caption = f"{_name(other)} {numbers.plain(other.get('similarity'), 2)}"
            same = other.get("label") == row.get("label")
            tiles.append(Tile([drawn], caption, ("same" if same else "other") if comparable else ""))
    return tiles


def _picture(row: Json, pictures: dict[str, np.ndarray]) -> Picture | None:
    pixels = pictures.get(str(row.get("picture")))
    if pixels is None or pixels.ndim != 3:
        return None
    return photograph(pixels, _name(row), width=WIDTH)


def _name(row: Json) -> str:
    """Its class, or its file's name where there are no classes."""
    return str(row.get("label") or PurePath(str(row.get("key"))).stem)
