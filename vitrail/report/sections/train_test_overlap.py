"""Test images that are also in the training data, and the accuracy without them."""

import numpy as np

from vitrail.core import numbers
from vitrail.report.blocks import Images, Section, Table, Text, Tile
from vitrail.report.charts.images import fitted
from vitrail.report.folder import Json, objects, texts

WIDTH = 104  # CSS pixels of the longer side of a picture


def headline(content: Json) -> str:
    """A warning for the top of the page; empty where there are no copies."""
    found = content.get("copies")
    if not isinstance(found, dict) or not found.get("copies"):
        return ""
    if not found.get("count"):
        return "Every one of these images has a near-duplicate in the training data: this says nothing of new images."
    return (
        f"{numbers.count(found['copies'])} of them have a near-duplicate in the training data; without these it is "
        f"{numbers.percent(found.get('accuracy'))}."
    )


def section(content: Json, pictures: dict[str, np.ndarray]) -> Section | None:
    """Draw `copies` of an evaluation.json; None where copies were not looked for."""
    found = content.get("copies")
    if not isinstance(found, dict):
        return None
    train = " and ".join(texts(found.get("train")))
    compared = numbers.count(found.get("compared"))
    if not found.get("copies"):
        said = f"None of the test images has a near-duplicate among the {compared} images of {train}."
        return Section("Copies in the training data", "copies", [Text(said)])
    said = (
        f"{numbers.count(found['copies'])} of {numbers.count(content.get('count'))} test images "
        f"({numbers.percent(found.get('share'))}) have a near-duplicate among the {compared} images of {train}."
    )
    rows: list[tuple[str, ...]] = [
        (
            "all",
            numbers.count(content.get("count")),
            numbers.percent(content.get("accuracy")),
            numbers.interval(content.get("interval")),
        ),
        (
            "without the copies",
            numbers.count(found.get("count")),
            numbers.percent(found.get("accuracy")),
            numbers.interval(found.get("interval")),
        ),
        ("the copies alone", numbers.count(found["copies"]), numbers.percent(found.get("accuracy_of_copies")), ""),
    ]
    listed = [pair for pair in objects(found.get("pairs")) if pair.get("pictures")]
    pairs = [pair_tile(pair, ("test", "train"), pictures) for pair in listed]
    note = "Left the test image, right the training image; the least similar pairs first."
    blocks = [Text(said), Images([pairs], note), Table(["test images", "#images", "#accuracy", "95 % interval"], rows)]
    return Section("Copies in the training data", "copies", blocks)


def pair_tile(pair: Json, names: tuple[str, str], pictures: dict[str, np.ndarray]) -> Tile:
    """Two images that are copies, side by side, with their classes and how alike they are; `names` are their keys."""
    ends = [end for end in map(pair.get, names) if isinstance(end, dict)]
    held = zip(ends, pair.get("pictures") or [], strict=False)
    shown = [fitted(pictures[str(n)], str(end.get("key")), WIDTH) for end, n in held if str(n) in pictures]
    labels = dict.fromkeys(str(end.get("label")) for end in ends)
    alike = f"{numbers.plain(pair.get('similarity'), 2)} alike"
    alike += " to the model" if pair.get("kind") == "features" else ""
    alike += ", mirrored" if pair.get("mirrored") else ""
    return Tile(shown, f"{' and '.join(labels)}; {'the same pixels' if pair.get('kind') == 'exact' else alike}")
