"""Charts over two axes: lines with labels at their ends, dots, and the reliability diagram of calibration."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from vitrail.core import numbers
from vitrail.core.numbers import Number
from vitrail.report.charts import svg
from vitrail.report.charts.svg import Frame, element, path, text
from vitrail.report.folder import share_interval

COLOURS = 6  # the style sheet has this many, distinct for colour-blind readers


@dataclass(frozen=True)
class Line:
    """One line of a chart; `low` and `high` bound its 95 % interval."""

    name: str  # written at the end of the line; empty for none
    x: Sequence[Number]
    y: Sequence[Number]
    low: Sequence[Number] | None = None
    high: Sequence[Number] | None = None
    colour: int = 0
    faint: bool = False
    dots: bool = False
    dashed: bool = False
    joined: bool = True  # by a line; otherwise dots alone
    names: Sequence[str] = ()  # of the points, beside them


@dataclass(frozen=True)
class Reference:
    """A dashed horizontal line, such as the accuracy of guessing."""

    value: Number
    name: str


def interval_line(name: str, rows: Sequence[dict[str, Any]], x: str, y: str, *, colour: int = 0) -> Line:
    """A share in rows of JSON over a number in them, with the 95 % interval of each row that has one."""
    bounds = [numbers.ends(row.get("interval")) or (math.nan, math.nan) for row in rows]
    low, high = np.clip(np.array(bounds).reshape(-1, 2), 0, 1).T.tolist()
    return Line(name, [row[x] for row in rows], [row[y] for row in rows], low, high, colour=colour, dots=True)


def guessing(classes: object) -> list[Reference]:
    """The accuracy of guessing among so many classes, as a line; none where their number is not known."""
    return [Reference(1 / classes, "guessing")] if numbers.known(classes) and classes > 1 else []  # type: ignore


def ranges(lines: Sequence[Line]) -> str:
    """Where each line starts and ends, in words, of shares."""
    return "; ".join(
        f"{line.name} from {numbers.percent(line.y[0])} to {numbers.percent(line.y[-1])}" for line in lines
    )


def line_chart(
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    y_label: str,
    percent: bool = False,
    log_x: bool = False,
    log_y: bool = False,
    x_ticks: Sequence[Number] = (),
    references: Sequence[Reference] = (),
    height: int = 300,
) -> Markup:
    """Lines over a common x, each labelled at its right end instead of in a legend."""
    xs = [x for one in lines for x in one.x]
    ys = [y for one in lines for y in [*one.y, *(one.low or ()), *(one.high or ())]]
    ys += [reference.value for reference in references]
    y_axis = svg.log_axis(ys, percent=percent) if log_y else svg.linear_axis(ys, percent=percent)

    def draw(width: int) -> Markup:
        x_axis = (
            svg.log_axis(xs, ticks=x_ticks) if log_x else svg.linear_axis(xs, tight=True, count=5 if width > 500 else 3)
        )
        room = max((svg.text_width(one.name, svg.BOLD) for one in lines if one.name), default=0)
        area = svg.frame(x_axis, y_axis, width=width, height=height, right=min(room + 16, 0.36 * width) if room else 14)
        parts = area.parts(x_label, y_label)
        parts += _references(references, area)
        for one in sorted(lines, key=lambda one: not one.faint):
            parts.append(element("g", Markup("").join(_line(one, area)), class_=f"c{one.colour % COLOURS}"))
        parts += _end_labels([one for one in lines if one.name], area, width)
        return svg.svg(parts, width=width, height=height, title=title)

    return svg.both(draw)


def scatter(
    points: Sequence[tuple[Number, Number]],
    *,
    title: str,
    x_label: str,
    y_label: str,
    mean: Sequence[tuple[Number, Number]] = (),
    references: Sequence[Reference] = (),
    height: int = 320,
) -> Markup:
    """A dot for each point, and a thin line through the means where they are given; names stand at the lines' ends."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    y_axis = svg.linear_axis([*ys, 0.0, *(reference.value for reference in references)])

    def draw(width: int) -> Markup:
        # Half a step of room beside the first and the last column of dots.
        whole = sorted(set(xs))
        ticks = whole[:: -(-len(whole) // (12 if width > 500 else 6))] if whole else []
        x_axis = svg.Axis(min(xs, default=0) - 0.5, max(xs, default=1) + 0.5, tuple(ticks))
        ends = [("mean", mean[-1][1], "end")] if mean else []
        ends += [(reference.name, reference.value, "tick") for reference in references]
        room = max((svg.text_width(name) for name, *_ in ends), default=0)
        area = svg.frame(x_axis, y_axis, width=width, height=height, right=room + 12)
        parts = area.parts(x_label, y_label)
        parts += [
            svg.line(area.left, area.y(one.value), area.right, area.y(one.value), "reference") for one in references
        ]
        drawn = [path([(area.x(x), area.y(y)) for x, y in mean], "line thin")] if mean else []
        drawn += [
            element("circle", cx=area.x(x), cy=area.y(y), r=4.5, class_="dot open")
            for x, y in points
            if math.isfinite(x) and math.isfinite(y)
        ]
        places = svg.apart([area.y(value) for _, value, _ in ends], 17, area.top, area.bottom - 4)
        drawn += [text(area.right + 4, place, name, kind) for (name, _, kind), place in zip(ends, places, strict=True)]
        parts.append(element("g", Markup("").join(drawn), class_="c0"))
        return svg.svg(parts, width=width, height=height, title=title)

    return svg.both(draw)


def reliability(
    bins: Sequence[dict[str, Any]],
    *,
    title: str,
    other: Sequence[dict[str, Any]] = (),
    names: tuple[str, str] = ("", ""),
) -> Markup:
    """How often the model was right against how sure it was; the larger a dot, the more images it stands for.

    `other` are the bins of the same answers with other confidences; `names` says which are which.
    """
    series = [_full(bins), _full(other)]
    most = max((count for rows in series for *_, count in rows), default=1)
    share = svg.Axis(0, 1, (0, 0.2, 0.4, 0.6, 0.8, 1), percent=True)

    def draw(width: int) -> Markup:
        side = min(width, 420)
        area = svg.frame(share, share, width=side, height=side, right=24)
        parts = area.parts("confidence of the answer", "share of right answers")
        parts.append(svg.line(area.x(0), area.y(0), area.x(1), area.y(1), "reference"))
        parts.append(text(area.x(0.04), area.y(0.95), "less sure than right", "tick"))
        parts.append(text(area.x(0.98), area.y(0.05), "surer than right", "tick", anchor="end"))
        for i, rows in enumerate(series):
            drawn = []
            for confidence, accuracy, count in rows:
                bounds = share_interval(accuracy, count)
                if bounds:
                    x = area.x(confidence)
                    drawn.append(svg.line(x, area.y(bounds[0]), x, area.y(bounds[1]), "whisker"))
            points = [(area.x(confidence), area.y(accuracy)) for confidence, accuracy, _ in rows]
            drawn.append(path(points, "line thin"))
            for confidence, accuracy, count in rows:
                said = (
                    f"{count:,.0f} images: confidence {numbers.percent(confidence)}, right {numbers.percent(accuracy)}"
                )
                radius = 3 + 6 * math.sqrt(count / most)
                dot = {
                    "cx": area.x(confidence),
                    "cy": area.y(accuracy),
                    "r": radius,
                    "class_": "dot open" if i else "dot",
                }
                drawn.append(element("circle", element("title", said), **dot))
            if rows and names[i]:
                drawn.append(text(area.x(0.04), area.y(0.88 - 0.055 * i), names[i], "end halo"))
            parts.append(element("g", Markup("").join(drawn), class_=f"c{i}"))
        return svg.svg(parts, width=side, height=side, title=title)

    return svg.both(draw)


def _full(bins: Sequence[dict[str, Any]]) -> list[tuple[float, float, int]]:
    """Confidence, accuracy and count of the bins that hold images."""
    return [
        (bin_["confidence"], bin_["accuracy"], bin_["count"])
        for bin_ in bins
        if bin_.get("count") and numbers.known(bin_.get("confidence")) and numbers.known(bin_.get("accuracy"))
    ]


def _line(one: Line, area: Frame) -> list[Markup]:
    points = [(area.x(x), area.y(y)) for x, y in zip(one.x, one.y, strict=True)]
    drawn = []
    if one.low is not None and one.high is not None:
        above = [(area.x(x), area.y(y)) for x, y in zip(one.x, one.high, strict=True) if math.isfinite(y)]
        below = [(area.x(x), area.y(y)) for x, y in zip(one.x, one.low, strict=True) if math.isfinite(y)]
        if len(above) > 1 and one.joined:
            drawn.append(path([*above, *reversed(below)], "band", closed=True))
        if one.dots:
            drawn += [svg.line(x, low, x, high, "whisker") for (x, low), (_, high) in zip(below, above, strict=True)]
    if one.joined:
        drawn.append(path(points, "line" + " faint" * one.faint + " dashed" * one.dashed))
    if one.dots or len(points) == 1:
        drawn += [
            element("circle", cx=x, cy=y, r=3.5, class_="dot")
            for x, y in points
            if math.isfinite(x) and math.isfinite(y)
        ]
    for (x, y), name in zip(points, one.names, strict=False):
        if name and math.isfinite(y):
            drawn.append(text(x + 7, y - 10, name, "tick halo"))
    return drawn


def _references(references: Sequence[Reference], area: Frame) -> list[Markup]:
    drawn = []
    for reference in references:
        y = area.y(reference.value)
        drawn.append(svg.line(area.left, y, area.right, y, "reference"))
        drawn.append(text(area.right, y - 9, reference.name, "tick halo", anchor="end"))
    return drawn


def _end_labels(lines: Sequence[Line], area: Frame, width: int) -> list[Markup]:
    ends = []
    for one in lines:
        finite = [(x, y) for x, y in zip(one.x, one.y, strict=True) if math.isfinite(x) and math.isfinite(y)]
        if finite:
            ends.append((one, area.y(finite[-1][1])))
    places = svg.apart([y for _, y in ends], 17, area.top, area.bottom - 4)
    return [
        text(
            area.right + 8,
            place,
            svg.fitted(one.name, width - area.right - 8, svg.BOLD),
            f"end c{one.colour % COLOURS}",
        )
        for (one, _), place in zip(ends, places, strict=True)
    ]
