"""Two models on the same images: which is better, by how much, and where they differ."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from vitrail.core import numbers
from vitrail.core.numbers import Number
from vitrail.report.charts import svg
from vitrail.report.charts.svg import element, text
from vitrail.report.folder import Folder, Json, objects, texts
from vitrail.report.page import Section, fragment, page

NAMES = {
    "accuracy": "accuracy",
    "top5": "right answer among the first five",
    "balanced_accuracy": "mean accuracy of the classes",
    "loss": "loss",
}
CLASSES, EXAMPLES = 10, 6  # rows of the tables


def comparison_page(folder: Folder) -> str:
    """The page of a folder that `vitrail evaluate` wrote when it compared two others."""
    content = folder.json("comparison.json") or {}
    lead = sentence(content) or "This comparison holds no accuracy."
    kind = f"Comparison in folder {folder.path.resolve().name}"
    sections = [section(content, title="Figures", opening="")]
    return page("Comparison of two models", lead, sections, kind=kind, problems=folder.problems)


def headline(content: Json) -> str:
    """The sentence of the comparison in an evaluation.json; empty where there is none."""
    compared = content.get("comparison")
    return sentence(compared) if isinstance(compared, dict) else ""


def sentence(content: Json) -> str:
    """What a person can quote."""
    said = content.get("sentence")
    return (
        f"{said}.".replace(" %", "\u00a0%").replace("McNemar p ", "McNemar p\u00a0")
        if isinstance(said, str) and said
        else ""
    )


def section(content: Any, *, title: str = "Against another model", opening: str | None = None) -> Section | None:
    """The figures of both with the interval of each difference, and where they differ; it opens with the sentence."""
    rows = _rows(content) if isinstance(content, dict) else []
    if not rows:
        return None
    first, second = (*texts(content.get("names")), "first", "second")[:2]
    shares = [row for row in rows if row["figure"] != "loss"]
    classes = objects(content.get("classes"))
    body = fragment(
        "comparison.html.j2",
        sentence=sentence(content) if opening is None else opening,
        drawing=_differences(shares, first, second),
        head=["", f"#{first}", f"#{second}", "#difference", "95 % interval"],
        rows=[_cells(row) for row in rows],
        counts=[
            ("both right", content.get("both")),
            (f"only {first} right", content.get("only_first")),
            (f"only {second} right", content.get("only_second")),
            ("both wrong", content.get("neither")),
            ("the same answer, right or wrong", content.get("same_answer")),
        ],
        left_out=content.get("left_out") or 0,
        class_head=["class", "#images", f"#only {first} right", f"#only {second} right", "#p"],
        classes=[
            (
                row.get("name", ""),
                numbers.count(row.get("count")),
                numbers.count(row.get("only_first")),
                numbers.count(row.get("only_second")),
                numbers.plain(row.get("p"), 2) if (row.get("p") or 0) >= 0.001 else "< 0.001",
            )
            for row in classes[:CLASSES]
        ],
        more=max(0, len(classes) - CLASSES),
        example_head=["image", "class", "the other says", "#confidence"],
        examples=[
            (f"Only {name} recognises, while {other} is surest of something else", _examples(content, key))
            for name, other, key in ((first, second, "only_first"), (second, first, "only_second"))
        ],
    )
    return Section(title, "comparison", body)


def _examples(content: Json, key: str) -> list[tuple[str, ...]]:
    held = content.get("examples")
    return [
        (
            str(row.get("key", "")),
            str(row.get("label", "")),
            str(row.get("predicted", "")),
            numbers.percent(row.get("confidence")),
        )
        for row in objects(held.get(key) if isinstance(held, dict) else None)[:EXAMPLES]
    ]


def _rows(content: Json) -> list[Json]:
    return [
        row
        for row in objects(content.get("rows"))
        if row.get("figure") in NAMES
        and all(numbers.known(row.get(key)) for key in ("first", "second", "difference"))
        and numbers.ends(row.get("interval"))
    ]


def _cells(row: Json) -> tuple[str, ...]:
    low, high = row["interval"]
    if row["figure"] == "loss":
        cells = [numbers.plain(row["first"]), numbers.plain(row["second"]), f"{row['difference']:+.3f}"]
        bounds = f"{low:+.3f} to {high:+.3f}"
    else:
        cells = [numbers.percent(row["first"]), numbers.percent(row["second"])]
        cells.append(f"{100 * row['difference']:+.1f}\u00a0points")
        bounds = f"{100 * low:+.1f} to {100 * high:+.1f}"
    return (NAMES[row["figure"]], *(cell.replace("-", "−") for cell in [*cells, bounds]))


def _differences(rows: Sequence[Json], first: str, second: str) -> Markup:
    """A dot for each difference with its interval; where the interval holds 0, the two cannot be told apart."""
    ends = [100 * end for row in rows for end in (*row["interval"], row["difference"])]
    step = 34

    def draw(width: int) -> Markup:
        axis = svg.linear_axis([*ends, 0.0], count=6 if width > 500 else 3)
        longest = max(svg.text_width(NAMES[row["figure"]]) for row in rows)
        left = min(longest + 12, 0.4 * width)
        area = svg.Frame(left, 24, width - 20, 30 + step * len(rows), axis, svg.Axis(0, 1, ()))
        parts = [svg.line(area.x(tick), area.top, area.x(tick), area.bottom, "rule") for tick in axis.ticks]
        parts += [text(area.x(tick), area.bottom + 14, _signed(tick), "tick", anchor="middle") for tick in axis.ticks]
        parts.append(svg.line(area.x(0), area.top, area.x(0), area.bottom, "reference"))
        parts.append(text(area.x(axis.high), 10, svg.fitted(f"{first} better →", width / 2, 12), "tick", anchor="end"))
        parts.append(text(area.x(axis.low), 10, svg.fitted(f"← {second} better", width / 2, 12), "tick"))
        parts.append(text((left + width - 20) / 2, area.bottom + 34, "points", "name", anchor="middle"))
        for i, row in enumerate(rows):
            y = area.top + step * (i + 0.5)
            low, high = (100 * end for end in row["interval"])
            said = f"{NAMES[row['figure']]}: {100 * row['difference']:+.1f} points, {low:+.1f} to {high:+.1f}"
            shown = [
                element("title", said),
                text(left - 12, y, svg.fitted(NAMES[row["figure"]], left - 12), anchor="end"),
                svg.line(area.x(low), y, area.x(high), y, "whisker"),
                element("circle", cx=area.x(100 * row["difference"]), cy=y, r=5.0, class_="dot"),
            ]
            parts.append(element("g", Markup("").join(shown), class_="c0" if row["difference"] >= 0 else "c1"))
        title = f"Difference of {first} to {second} in points, with 95 % intervals."
        return svg.svg(parts, width=width, height=area.bottom + 46, title=title)

    return svg.both(draw)


def _signed(tick: Number) -> str:
    return f"{tick:+g}".replace("-", "−") if tick else "0"
