"""The figures of a study, drawn from their data in study.json: lines over an axis, named dots with intervals."""

import math
from typing import Any

from markupsafe import Markup

from vitrail.report import numbers
from vitrail.report.charts import COLOURS, Line, line_chart
from vitrail.report.dots import DotLine, Mark, dot_chart
from vitrail.report.reading import Json, objects

PAPER = "Dashed: the paper's numbers."


def drawings(content: Json) -> list[tuple[str, Markup, str]]:
    """(heading, drawing, note) of each figure; one that cannot be drawn is left out."""
    drawn = []
    for figure in objects(content.get("figures")):
        if figure.get("type") == "Lines":
            made = _lines(figure)
            drawn += [made] if made else []
        elif figure.get("type") == "Dots":
            drawn += _dots(figure)
    return drawn


def _lines(figure: Json) -> tuple[str, Markup, str] | None:
    lines = []
    for place, line in enumerate(objects(figure.get("lines"))):
        points = [p for p in objects(line.get("points")) if numbers.known(p.get("x")) and numbers.known(p.get("y"))]
        if not points:
            continue
        bounded = any(numbers.known(p.get("low")) and numbers.known(p.get("high")) for p in points)
        colour, paper = line.get("colour"), bool(line.get("paper"))
        lines.append(
            Line(
                str(line.get("name") or ""),
                [p["x"] for p in points],
                [p["y"] for p in points],
                [_end(p, "low") for p in points] if bounded else None,
                [_end(p, "high") for p in points] if bounded else None,
                colour=(place if colour is None else int(colour)) % COLOURS,
                dots=bool(line.get("dots", True)),
                joined=bool(line.get("joined", True)),
                dashed=paper,
                names=[str(p.get("name") or "") for p in points],
            )
        )
    if not lines:
        return None
    heading = str(figure.get("title") or "")
    drawing = line_chart(
        lines,
        title=f"{heading}: {'; '.join(_said(line, bool(figure.get('percent', True))) for line in lines)}.",
        x_label=str(figure.get("x_label") or ""),
        y_label=str(figure.get("y_label") or ""),
        percent=bool(figure.get("percent", True)),
        log_x=bool(figure.get("log_x")),
        log_y=bool(figure.get("log_y")),
        x_ticks=[tick for tick in figure.get("x_ticks") or () if numbers.known(tick)],
        height=360,
    )
    notes = [str(figure.get("note") or ""), PAPER if any(line.dashed for line in lines) else ""]
    return heading, drawing, " ".join(filter(None, notes))


def _end(point: Json, key: str) -> float:
    return float(point[key]) if numbers.known(point.get(key)) else math.nan


def _said(line: Line, percent: bool) -> str:
    first, last = (numbers.percent(y) if percent else numbers.plain(y) for y in (line.y[0], line.y[-1]))
    return f"{line.name or 'a line'} from {first} to {last}"


def _dots(figure: Json) -> list[tuple[str, Markup, str]]:
    drawn: list[tuple[str, Markup, str]] = []
    percent = bool(figure.get("percent", True))
    for place, panel in enumerate(objects(figure.get("panels"))):
        dots = [dot for dot in objects(panel.get("dots")) if numbers.known(dot.get("value"))]
        if not dots:
            continue
        rows: list[DotLine] = []
        name = str(panel.get("title") or "")
        for dot in dots:
            bounds = numbers.ends([dot.get("low"), dot.get("high")])
            mark = Mark(name, dot["value"], bounds, colour=place % COLOURS)
            label = str(dot.get("name") or "")
            if dot.get("group"):
                label = f"{dot['group']}, {label}" if label else str(dot["group"])
            rows.append(DotLine(label, (mark,)))
        said = "; ".join(f"{row.name} {_value(row.marks[0].value, percent)}" for row in rows)
        drawing = dot_chart(rows, title=f"{name}: {said}.", x_label=str(figure.get("label") or ""), share=percent)
        heading = str(figure.get("title") or "") if not drawn else ""
        drawn.append((heading, drawing, str(figure.get("note") or "")))
    return drawn


def _value(value: Any, percent: bool) -> str:
    return numbers.percent(value) if percent else numbers.plain(value)
