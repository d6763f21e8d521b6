"""Dots with their intervals, a line a task, in groups: one model, another beside it, and what was published."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from vitrail.core import numbers
from vitrail.core.numbers import Number
from vitrail.report.charts import svg
from vitrail.report.charts.svg import element, text


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
        count = 6 if width > 500 else 3
        axis = svg.linear_axis(values, percent=share, count=count) if share else _around_zero(values, count)
        widths = [svg.text_width(one.name, svg.BOLD if one.strong else 13) for one in lines if not one.heading]
        room = min(max(widths, default=0), 0.4 * width) + 14
        legend = _legend(names, width) if share else []
        top, step = 24 * len(legend) + (6 if legend else 0), 24
        bottom = top + step * len(lines)
        area = svg.Frame(room, top, width - 24, bottom, axis, axis)
        parts = [
            element("g", Markup("").join(row), transform=f"translate(0 {24 * i + 10})") for i, row in enumerate(legend)
        ]
        for tick in axis.ticks:
            zero = not share and tick == 0
            parts.append(svg.line(area.x(tick), top, area.x(tick), bottom, "axis" if zero else "rule"))
            label = axis.label(tick) if share else f"{100 * tick:+.3g}".replace("+0", "0").replace("-", "−")
            parts.append(text(area.x(tick), bottom + 14, label, "tick", anchor="middle"))
        middle = (area.left + area.right) / 2
        name = svg.fitted(x_label, 2 * min(middle, width - middle), 12)
        parts.append(text(middle, bottom + 34, name, "name", anchor="middle"))
        for i, one in enumerate(lines):
            parts += _line(one, area, top + i * step + step / 2, room)
        return svg.svg(parts, width=width, height=bottom + 44, title=title)

    return svg.both(draw)


def _around_zero(values: Sequence[Number], count: int) -> svg.Axis:
    most = max((abs(value) for value in values), default=0.01) or 0.01
    return svg.linear_axis([-most, most], count=count)


def _line(one: DotLine, area: svg.Frame, y: float, room: float) -> list[Markup]:
    if one.heading:
        return [text(0, y + 2, svg.fitted(one.name, area.right), "name")]
    drawn = [
        text(
            room - 12,
            y,
            svg.fitted(one.name, room - 14, svg.BOLD if one.strong else 13),
            "end" if one.strong else "",
            anchor="end",
        )
    ]
    large = [mark for mark in one.marks if not mark.small]
    for mark in sorted(one.marks, key=lambda mark: not mark.small):
        x = area.x(mark.value)
        said = f"{one.name}, {mark.name}: {100 * mark.value:.1f}"
        if mark.small:
            shape = svg.line(x, y - 6, x, y + 6, "whisker")
            drawn.append(element("g", element("title", said) + shape, class_=f"c{mark.colour}"))
            continue
        height = y + (0 if len(large) == 1 else 4 * (large.index(mark) - (len(large) - 1) / 2))
        inside = [element("title", said)]
        if mark.bounds:
            low, high = (area.x(end) for end in mark.bounds)
            inside.append(svg.line(low, height, high, height, "whisker"))
        inside.append(element("circle", cx=x, cy=float(height), r=5.0 if one.strong else 4.0, class_="dot"))
        drawn.append(element("g", Markup("").join(inside), class_=f"c{mark.colour}"))
    if one.note:
        drawn.append(text(area.left + 6, y, svg.fitted(one.note, area.right - area.left - 6, 12), "tick halo"))
    return drawn


def _legend(names: Sequence[tuple[str, int, bool]], width: int) -> list[list[Markup]]:
    """What the marks are, in lines that fit."""
    rows: list[list[Markup]] = [[]]
    x = 0.0
    for name, colour, small in names:
        shown = svg.fitted(name, width - 20, svg.BOLD)
        wide = 14 + svg.text_width(shown, svg.BOLD) + 20
        if x and x + wide - 20 > width:
            rows.append([])
            x = 0.0
        mark = (
            svg.line(x + 5, -6, x + 5, 6, "whisker")
            if small
            else element("circle", cx=x + 5, cy=0.0, r=4.0, class_="dot")
        )
        rows[-1].append(element("g", mark + text(x + 14, 0, shown, "end"), class_=f"c{colour}"))
        x += wide
    return rows


@dataclass(frozen=True)
class Bar:
    """A named share with its 95 % interval."""

    name: str
    value: Number
    bounds: tuple[float, float] | None = None
    note: str = ""  # small, after the value


def bar_chart(bars: Sequence[Bar], *, title: str) -> Markup:
    """Bars from 0 to 100 %, in the order given, the value written beside each."""

    def draw(width: int) -> Markup:
        wide = width > 500
        names = min(max((svg.text_width(bar.name) for bar in bars), default=0), 0.3 * width) + 10
        values = max((svg.text_width(_value(bar, wide)) for bar in bars), default=0) + 8
        step, length = 24, width - names - values
        parts = []
        for i, bar in enumerate(bars):
            middle = i * step + step / 2
            name = text(names - 10, middle, svg.fitted(bar.name, names - 10), anchor="end")
            shown = [element("title", f"{bar.name}: {_value(bar, True)}"), name]
            shown.append(element("rect", x=names, y=middle - 8.0, width=float(length), height=16.0, class_="track"))
            full = float(length * min(max(bar.value, 0), 1))
            shown.append(element("rect", x=names, y=middle - 8.0, width=full, height=16.0, class_="bar"))
            if bar.bounds:
                low, high = (names + length * end for end in bar.bounds)
                shown.append(svg.line(low, middle, high, middle, "error"))
                shown += [svg.line(end, middle - 4, end, middle + 4, "error") for end in (low, high)]
            shown.append(text(names + length + 8, middle, _value(bar, wide), "value"))
            parts.append(element("g", Markup("").join(shown), class_="c0"))
        return svg.svg(parts, width=width, height=len(bars) * step, title=title)

    return svg.both(draw)


def _value(bar: Bar, wide: bool) -> str:
    return numbers.percent(bar.value) + (f"  {bar.note}" if wide and bar.note else "")
