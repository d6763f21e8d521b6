"""Dots with their intervals, a line a task, in groups: one model, another beside it, and what was published."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from vitrail.report import axes
from vitrail.report.axes import element, text
from vitrail.report.numbers import Number


@dataclass(frozen=True)
class Mark:
    """A value on a line; without bounds it has no whisker."""

    name: str
    value: Number
    bounds: tuple[float, float] | None = None
    colour: int = 0
    small: bool = False  # a tick instead of a dot: what others published


@dataclass(frozen=True)
class DotLine:
    """A line of the chart; a heading has no marks."""

    name: str
    marks: tuple[Mark, ...] = ()
    strong: bool = False
    heading: bool = False
    note: str = ""  # in place of marks


def dot_chart(lines: Sequence[DotLine], *, title: str, x_label: str, share: bool = True) -> Markup:
    """The lines from top to bottom over one axis: of shares from 0 to 1, or of differences around 0."""
    values = [v for one in lines for mark in one.marks for v in (mark.value, *(mark.bounds or ()))]
    names = list(dict.fromkeys((m.name, m.colour, m.small) for one in lines for m in one.marks))

    def draw(width: int) -> Markup:
        axis = axes.linear_axis(values, percent=share) if share else _around_nothing(values)
        widths = [axes.text_width(one.name, 14.5 if one.strong else 13) for one in lines if not one.heading]
        room = min(max(widths, default=0), 0.4 * width) + 14
        legend = _legend(names, width) if share else []
        top, step = 24 * len(legend) + (6 if legend else 0), 24
        bottom = top + step * len(lines)
        area = axes.Frame(room, top, width - 24, bottom, axis, axis)
        parts = [
            element("g", Markup("").join(row), transform=f"translate(0 {24 * i + 10})") for i, row in enumerate(legend)
        ]
        for tick in axis.ticks:
            zero = not share and tick == 0
            parts.append(axes.line(area.x(tick), top, area.x(tick), bottom, "axis" if zero else "rule"))
            label = axis.label(tick) if share else f"{100 * tick:+.3g}".replace("+0", "0")
            parts.append(text(area.x(tick), bottom + 14, label, "tick", anchor="middle"))
        parts.append(text((area.left + area.right) / 2, bottom + 34, x_label, "name", anchor="middle"))
        for i, one in enumerate(lines):
            parts += _line(one, area, top + i * step + step / 2, room)
        return axes.svg(parts, width=width, height=bottom + 44, title=title)

    return axes.both(draw)


def _around_nothing(values: Sequence[Number]) -> axes.Axis:
    most = max((abs(value) for value in values), default=0.01) or 0.01
    return axes.linear_axis([-most, most], count=6)


def _line(one: DotLine, area: axes.Frame, y: float, room: float) -> list[Markup]:
    if one.heading:
        return [text(0, y + 2, axes.fitted(one.name, area.right), "name")]
    drawn = [text(room - 12, y, axes.fitted(one.name, room - 14), "end" if one.strong else "", anchor="end")]
    large = [mark for mark in one.marks if not mark.small]
    for mark in sorted(one.marks, key=lambda mark: not mark.small):
        x = area.x(mark.value)
        said = f"{one.name}, {mark.name}: {100 * mark.value:.1f}"
        if mark.small:
            shape = axes.line(x, y - 6, x, y + 6, "whisker")
            drawn.append(element("g", element("title", said) + shape, class_=f"c{mark.colour}"))
            continue
        height = y + (0 if len(large) == 1 else 4 * (large.index(mark) - (len(large) - 1) / 2))
        inside = [element("title", said)]
        if mark.bounds:
            low, high = (area.x(end) for end in mark.bounds)
            inside.append(axes.line(low, height, high, height, "whisker"))
        inside.append(element("circle", cx=x, cy=float(height), r=5.0 if one.strong else 4.0, class_="dot"))
        drawn.append(element("g", Markup("").join(inside), class_=f"c{mark.colour}"))
    if one.note:
        drawn.append(text(area.left + 6, y, axes.fitted(one.note, area.right - area.left - 6, 12), "tick halo"))
    return drawn


def _legend(names: Sequence[tuple[str, int, bool]], width: int) -> list[list[Markup]]:
    """What the marks are, in lines that fit."""
    rows: list[list[Markup]] = [[]]
    x = 0.0
    for name, colour, small in names:
        shown = axes.fitted(name, width - 20)
        wide = 14 + axes.text_width(shown) + 20
        if x and x + wide - 20 > width:
            rows.append([])
            x = 0.0
        mark = (
            axes.line(x + 5, -6, x + 5, 6, "whisker")
            if small
            else element("circle", cx=x + 5, cy=0.0, r=4.0, class_="dot")
        )
        rows[-1].append(element("g", mark + text(x + 14, 0, shown, "end"), class_=f"c{colour}"))
        x += wide
    return rows
