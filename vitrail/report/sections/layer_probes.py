"""Accuracy by depth: what a judge makes of the tokens after each layer."""

from collections.abc import Sequence
from typing import Any

from vitrail.core import numbers
from vitrail.findings import linear_probe as findings
from vitrail.report.blocks import Chart, Section, Table, paragraphs
from vitrail.report.charts.lines import guessing, interval_line, line_chart, ranges
from vitrail.report.folder import Json

JUDGES = {"ridge": "ridge", "knn": "k-NN", "majority": "k-NN by majority", "logistic": "logistic"}  # in a chart
DRAWN = 3  # judges: twice as many lines, as many as there are colours


def layers_section(rows: Sequence[Json], classes: Any) -> Section | None:
    """A line for each kind of token and judge at the most images a class, the representation as a reference."""
    probed = [row for row in rows if numbers.known(row.get("layer"))]
    if not probed:
        return None
    x = max(row["x"] for row in probed)
    probed = [row for row in probed if row["x"] == x]
    judges = list(dict.fromkeys(row["judge"] for row in probed))
    learned = f"all {numbers.count(probed[0]['images'])} images" if probed[0]["shots"] == "all" else f"{x:g} a class"
    for row in probed:
        row["line"] = (
            f"{row['tokens']}, {JUDGES.get(row['judge'], row['judge'])}" if len(judges) > 1 else str(row["tokens"])
        )
    names = list(dict.fromkeys(row["line"] for row in probed))
    depths = sorted({row["layer"] for row in probed})
    whole = [row for row in rows if row.get("layer") is None and row["x"] == x and row["features"] == "pre-trained"]
    lines = []
    drawn = dict.fromkeys(row["line"] for row in probed if row["judge"] in judges[:DRAWN])
    for colour, name in enumerate(drawn):
        mine = sorted((row for row in probed if row["line"] == name), key=lambda row: row["layer"])
        lines.append(interval_line(name, mine, "layer", "mean", colour=colour))
    drawing = line_chart(
        lines,
        title=f"Accuracy by depth, learned from {learned}: {ranges(lines)}",
        x_label="layers passed",
        y_label="accuracy",
        percent=True,
        references=guessing(classes),
        height=340,
    )
    by_place = {(row["line"], row["layer"]): row for row in probed}
    table = [
        (numbers.count(depth), *(mean_cell(by_place.get((name, depth))) for name in names))
        for depth in reversed(depths)
    ]
    sentences = [
        findings.by_layer(
            [row for row in probed if row["judge"] == judge], [r for r in whole if r["judge"] == judge], depths
        )
        for judge in judges
    ]
    note = (
        f"Learned from {learned}. After 0 layers, before the encoder, the class token is the same for all "
        "images. Tokens are read before the last norm. Whiskers are 95 % intervals; that of the best layer, which "
        "is the best on these test images, is a little optimistic."
    )
    head = ["layers passed", *(f"#{name}" for name in names)]
    return Section("By layer", "layers", [*paragraphs(sentences), Chart(drawing, note), Table(head, table)])


def mean_cell(row: Json | None) -> str:
    """The mean with its interval; a dash where there is no row."""
    return numbers.measured(row["mean"], row.get("interval")) if row else numbers.UNKNOWN
