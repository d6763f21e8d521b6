"""Every chart and every kind of block on one page, of made-up data: `make gallery` after a change of a chart, and look.

python -m tests.report.gallery build/gallery.html
"""

import sys
from pathlib import Path

import numpy as np

from tests.report.folders import pictures
from vitrail.core.figures import Dot, Dots, Lines, Panel, Point
from vitrail.core.figures import Line as PointLine
from vitrail.report.blocks import Block, Chart, Code, Facts, Images, Links, Part, Section, Table, Text, Tile
from vitrail.report.charts import images
from vitrail.report.charts.confusion import confusion_map
from vitrail.report.charts.figures import figure_blocks
from vitrail.report.charts.intervals import Bar, DotLine, Mark, bar_chart, dot_chart
from vitrail.report.charts.lines import Line, Reference, line_chart, reliability, scatter
from vitrail.report.charts.stacked_area import Layer, stack_chart
from vitrail.report.page import page

LONG = "a name that is much too long to be written out beside a chart on the screen of a phone"


def gallery_page() -> str:
    """The whole page; tests/report/test_gallery.py holds that no chart and no block is missing."""
    lead = "One example of each, with awkward cases: long names, a lone point, a gap, an interval that ends at 100 %."
    sections = [
        Section("Lines", "lines", _lines()),
        Section("Dots and bars", "dots", _dots()),
        Section("Shares and squares", "shares", _shares()),
        Section("Pictures", "pictures", _pictures()),
        Section("Figures of studies", "figures", _figures()),
        Section("Other blocks", "blocks", _blocks()),
    ]
    problems = ["This is how a problem is told.", "And a second one."]
    return page("Every chart", lead, sections, kind="Gallery", problems=problems)


def _lines() -> list[Block]:
    steps = np.arange(1, 201)
    rng = np.random.default_rng(0)
    loss = 2.3 * np.exp(-steps / 60) + 0.2
    noisy = loss + rng.normal(0, 0.1, 200)
    gap = np.where((steps > 80) & (steps < 100), np.nan, loss + 0.3)
    at = [20, 80, 140, 200]
    drawn = line_chart(
        [
            Line("", steps.tolist(), noisy.tolist(), faint=True),
            Line("training", steps.tolist(), loss.tolist()),
            Line("with a gap", steps.tolist(), gap.tolist(), colour=1),
            Line(LONG, at, [1.8, 1.0, 0.8, 0.7], [1.6, 0.9, 0.7, 0.6], [2.0, 1.1, 0.9, 0.8], colour=2, dots=True),
            Line("dashed", [1, 200], [2.0, 0.3], colour=3, dashed=True),
            Line("one point", [120], [1.5], colour=4),
        ],
        title="Six lines that fall over 200 steps.",
        x_label="step",
        y_label="loss",
    )
    shots, shares = [1, 5, 10, 25], [0.42, 0.61, 0.7, 0.82]
    low, high = [0.3, 0.55, 0.66, 0.8], [0.55, 0.67, 0.74, 0.84]
    few = line_chart(
        [Line("pre-trained", shots, shares, low, high, dots=True, names=["", "five", "", ""])],
        title="Accuracy from 42 % to 82 % over four numbers of images.",
        x_label="images a class",
        y_label="accuracy",
        percent=True,
        log_x=True,
        x_ticks=shots,
        references=[Reference(0.1, "guessing")],
    )
    layers = [(layer + 1.0, 5.0 * layer + 3 * head) for layer in range(6) for head in range(4)]
    dots = scatter(
        layers,
        title="Distance of four heads in each of six layers.",
        x_label="layer",
        y_label="pixels",
        mean=[(layer + 1.0, 5.0 * layer + 4.5) for layer in range(6)],
        references=[Reference(25, "even")],
    )
    return [
        Part("line_chart", [Chart(drawn, "A note below a chart.")]),
        Part("line_chart, logarithmic, in per cent", [Chart(few)]),
        Part("scatter", [Chart(dots)]),
    ]


def _dots() -> list[Block]:
    lines = [
        DotLine("Natural", heading=True),
        DotLine("Caltech101", (Mark("ours", 0.82, (0.79, 0.85)), Mark("theirs", 0.79, (0.76, 0.82), 1))),
        DotLine(LONG, (Mark("ours", 0.99, (0.97, 1.0)), Mark("published", 0.93, colour=2, small=True))),
        DotLine("Clevr", note="data absent"),
        DotLine("mean of 2 of 3", (Mark("ours", 0.9, (0.88, 0.92)),), strong=True),
    ]
    apart = [
        DotLine("accuracy", (Mark("d", 0.15, (0.08, 0.22)),)),
        DotLine("top 5", (Mark("d", -0.02, (-0.05, 0.01), 1),)),
    ]
    bars = [Bar("cat", 0.31, (0.2, 0.44), "of 50"), Bar(LONG, 1.0, (0.93, 1.0), "of 50"), Bar("none", 0.0)]
    differences = dot_chart(apart, title="Two differences.", x_label="points, to the right a is better", share=False)
    shares = dot_chart(lines, title="Accuracy on three tasks.", x_label="accuracy on the test images")
    return [
        Part("dot_chart", [Chart(shares)]),
        Part("dot_chart of differences", [Chart(differences)]),
        Part("bar_chart", [Chart(bar_chart(bars, title="Accuracy of three classes."))]),
    ]


def _shares() -> list[Block]:
    small = confusion_map([[48, 2, 0], [1, 45, 4], [0, 0, 50]], ["0", "1", "2"], title="Three classes.")
    rng = np.random.default_rng(1)
    many = (rng.integers(0, 6, (20, 20)) * (rng.random((20, 20)) < 0.1) + np.diag([40] * 20)).tolist()
    large = confusion_map(many, [f"class number {i}" for i in range(20)], title="Twenty classes.")
    bins = [{"confidence": b / 10 + 0.05, "accuracy": max(0.0, b / 10 - 0.05), "count": 10 * b * b} for b in range(10)]
    after = [{**bin_, "confidence": bin_["accuracy"]} for bin_ in bins]
    diagram = reliability(bins, title="Too sure everywhere.", other=after, names=("as it is", "with temperature 1.4"))
    layers = [Layer("computing", [0.7, 0.6, 0.9]), Layer("waiting for data", [0.3, 0.3, 0.1], 1)]
    stacked = stack_chart([0, 10, 20, 40], layers, title="Computing and waiting over 40 steps.")
    return [
        Part("confusion_map", [Chart(small), Chart(large)]),
        Part("reliability", [Chart(diagram)]),
        Part("stack_chart", [Chart(stacked)]),
    ]


def _pictures() -> list[Block]:
    seen, rng = pictures(4, 64), np.random.default_rng(2)
    photos = [images.photograph(np.kron(one, np.ones((5, 5, 1), np.uint8)), "a blob", width=84) for one in seen]
    maps = rng.random((4, 8, 8))
    lit = [
        images.picture(images.attention_overlay(one, map_), "lit", width=112)
        for one, map_ in zip(seen, maps, strict=True)
    ]
    coloured = [images.picture(images.map_colours(map_), "a map", width=112) for map_ in maps]
    filters = images.picture(images.filter_tiles(rng.random((26, 4, 4, 3)), columns=7), "filters", width=480)
    patches = images.picture(images.cut_into_patches(seen[0], (4, 4)), "patches", width=224)
    y, x = np.mgrid[0:6, 0:6].reshape(2, -1)
    similarity = 1.3 * np.exp(-np.hypot(y[:, None] - y, x[:, None] - x) / 2) - 0.3
    tiles, _ = images.position_tiles(similarity, (6, 6))
    names = [str(i + 1) for i in range(6)]
    sheet = images.sheet_chart(
        tiles, names, names, row_name="row", column_name="column", title="Positions.", widest=400
    )
    heads = images.sheet_chart(
        images.head_tiles(rng.random((3, 6, 8, 8))),
        names[:3],
        names,
        row_name="layer",
        column_name="head",
        title="Heads.",
    )
    row = [Tile([photos[0]], "cat"), Tile([photos[1]], "cat 0.91", "same"), Tile([photos[2]], "dog 0.85", "other")]
    pairs = [Tile(pair, f"a caption of picture {i}") for i, pair in enumerate(zip(lit, coloured, strict=True))]
    return [
        Part("filter_tiles, cut_into_patches", [Images([[Tile([filters])]]), Images([[Tile([patches])]])]),
        Part("position_tiles in sheet_chart", [Chart(sheet, "With a scale.", ("−1", "1", "cosine similarity"))]),
        Part("head_tiles beside a picture", [Chart(heads, beside=photos[0])]),
        Part("attention_overlay, map_colours", [Images([pairs], "In a strip."), Images([pairs], "Dense.", "dense")]),
        Part("photograph, in rows of neighbours", [Images([row, row], "Solid: the same class.", "neighbours")]),
    ]


def _figures() -> list[Block]:
    ours = PointLine("ours", [Point(1e14, 0.3, 0.25, 0.35, "Ti/16"), Point(1e15, 0.5, 0.45, 0.55, "S/16")])
    theirs = PointLine("the paper's", [Point(2e14, 0.4), Point(2e15, 0.6)], paper=True)
    lines = Lines("Lines", "compute, FLOP", "accuracy", [ours, theirs], log_x=True, note="A note.")
    cells = [
        Dot("stem", 0.3, 0.25, 0.35, "1-D"),
        Dot("every layer", 0.32, 0.27, 0.37, "1-D"),
        Dot("", 0.2, group="none"),
    ]
    panels = [Panel("these runs", cells), Panel("the paper's", [Dot("stem", 0.64), Dot("none", 0.61)])]
    return [*figure_blocks(lines), *figure_blocks(Dots("Dots in panels", "accuracy", panels))]


def _blocks() -> list[Block]:
    rows = [("a/very/long/path/of/an/image.jpg", "truncated file: " + LONG, "1,234"), ("b.png", "empty", "2")]
    return [
        Text("A paragraph of text, as long as a line, so that it is wrapped on a phone and stays readable on a desk."),
        Text("A quiet remark.", quiet=True),
        Table(["#image", "why", "#bytes"], rows, prose=1, strong=1, links=["#blocks", ""]),
        Facts([("Parameters", "5.7 M"), ("A name with a long value", LONG), ("Unknown", None)]),
        Code(
            "vitrail pretrain digits --out 'runs/my run' --steps 500 --batch 128 --optimizer.lr 0.001 --seed 3 --json"
        ),
        Links([("Lines", "#lines"), ("Pictures", "#pictures")]),
        Part("Something that is folded", [Code('{\n  "steps": 500\n}')], folded=True),
    ]


if __name__ == "__main__":
    written = Path(sys.argv[1])
    written.parent.mkdir(parents=True, exist_ok=True)
    written.write_text(gallery_page(), encoding="utf-8")
