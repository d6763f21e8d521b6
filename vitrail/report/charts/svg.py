"""What all charts share: SVG elements that take their colours from the page, scales, ticks, labels that keep apart."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

from vitrail.core.numbers import Number

WIDE, NARROW = 720, 350  # the column of a page on a desk and on a phone, in CSS pixels


def both(draw: Callable[[int], Markup]) -> Markup:
    """A chart drawn for two widths; the style sheet shows the one that fits, so that text keeps its size on a phone."""
    return Markup('<div class="wide">{}</div><div class="narrow">{}</div>').format(draw(WIDE), draw(NARROW))


def svg(parts: Sequence[Markup], *, width: Number, height: Number, title: str, shrinks: bool = True) -> Markup:
    """The drawing; `title` states in words what it shows, for those who cannot see it.

    On a screen narrower than `width` it shrinks a little, or, with shrinks=False, is scrolled in its box.
    """
    return Markup(
        '<svg role="img" aria-label="{}" class="{}" width="{:.0f}" height="{:.0f}" viewBox="0 0 {:.0f} {:.0f}">{}</svg>'
    ).format(title, "shrinks" if shrinks else "keeps", width, height, width, height, Markup("").join(parts))


def element(name: str, content: object = None, /, **attributes: object) -> Markup:
    """One SVG element; `class_` becomes class, `text_anchor` text-anchor; lengths get at most two decimal places."""
    written = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _short(value))
        for key, value in attributes.items()
        if value is not None
    )
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), written, "" if content is None else escape(content))


def _short(value: object) -> object:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


def text(x: Number, y: Number, content: object, class_: str = "", *, anchor: str | None = None) -> Markup:
    """A line of text whose middle, vertically, is at y."""
    return element("text", content, x=float(x), y=float(y), dy="0.35em", class_=class_ or None, text_anchor=anchor)


def line(x1: Number, y1: Number, x2: Number, y2: Number, class_: str) -> Markup:
    return element("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=class_)


def path(points: Sequence[tuple[Number, Number]], class_: str, *, closed: bool = False) -> Markup:
    """A line through the points; NaN interrupts it."""
    steps, pen_down = [], False
    for x, y in points:
        if math.isfinite(x) and math.isfinite(y):
            steps.append(f"{'L' if pen_down else 'M'}{x:.1f} {y:.1f}")
        pen_down = math.isfinite(x) and math.isfinite(y)
    return element("path", d="".join(steps) + ("Z" if closed else ""), class_=class_)


BOLD = 14.5  # the size at which plain letters are as wide as bold ones of 13
_NARROW, _BROAD = "iljt.,:;|!'()[] f\u00a0", "mwMW@%"


def text_width(content: str, size: Number = 13) -> float:
    """About how wide a sans-serif text is: the browser's font is not known here."""
    return size * sum(0.38 if letter in _NARROW else 0.96 if letter in _BROAD else 0.63 for letter in content)


def fitted(content: str, width: Number, size: Number = 13) -> str:
    """The text, shortened with an ellipsis where it would be wider than `width`."""
    if text_width(content, size) <= width + 0.5:  # rounding must not cost a letter
        return content
    while content and text_width(content + "…", size) > width:
        content = content[:-1]
    return content.rstrip() + "…"


def apart(places: Sequence[Number], gap: Number, low: Number, high: Number) -> list[Number]:
    """Places for labels near the wanted ones, at least `gap` from each other, within low...high where they fit."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    result = [min(max(place, low), high) for place in places]
    for before, after in pairwise(order):
        result[after] = max(result[after], result[before] + gap)
    if order and result[order[-1]] > high:
        result[order[-1]] = high
        for after, before in pairwise(order[::-1]):
            result[before] = min(result[before], result[after] - gap)
    return result


@dataclass(frozen=True)
class Axis:
    """A scale from `low` to `high` with its ticks; `place` gives 0 at the low end, 1 at the high end."""

    low: Number
    high: Number
    ticks: tuple[Number, ...]
    log: bool = False
    percent: bool = False

    def place(self, value: Number) -> float:
        if not math.isfinite(value) or (self.log and value <= 0):
            return math.nan
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        return ((math.log(value) if self.log else value) - low) / (high - low)

    def label(self, tick: Number) -> str:
        if self.percent:
            return f"{100 * tick:.10g}\u00a0%"
        return f"{tick:,.0f}" if abs(tick) >= 1000 else f"{tick:.6g}"


def linear_axis(values: Sequence[Number], *, percent: bool = False, count: int = 5, tight: bool = False) -> Axis:
    """An axis with round ticks around the values; `tight` ends it at the values themselves (steps of training)."""
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if high - low < 1e-12:
        low, high = (low - 0.05, high + 0.05) if percent else (low - 0.5 * abs(low or 1), high + 0.5 * abs(high or 1))
    rough = (high - low) / count
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [round(i * step, 12) for i in range(first, last + 1)]
    if percent:
        ticks = [tick for tick in ticks if -1e-9 <= tick <= 1 + 1e-9]
    if tight:
        return Axis(low, high, tuple(tick for tick in ticks if low - 1e-9 <= tick <= high + 1e-9), percent=percent)
    return Axis(min(ticks[0], low), max(ticks[-1], high), tuple(ticks), percent=percent)


def log_axis(values: Sequence[Number], *, ticks: Sequence[Number] = (), percent: bool = False) -> Axis:
    """A logarithmic axis; without given ticks it has the powers of ten, or 1, 2 and 5 times those where it is short."""
    positive = [value for value in values if math.isfinite(value) and value > 0] or [1.0, 10.0]
    low, high = min(positive), max(positive)
    if low == high:
        low, high = low / 2, high * 2
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1,) if high / low > 1000 else (1, 2, 5)
    marks = tuple(ticks) or tuple(factor * 10.0**power for power in powers for factor in factors)
    return Axis(low, high, tuple(tick for tick in marks if low * 0.999 <= tick <= high * 1.001), True, percent)


@dataclass(frozen=True)
class Frame:
    """The plotting area inside a drawing, and where values lie in it."""

    left: Number
    top: Number
    right: Number
    bottom: Number
    x_axis: Axis
    y_axis: Axis

    def x(self, value: Number) -> float:
        return self.left + self.x_axis.place(value) * (self.right - self.left)

    def y(self, value: Number) -> float:
        return self.bottom - self.y_axis.place(value) * (self.bottom - self.top)

    def parts(self, x_label: str, y_label: str) -> list[Markup]:
        """Horizontal rules with their values, ticks below, the names of both axes."""
        drawn = [text(0, 9, y_label, "name")]
        for tick in self.y_axis.ticks:
            drawn.append(line(self.left, self.y(tick), self.right, self.y(tick), "rule"))
            drawn.append(text(self.left - 8, self.y(tick), self.y_axis.label(tick), "tick", anchor="end"))
        drawn.append(line(self.left, self.bottom, self.right, self.bottom, "axis"))
        taken = -math.inf  # where the last tick label ended: labels that would touch are left out
        for tick in self.x_axis.ticks:
            label, middle = self.x_axis.label(tick), self.x(tick)
            drawn.append(line(middle, self.bottom, middle, self.bottom + 4, "axis"))
            half = text_width(label, 12) / 2
            if middle - half > taken:
                drawn.append(text(middle, self.bottom + 15, label, "tick", anchor="middle"))
                taken = middle + half + 6
        drawn.append(text((self.left + self.right) / 2, self.bottom + 35, x_label, "name", anchor="middle"))
        return drawn


def frame(x_axis: Axis, y_axis: Axis, *, width: int, height: int, right: Number) -> Frame:
    """The area that remains when tick labels, names and `right` pixels for labels at the line ends have their place."""
    left = max(text_width(y_axis.label(tick), 12) for tick in y_axis.ticks) + 12 if y_axis.ticks else 12
    return Frame(left, 30, width - right, height - 46, x_axis, y_axis)
