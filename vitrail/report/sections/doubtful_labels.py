"""Training labels that are doubted most, with their pictures: to be looked at, and mended where they are wrong."""

from vitrail.core import numbers
from vitrail.report.blocks import Images, Section, Text, Tile
from vitrail.report.charts.images import picture
from vitrail.report.folder import Folder, Json, objects


def section(folder: Folder) -> Section | None:
    """Of doubtful.json; None where there is none, or nothing in it."""
    content = folder.json("doubtful.json")
    rows = objects(content.get("rows")) if content else []
    if content is None or not rows:
        return None
    pictures = folder.arrays("doubtful.npz")
    tiles = []
    for row in rows:
        image = pictures.get(str(row.get("picture")))
        if image is not None:
            alt = f"{row.get('key', 'image')}: {_said(row)}"
            tiles.append(Tile([picture(image, alt, width=104)], f"{_said(row)} ({row.get('key')})"))
    count, judged = content.get("count"), content.get("judged")
    said = (
        f"The features of the other images contradict the labels of {numbers.count(count)} of the "
        f"{numbers.count(judged)} training images that were held out. These are the most doubtful: look at them, and "
        "mend the labels that are wrong. vitrail data check --model MODEL does so for all images."
    )
    return Section("Doubtful labels", "doubtful", [Text(said), Images([tiles])])


def _said(row: Json) -> str:
    return f"labelled {row.get('label')}, rather {row.get('rather')} ({numbers.percent(row.get('rather_probability'))})"
