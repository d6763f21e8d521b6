"""Test images that are also in the training data, and the accuracy without them."""

from typing import Any

import numpy as np

from vitrail.core import numbers
from vitrail.report.charts.images import picture
from vitrail.report.folder import Json, objects, texts
from vitrail.report.page import Picture, Section, fragment


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
    """Of `copies` in an evaluation.json; None where it was not looked."""
    found = content.get("copies")
    if not isinstance(found, dict):
        return None
    train = " and ".join(texts(found.get("train")))
    compared = numbers.count(found.get("compared"))
    if not found.get("copies"):
        sentences = [f"None of the test images has a near-duplicate among the {compared} images of {train}."]
        return Section("Copies in the training data", "copies", _body(sentences, [], []))
    sentences = [
        f"{numbers.count(found['copies'])} of {numbers.count(content.get('count'))} test images "
        f"({numbers.percent(found.get('share'))}) have a near-duplicate among the {compared} images of {train}.",
    ]
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
        (
            "the copies alone",
            numbers.count(found["copies"]),
            numbers.percent(found.get("accuracy_of_copies")),
            "",
        ),
    ]
    drawn = [_pair(pair, pictures) for pair in objects(found.get("pairs")) if pair.get("pictures")]
    return Section("Copies in the training data", "copies", _body(sentences, rows, [one for one in drawn if one[0]]))


def _body(sentences: list[str], rows: list[tuple[str, ...]], pairs: list[tuple[list[Picture], str]]) -> Any:
    return fragment(
        "doctor.html.j2",
        sentences=sentences,
        tables=[(["test images", "#images", "#accuracy", "95 % interval"], rows, None)],
        pairs=pairs,
        drawing=None,
        more="Left the test image, right the training image; the least similar pairs first." if pairs else "",
    )


def _pair(pair: Json, pictures: dict[str, np.ndarray]) -> tuple[list[Picture], str]:
    ends = [pair.get("test"), pair.get("train")]
    held = zip(ends, pair.get("pictures") or [], strict=False)
    shown = [
        picture(pictures[str(number)], str(end.get("key")), width=96)
        for end, number in held
        if isinstance(end, dict) and str(number) in pictures
    ]
    labels = [str(end.get("label")) for end in ends if isinstance(end, dict)]
    named = labels[0] if len(set(labels)) == 1 else " and ".join(labels)
    alike = "the same pixels" if pair.get("kind") == "exact" else f"{numbers.plain(pair.get('similarity'), 2)} alike"
    return shown, f"{named}; {alike}"
