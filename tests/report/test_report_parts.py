"""The parts of the pages by themselves: numbers in words, scales, labels, pictures, sentences."""

import json
import math
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from vitrail.core import numbers
from vitrail.findings.linear_probe import between_features
from vitrail.report.blocks import Chart
from vitrail.report.charts import svg
from vitrail.report.charts.images import (
    attention_overlay,
    cut_into_patches,
    filter_tiles,
    position_tiles,
    viridis,
)
from vitrail.report.charts.lines import Line, interval_line, line_chart
from vitrail.report.charts.stacked_area import Layer, stack_chart
from vitrail.report.folder import Folder, share_interval
from vitrail.report.pages.demo import compare
from vitrail.report.sections import bottleneck


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (numbers.percent(0.93449), "93.4 %"),
        (numbers.percent(None), "–"),
        (numbers.percent(math.nan), "–"),
        (numbers.interval([0.921, 0.943]), "92.1–94.3 %"),
        (numbers.interval([None, 1]), "–"),
        (numbers.measured(0.93, [0.921, 0.943]), "93.0 % (92.1–94.3 %)"),
        (numbers.measured(0.93, None), "93.0 %"),
        (numbers.measured(None, [0, 1]), "–"),
        (numbers.within([0.921, 0.943]), " (95 % interval 92.1–94.3 %)"),
        (numbers.within([0.921, None]), ""),
        (numbers.gib(1.5), "1.50 GiB"),
        (numbers.gib(None), "–"),
        (numbers.duration(3.21), "3.2 s"),
        (numbers.duration(95), "1 min 35 s"),
        (numbers.duration(7300), "2 h 1 min"),
        (numbers.duration(259200), "3 d"),
        (numbers.quantity(4.86e8, "FLOP"), "486 MFLOP"),
        (numbers.quantity(1.756e10, "FLOP"), "17.6 GFLOP"),
        (numbers.quantity(5700000), "5.70 M"),
        (numbers.quantity(12), "12"),
        (numbers.plain(1.0), "1.00"),
        (numbers.plain(0.2104), "0.210"),
    ],
)
def test_numbers_in_words(shown: str, expected: str) -> None:
    assert shown.replace("\u00a0", " ") == expected


def test_wilson_interval_of_a_known_example() -> None:
    # 81 of 100, as in Newcombe (1998): 0.7222 to 0.8749
    assert share_interval(0.81, 100) == pytest.approx((0.7222, 0.8749), abs=1e-4)
    assert share_interval(0.5, 0) is None
    assert share_interval(None, 3) is None


def test_axis_has_round_ticks_around_the_values() -> None:
    assert svg.linear_axis([0.31, 0.93], percent=True).ticks == (0.2, 0.4, 0.6, 0.8, 1.0)
    assert svg.linear_axis([0.0, 2.3]).ticks == (0, 0.5, 1, 1.5, 2, 2.5)
    assert svg.linear_axis([0.999, 0.9995], percent=True).high <= 1
    assert svg.log_axis([1, 25], ticks=(1, 5, 10, 25)).ticks == (1, 5, 10, 25)
    same = svg.linear_axis([3.0, 3.0])
    assert same.low < 3 < same.high


def test_labels_keep_apart_and_inside() -> None:
    places = svg.apart([100, 102, 101, 20], 17, 10, 110)
    ordered = sorted(places)
    assert all(after - before >= 17 for before, after in pairwise(ordered))
    assert ordered[0] >= 10
    assert ordered[-1] <= 110
    assert places[0] < places[2] < places[1]  # in the order of the lines


def test_line_chart_survives_one_point_and_nothing_finite() -> None:
    for y in ([0.5], [math.nan]):
        drawing = line_chart([Line("a < b", [1], y)], title="t", x_label="x", y_label="y")
        assert "nan" not in drawing
        assert "a < b" not in drawing


def heights(drawing: str) -> list[tuple[float, float]]:
    """The highest and the lowest share of each area of a stack chart (220 high: 30 above, 46 below the plot)."""
    areas = re.findall(r'<path d="([^"]*)" class="layer"', drawing.split('class="narrow"')[0])
    ys = [[(174 - float(y)) / 144 for y in re.findall(r"[ML][\d.]+ ([\d.]+)", area)] for area in areas]
    return [(min(each), max(each)) for each in ys]


def test_layers_lie_on_each_other() -> None:
    layers = [Layer("a", [0.5, 0.5]), Layer("b", [0.25, 0.25]), Layer("c", [0.25, 0.25])]
    found = heights(stack_chart([0, 10, 20], layers, title="t"))
    assert found == [pytest.approx((0, 0.5), abs=1e-3), pytest.approx((0.5, 0.75), abs=1e-3), (0.75, 1)]


def test_computing_is_what_is_left_of_the_time(tmp_path: Path) -> None:
    row = {"kind": "train", "images_per_second": 9.0, "waiting": 0.2, "copying": None, "communicating": 0.1}
    lines = [json.dumps({**row, "step": 5 * (i + 1)}) for i in range(500)]  # more rows than are drawn
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    made = bottleneck.section(Folder(tmp_path))
    assert made is not None
    drawing = next(str(block.drawing) for block in made.blocks if isinstance(block, Chart))
    found = heights(drawing)
    assert found == [pytest.approx(ends, abs=1e-3) for ends in ((0, 0.7), (0.7, 0.9), (0.9, 1))]
    assert len(drawing) < 40_000


def test_viridis_ends_where_matplotlibs_does() -> None:
    assert viridis(np.array([-1.0, 1.0]), -1, 1).tolist() == [[68, 1, 84], [253, 231, 37]]


def test_position_tiles_are_laid_out_as_the_patches() -> None:
    similarity = np.full((6, 6), -1.0)
    np.fill_diagonal(similarity, 1.0)
    sheet, stride = position_tiles(similarity, (2, 3))
    assert stride == 1
    assert sheet.shape == (2 * 12 + 2, 3 * 18 + 2 * 2, 4)  # each patch of a tile is 6 pixels wide
    assert sheet[12:14, :, 3].max() == 0  # the gap is transparent
    for row in range(2):
        for column in range(3):  # the tile of a patch is brightest at its own place
            tile = sheet[row * 14 : row * 14 + 12, column * 20 : column * 20 + 18, 1]
            assert tile[row * 6 + 3, column * 6 + 3] > 200
            assert (tile > 200).sum() == 36


def test_filters_fill_their_sheet_and_leave_the_rest_transparent() -> None:
    sheet = filter_tiles(np.ones((5, 4, 4, 3), np.float32), columns=3)
    assert sheet.shape == (12 * 2 + 2, 12 * 3 + 2 * 2, 4)
    assert (sheet[14:, :26][:, :12] == 255).all()
    assert (sheet[14:, 28:] == 0).all()


def test_overlay_is_bright_where_attention_is() -> None:
    image, attention = np.full((32, 32, 3), 200, np.uint8), np.zeros((4, 4))
    attention[0, 3] = 2.0
    lit = attention_overlay(image, attention)
    assert lit[:8, 24:].mean() > 5 * lit[24:, :8].mean()
    assert lit.max() == 200
    assert (attention_overlay(image, np.ones((4, 4))) == image).all()


def test_patches_are_cut_with_gaps() -> None:
    image = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    cut = cut_into_patches(image, (2, 2))
    assert (cut[:8, :8, :3] == image[:8, :8]).all()
    assert (cut[-8:, -8:, :3] == image[8:, 8:]).all()


def end(accuracy: float, low: float, high: float) -> dict[str, object]:
    return {"accuracy": accuracy, "interval": [low, high], "steps": 100}


def test_comparison_speaks_of_overlap() -> None:
    assert "do not overlap" in compare(end(0.9, 0.88, 0.92), end(0.8, 0.78, 0.82), same_steps=True)
    assert "may be chance" in compare(end(0.9, 0.85, 0.95), end(0.88, 0.83, 0.93), same_steps=True)
    assert "did not help" in compare(end(0.8, 0.78, 0.82), end(0.9, 0.88, 0.92), same_steps=True)
    assert "no difference" in compare(end(0.8, 0.78, 0.82), end(0.8, 0.78, 0.82), same_steps=False)


def test_findings_name_the_shots_that_may_be_chance() -> None:
    rows = [
        {"features": "pre-trained", "shots": 1, "mean": 0.5, "interval": [0.3, 0.7]},
        {"features": "raw pixels", "shots": 1, "mean": 0.4, "interval": [0.2, 0.6]},
        {"features": "pre-trained", "shots": 10, "mean": 0.9, "interval": [0.88, 0.92]},
        {"features": "raw pixels", "shots": 10, "mean": 0.7, "interval": [0.68, 0.72]},
    ]
    assert between_features(rows)[-1].startswith(
        "Pre-trained features are better than raw pixels at every number of images, but"
    )
    assert "with 1 image a class the intervals overlap" in between_features(rows)[-1]
    assert between_features(rows[:1]) == []


def test_a_row_without_an_interval_has_no_whisker() -> None:
    rows = [
        {"x": 1, "mean": 0.4, "interval": [-0.1, 0.6]},
        {"x": 5, "mean": 0.5},
        {"x": 10, "mean": 0.9, "interval": None},
    ]
    line = interval_line("k-NN", rows, "x", "mean")
    assert line.low is not None
    assert line.high is not None
    np.testing.assert_array_equal(line.low, [0.0, math.nan, math.nan])
    np.testing.assert_array_equal(line.high, [0.6, math.nan, math.nan])
    assert line_chart([line], title="t", x_label="x", y_label="y").count('class="whisker"') == 2  # of two widths
