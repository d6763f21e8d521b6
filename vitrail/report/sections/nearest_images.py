"""Which images a model takes to be alike: the nearest neighbours of each in its features."""

from dataclasses import dataclass

import numpy as np

from vitrail.core import numbers
from vitrail.report.charts.images import photograph
from vitrail.report.folder import Json, objects
from vitrail.report.page import Picture

WIDTH = 84  # CSS pixels of a picture
ROWS = 16


@dataclass(frozen=True)
class Neighbour:
    picture: Picture
    caption: str
    same: bool | None  # of the query's class; None where the classes cannot be compared


@dataclass(frozen=True)
class Row:
    """An image and its neighbours, the nearest first."""

    query: Picture
    caption: str
    nearest: list[Neighbour]


def similar(content: Json, pictures: dict[str, np.ndarray]) -> dict[str, object]:
    """The figure and its sentence, of "neighbours" in inspection.json and pictures.npz; empty where there are none."""
    found = content.get("neighbours")
    if not isinstance(found, dict):
        return {"neighbours": [], "neighbours_sentence": ""}
    comparable = numbers.known(found.get("same"))
    rows = [_row(row, pictures, comparable) for row in objects(found.get("rows"))[:ROWS]]
    return {"neighbours": [row for row in rows if row is not None], "neighbours_sentence": finding(content)}


def finding(content: Json) -> str:
    """ "For 71 % of 128 images (63–78 %; by chance 10 %) the nearest of 5,000 images has the same class."."""
    found = content.get("neighbours")
    if not isinstance(found, dict):
        return ""
    among = f"of {numbers.count(found.get('count'))} images of {found.get('data')}"
    if not numbers.known(found.get("same")):
        return f"The nearest {among}, which has other classes."
    within = f"{numbers.interval(found.get('interval'))}; by chance {numbers.percent(found.get('chance'), 0)}"
    return (
        f"For {numbers.percent(found['same'], 0)} of {numbers.count(found.get('queries'))} images ({within})"
        f" the nearest {among} is of the same class."
    )


def _row(row: Json, pictures: dict[str, np.ndarray], comparable: bool) -> Row | None:
    query = _picture(row, pictures)
    if query is None:
        return None
    nearest = []
    for other in objects(row.get("nearest")):
        drawn = _picture(other, pictures)
        if drawn is not None:
            caption = f"{other.get('label')} {numbers.plain(other.get('similarity'), 2)}"
            nearest.append(Neighbour(drawn, caption, other.get("label") == row.get("label") if comparable else None))
    return Row(query, str(row.get("label")), nearest)


def _picture(row: Json, pictures: dict[str, np.ndarray]) -> Picture | None:
    pixels = pictures.get(str(row.get("picture")))
    if pixels is None or pixels.ndim != 3:
        return None
    return photograph(pixels, str(row.get("label")), width=WIDTH)
