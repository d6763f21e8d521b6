"""The images that an evaluation or a run left out, and why."""

from vitrail.core import numbers
from vitrail.report.blocks import Part, Table, Text
from vitrail.report.folder import Json, objects

LISTED = 50


def broken_images(content: Json) -> Part:
    """The images of `broken` in an evaluation.json, a multilabel.json or a result.json."""
    rows = [(item.get("key", ""), item.get("reason", "")) for item in objects(content.get("broken"))]
    if not rows:
        return Part("Broken images", [])
    many = "image could not be used and was" if len(rows) == 1 else "images could not be used and were"
    more = f"And {numbers.count(len(rows) - LISTED)} more." if len(rows) > LISTED else ""
    table = Table(["image", "reason"], rows[:LISTED], prose=1)
    said = f"{numbers.count(len(rows))} {many} left out."
    return Part("Broken images", [Text(said), table, Text(more, quiet=True)])
