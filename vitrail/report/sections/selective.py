"""Accuracy against the share of images that are answered, and the confidences that promise a certain accuracy."""

from typing import Any

from vitrail.core import numbers
from vitrail.report.blocks import Chart, Section, Table, Text, paragraphs
from vitrail.report.charts.lines import Line, line_chart
from vitrail.report.folder import Json, objects

HEAD = ("wanted accuracy", "#answer from confidence", "#answered", "#accuracy there", "95 % interval")


def section(content: Any) -> Section | None:
    """Draw `abstention` of an evaluation.json; None where it has none."""
    curve = [row for row in objects(content.get("curve")) if _usable(row)] if isinstance(content, dict) else []
    if len(curve) < 2:
        return None
    drawing = line_chart(
        [
            Line(
                "",
                [100 * row["share"] for row in curve],
                [row["accuracy"] for row in curve],
                [row["interval"][0] for row in curve],
                [row["interval"][1] for row in curve],
            )
        ],
        title=f"Accuracy against the share of images that are answered. {_finding(curve)}",
        x_label="per cent of the images that are answered, the surest first",
        y_label="accuracy of these answers",
        percent=True,
    )
    blocks = [
        *paragraphs([_finding(curve), *_areas(content)]),
        Chart(drawing, "The band is the 95 % interval at each share."),
        Table(HEAD, [_row(row) for row in objects(content.get("answered"))]),
        Text(_after(content), quiet=True),
    ]
    return Section("If it may abstain", "abstention", blocks)


def _usable(row: Json) -> bool:
    return (
        numbers.known(row.get("share"))
        and numbers.known(row.get("accuracy"))
        and numbers.ends(row.get("interval")) is not None
    )


def _finding(curve: list[Json]) -> str:
    half = min(curve, key=lambda row: abs(row["share"] - 0.5))
    low, high = half["interval"]
    return (
        f"If it answers only the {numbers.percent(half['share'], 0)} of the images of which it is surest, it is right "
        f"{numbers.percent(half['accuracy'])} of the time (95 % interval {numbers.interval([low, high])}), against "
        f"{numbers.percent(curve[-1]['accuracy'])} if it answers all."
    )


def _areas(content: Json) -> list[str]:
    area, ideal = content.get("area"), content.get("ideal")
    if not numbers.known(area) or not numbers.known(ideal):
        return []
    return [
        f"The mean accuracy over all shares is {numbers.percent(area)}; a model that knew which of its answers are "
        f"wrong would have {numbers.percent(ideal)}."
    ]


def _row(row: Json) -> tuple[str, ...]:
    confidence = row.get("confidence")
    return (
        numbers.percent(row.get("target"), 0),
        numbers.plain(confidence) if numbers.known(confidence) else "none is enough",
        numbers.percent(row.get("share")),
        numbers.percent(row.get("accuracy")),
        numbers.interval(row.get("interval")),
    )


def _after(content: Json) -> str:
    if content.get("chosen_elsewhere"):
        return "The confidences were chosen on the images of the calibration; what they give was measured on these."
    return (
        "The confidences were chosen on these very images, so that they promise a little too much; with validation "
        "data (--calibrate-on) they are chosen on those and tried here."
    )
