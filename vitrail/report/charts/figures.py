"""The figures that a study computed (core/figures.py), drawn."""

import math
from collections.abc import Sequence

from vitrail.core import numbers
from vitrail.core.config import from_json
from vitrail.core.errors import BadInput
from vitrail.core.figures import Dots, Figure, Lines
from vitrail.core.numbers import Number
from vitrail.report.blocks import Block, Chart, Part
from vitrail.report.charts.intervals import DotLine, Mark, dot_chart
from vitrail.report.charts.lines import COLOURS, Line, line_chart

PAPER = "Dashed: the paper's numbers."


def read_figures(written: object) -> tuple[list[Figure], int]:
    """The figures in a JSON list, and how many of it are none that this version knows."""
    read: list[Figure] = []
    listed = written if isinstance(written, list) else []
    for value in listed:
        try:
            read.append(from_json(Figure, value, "figure"))
        except BadInput:
            continue
    return read, len(listed) - len(read)


def figure_blocks(figure: Figure) -> list[Block]:
    """The charts of a figure under its title; empty where it holds no value."""
    charts = [_lines(figure)] if isinstance(figure, Lines) else _dots(figure)
    drawn: list[Block] = [chart for chart in charts if chart]
    return [Part(figure.title, drawn[:1]), *drawn[1:]] if drawn and figure.title else drawn


def _lines(figure: Lines) -> Chart:
    lines = []
    for place, one in enumerate(figure.lines):
        points = [point for point in one.points if numbers.known(point.x) and numbers.known(point.y)]
        if points:
            bounded = any(point.low is not None and point.high is not None for point in points)
            lines.append(
                Line(
                    one.name,
                    [point.x for point in points],
                    [point.y for point in points],
                    _ends([point.low for point in points]) if bounded else None,
                    _ends([point.high for point in points]) if bounded else None,
                    colour=(place if one.colour is None else one.colour) % COLOURS,
                    dots=one.dots,
                    joined=one.joined,
                    dashed=one.paper,
                    names=[point.name for point in points],
                )
            )
    if not lines:
        return Chart(None)
    said = "; ".join(
        f"{line.name or 'a line'} from {_said(line.y[0], figure)} to {_said(line.y[-1], figure)}" for line in lines
    )
    drawing = line_chart(
        lines,
        title=f"{figure.title}: {said}.",
        x_label=figure.x_label,
        y_label=figure.y_label,
        percent=figure.percent,
        log_x=figure.log_x,
        log_y=figure.log_y,
        x_ticks=figure.x_ticks,
        height=360,
    )
    paper = PAPER if any(line.dashed for line in lines) else ""
    return Chart(drawing, f"{figure.note} {paper}".strip())


def _dots(figure: Dots) -> list[Chart]:
    charts = []
    for place, panel in enumerate(figure.panels):
        rows = [
            DotLine(
                ", ".join(filter(None, [dot.group, dot.name])),
                (Mark(panel.title, dot.value, numbers.ends([dot.low, dot.high]), colour=place % COLOURS),),
            )
            for dot in panel.dots
            if numbers.known(dot.value)
        ]
        if rows:
            said = "; ".join(f"{row.name} {_said(row.marks[0].value, figure)}" for row in rows)
            drawing = dot_chart(rows, title=f"{panel.title}: {said}.", x_label=figure.label, share=figure.percent)
            charts.append(Chart(drawing, figure.note))
    return charts


def _ends(values: Sequence[Number | None]) -> list[Number]:
    return [math.nan if value is None else value for value in values]


def _said(value: Number, figure: Figure) -> str:
    return numbers.percent(value) if figure.percent else numbers.plain(value)
