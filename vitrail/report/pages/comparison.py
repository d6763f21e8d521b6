"""Two models on the same images: which is better, by how much, and where they differ."""

from typing import Any

from markupsafe import Markup

from vitrail.core import numbers
from vitrail.report.blocks import Chart, Facts, Part, Section, Table, Text
from vitrail.report.charts.intervals import DotLine, Mark, dot_chart
from vitrail.report.folder import Folder, Json, objects, texts
from vitrail.report.page import page

NAMES = {
    "accuracy": "accuracy",
    "top5": "right answer among the first five",
    "balanced_accuracy": "mean accuracy of the classes",
    "loss": "loss",
}
CLASSES, EXAMPLES = 10, 6  # rows of the tables
NOTE = (
    "Dots are differences, lines their 95 % intervals; where a line crosses 0, that figure does not tell the two apart."
)


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
    counts = [
        ("both right", content.get("both")),
        (f"only {first} right", content.get("only_first")),
        (f"only {second} right", content.get("only_second")),
        ("both wrong", content.get("neither")),
        ("the same answer, right or wrong", content.get("same_answer")),
    ]
    out = content.get("left_out") or 0
    many = (
        "image that only one of the two has judged is" if out == 1 else "images that only one of the two has judged are"
    )
    more = f"; {numbers.count(len(classes) - CLASSES)} more classes with a larger p" if len(classes) > CLASSES else ""
    note = f"p is McNemar's for the class, times the number of classes in which they differ{more}."
    head = ["class", "#images", f"#only {first} right", f"#only {second} right", "#p"]
    table = Table(head, [_class_cells(row) for row in classes[:CLASSES]])
    blocks = [
        Text(sentence(content) if opening is None else opening),
        Chart(_differences(shares, first, second), NOTE),
        Table(["", f"#{first}", f"#{second}", "#difference", "95 % interval"], [_cells(row) for row in rows]),
        Part("Image by image", [Facts([(name, numbers.count(number)) for name, number in counts])]),
        Text(f"{numbers.count(out)} {many} left out." if out else "", quiet=True),
        Part("Where they differ most", [table, Text(note, quiet=True)] if table else []),
        _examples(content, first, second, "only_first"),
        _examples(content, second, first, "only_second"),
    ]
    return Section(title, "comparison", blocks)


def _class_cells(row: Json) -> tuple[str, ...]:
    counts = (numbers.count(row.get(key)) for key in ("count", "only_first", "only_second"))
    p = numbers.plain(row.get("p"), 2) if (row.get("p") or 0) >= 0.001 else "< 0.001"
    return (str(row.get("name", "")), *counts, p)


def _examples(content: Json, name: str, other: str, key: str) -> Part:
    held = content.get("examples")
    rows = [
        (*(str(row.get(cell, "")) for cell in ("key", "label", "predicted")), numbers.percent(row.get("confidence")))
        for row in objects(held.get(key) if isinstance(held, dict) else None)[:EXAMPLES]
    ]
    table = Table(["image", "class", "the other says", "#confidence"], rows, prose=0)
    return Part(f"Only {name} recognises, while {other} is surest of something else", [table])


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


def _differences(rows: list[Json], first: str, second: str) -> Markup:
    """A dot for each difference with its interval; where the interval holds 0, the two cannot be told apart."""
    lines = []
    for row in rows:
        mark = Mark("difference", row["difference"], numbers.ends(row["interval"]), int(row["difference"] < 0))
        lines.append(DotLine(NAMES[row["figure"]], (mark,)))
    return dot_chart(
        lines,
        title=f"Difference of {first} to {second} in points, with 95 % intervals.",
        x_label=f"points, to the right {first} is better",
        share=False,
    )
