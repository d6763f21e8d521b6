"""Shares of a whole over the steps, as areas that lie on each other."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from vitrail.core.numbers import Number
from vitrail.report.charts import svg
from vitrail.report.charts.lines import COLOURS
from vitrail.report.charts.svg import element, path, text


@dataclass(frozen=True)
class Layer:
    """A share for each row, from 0 to 1; the layers of a chart add up to at most 1."""

    name: str
    shares: Sequence[float]
    colour: int = 0


def stack_chart(ends: Sequence[Number], layers: Sequence[Layer], *, title: str, height: int = 220) -> Markup:
    """Areas over the steps, the first layer at the bottom; row i holds from ends[i] to ends[i + 1].

    `ends` is one longer than the shares of each layer.
    """
    share = svg.Axis(0, 1, (0, 0.25, 0.5, 0.75, 1), percent=True)

    def draw(width: int) -> Markup:
        x_axis = svg.linear_axis(ends, tight=True, count=5 if width > 500 else 3)
        room = max((svg.text_width(layer.name, svg.BOLD) for layer in layers), default=0) + 20
        area = svg.frame(x_axis, share, width=width, height=height, right=min(room, 0.36 * width))
        parts = area.parts("step", "share of the time")
        floor, middles = [0.0] * (len(ends) - 1), []
        for layer in layers:
            top = [min(1.0, low + add) for low, add in zip(floor, layer.shares, strict=True)]
            outline = [*_stairs(ends, top), *reversed(_stairs(ends, floor))]
            drawn = path([(area.x(x), area.y(y)) for x, y in outline], "layer", closed=True)
            parts.append(element("g", drawn, class_=f"c{layer.colour % COLOURS}"))
            middles.append(area.y((floor[-1] + top[-1]) / 2))
            floor = top
        places = svg.apart(middles, 17, area.top, area.bottom - 4)
        for layer, place in zip(layers, places, strict=True):
            name = svg.fitted(layer.name, width - area.right - 8, svg.BOLD)
            parts.append(text(area.right + 8, place, name, f"end c{layer.colour % COLOURS}"))
        return svg.svg(parts, width=width, height=height, title=title)

    return svg.both(draw)


def _stairs(ends: Sequence[Number], values: Sequence[float]) -> list[tuple[Number, float]]:
    """Each value from where its row begins to where it ends."""
    return [(x, value) for i, value in enumerate(values) for x in (ends[i], ends[i + 1])]
