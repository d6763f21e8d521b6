"""The confusion matrix as a heat map: a row for each true class, a column for each answer."""

from collections.abc import Sequence

from markupsafe import Markup

from vitrail.report.charts import svg
from vitrail.report.charts.svg import element, text


def confusion_map(confusion: Sequence[Sequence[int]], classes: Sequence[str], *, title: str) -> Markup:
    """Cells as dark as their share of the row; right answers on the diagonal in one colour, mistakes in another."""
    size = len(classes)

    def draw(width: int) -> Markup:
        longest = max((svg.text_width(name, 12) for name in classes), default=0)
        names = min(longest, 0.26 * width) + 8
        upright = longest <= 30  # short names need not be turned
        cell = min(max((width - names - 22) / max(size, 1), 19.0), 44.0)
        above = min(names, 128.0)
        top = 40.0 if upright else 26 + above
        left = 18 + names
        parts = [text(left + size * cell / 2, 8, "answer", "name", anchor="middle")]
        middle = top + size * cell / 2
        aside = f"translate(8 {middle:.0f}) rotate(-90)"
        parts.append(element("text", "true class", class_="name", text_anchor="middle", transform=aside))
        for i, name in enumerate(classes):
            short = svg.fitted(name, names - 8, 12)
            centre = cell * (i + 0.5)
            parts.append(text(left - 6, top + centre, short, "tick", anchor="end"))
            where = f"translate({left + centre:.0f} {top - 8:.0f})" + ("" if upright else " rotate(-90)")
            placed = {"text_anchor": "middle"} if upright else {"dy": "0.35em"}
            short = svg.fitted(name, above - 8, 12)
            parts.append(element("text", short, class_="tick", transform=where, **placed))
        for row in range(size):
            total = sum(confusion[row]) or 1
            for column in range(size):
                number = confusion[row][column]
                x, y = left + column * cell, top + row * cell
                share = number / total
                right = row == column
                box = {"x": x, "y": y, "width": cell - 1, "height": cell - 1}
                shown = [element("rect", **box, class_="empty")]
                if number:
                    said = f"{classes[row]} called {classes[column]}: {number} of {total}"
                    # A single mistake must still be seen beside hundreds of right answers.
                    opacity = round(0.12 + 0.88 * share, 3) if right else round(min(1.0, 0.15 + 1.7 * share), 3)
                    shown = [element("title", said), *shown]
                    shown.append(element("rect", **box, class_="right" if right else "wrong", fill_opacity=opacity))
                    if cell >= 4 + svg.text_width(str(number), 11):
                        ink = "on" if opacity > 0.55 else "off"
                        shown.append(text(x + cell / 2 - 0.5, y + cell / 2, number, f"count {ink}", anchor="middle"))
                parts.append(element("g", Markup("").join(shown)))
        return svg.svg(parts, width=left + size * cell + 2, height=top + size * cell + 2, title=title, shrinks=False)

    return svg.both(draw)


def most_confused(
    confusion: Sequence[Sequence[int]], classes: Sequence[str], *, most: int = 20
) -> list[tuple[str, str, int, int]]:
    """(true class, answer, how often, out of) of the most frequent mistakes, for where a map would be too large."""
    found = [
        (classes[row], classes[column], int(number), int(sum(confusion[row])))
        for row in range(len(classes))
        for column, number in enumerate(confusion[row])
        if row != column and number
    ]
    return sorted(found, key=lambda item: -item[2])[:most]
