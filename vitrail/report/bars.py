"""Horizontal bars, one a class or a run, with the interval of each value."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from vitrail.report import axes, numbers
from vitrail.report.axes import element, text
from vitrail.report.numbers import Number


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
        names = min(max((axes.text_width(bar.name) for bar in bars), default=0), 0.3 * width) + 10
        values = max((axes.text_width(_value(bar, wide)) for bar in bars), default=0) + 8
        step, length = 24, width - names - values
        parts = []
        for i, bar in enumerate(bars):
            middle = i * step + step / 2
            name = text(names - 10, middle, axes.fitted(bar.name, names - 10), anchor="end")
            shown = [element("title", f"{bar.name}: {_value(bar, True)}"), name]
            shown.append(element("rect", x=names, y=middle - 8.0, width=float(length), height=16.0, class_="track"))
            full = float(length * min(max(bar.value, 0), 1))
            shown.append(element("rect", x=names, y=middle - 8.0, width=full, height=16.0, class_="bar"))
            if bar.bounds:
                low, high = (names + length * end for end in bar.bounds)
                shown.append(axes.line(low, middle, high, middle, "error"))
                shown += [axes.line(end, middle - 4, end, middle + 4, "error") for end in (low, high)]
            shown.append(text(names + length + 8, middle, _value(bar, wide), "value"))
            parts.append(element("g", Markup("").join(shown), class_="c0"))
        return axes.svg(parts, width=width, height=len(bars) * step, title=title)

    return axes.both(draw)


def _value(bar: Bar, wide: bool) -> str:
    return numbers.percent(bar.value) + (f"  {bar.note}" if wide and bar.note else "")
