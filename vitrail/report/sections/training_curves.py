"""How training went: loss, accuracy and learning rate over the steps."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vitrail.core import numbers
from vitrail.core.numbers import Number
from vitrail.report.blocks import Block, Chart, Part, Section
from vitrail.report.charts.lines import Line, line_chart
from vitrail.report.folder import Folder, Json, share_interval

MANY = 40  # rows; above it a smoothed line lies over the faint measurements
MOST = 400  # points of one line: more would not be seen


def metrics(folder: Folder) -> tuple[list[Json], list[Json]]:
    """Train and validation rows in the order of their steps; of a step repeated after a restart, the last row."""
    rows = folder.rows("metrics.jsonl")
    kinds: dict[str, dict[Number, Json]] = {"train": {}, "validation": {}}
    for row in rows:
        if row.get("kind") in kinds and numbers.known(row.get("step")):
            kinds[row["kind"]][row["step"]] = row
    train, validation = ([kind[step] for step in sorted(kind)] for kind in kinds.values())
    return train, validation


def section(train: Sequence[Json], validation: Sequence[Json], *, title: str = "Training") -> Section:
    """Loss and accuracy of training and validation, and the learning rate, as far as they were measured."""
    parts: list[Block] = []
    for heading, key, percent in (("Accuracy", "accuracy", True), ("Loss", "loss", False)):
        shown = lines(train, validation, key)
        if shown:
            said = f"{heading} of training and validation over the steps.{_last(validation, key, percent)}"
            drawing = line_chart(shown, title=said, x_label="step", y_label=heading.lower(), percent=percent)
            smooth = any(line.faint for line in shown)
            note = "The strong line is a moving average of the faint measurements." if smooth else ""
            if key == "accuracy" and any(line.low for line in shown):
                note = f"The shaded band is the 95 % interval of the validation accuracy. {note}"
            parts.append(Part(heading, [Chart(drawing, note.strip())]))
    rate = _series(train, "learning_rate")
    if rate:
        drawing = line_chart(
            [Line("", *_thin(*rate), colour=5)],
            title=f"Learning rate over the steps, at most {max(rate[1]):.3g}.",
            x_label="step",
            y_label="learning rate",
            height=190,
        )
        parts.append(Part("Learning rate", [Chart(drawing)]))
    return Section(title, "training", parts)


def validation_line(rows: Sequence[Json], name: str, *, colour: int) -> Line | None:
    """The validation accuracy of one run with its interval, to be drawn beside that of another."""
    series = _series(rows, "accuracy")
    if not series:
        return None
    low, high = _bounds(rows)
    return Line(name, *series, low=low, high=high, colour=colour)


def lines(train: Sequence[Json], validation: Sequence[Json], key: str) -> list[Line]:
    """The measurements of `key` as lines; those with an empty name are the faint ones under a moving average."""
    drawn = []
    measured = _series(train, key)
    if measured:
        steps, values = measured
        if len(steps) > MANY:
            drawn.append(Line("", *_thin(steps, values), faint=True))
            values = _smooth(values, window=max(5, len(values) // 25))
        drawn.append(Line("training", *_thin(steps, values)))
    if key == "accuracy":
        line = validation_line(validation, "validation", colour=1)
        drawn += [line] if line else []
    elif series := _series(validation, key):
        drawn.append(Line("validation", *series, colour=1))
    return drawn


def _series(rows: Sequence[Json], key: str) -> tuple[list[Number], list[Number]] | None:
    """Steps and values; a loss that became NaN interrupts the line."""
    having = [row for row in rows if isinstance(row.get(key), int | float)]
    if not any(math.isfinite(row[key]) for row in having):
        return None
    return [row["step"] for row in having], [row[key] if math.isfinite(row[key]) else math.nan for row in having]


def _bounds(rows: Sequence[Json]) -> tuple[list[float] | None, list[float] | None]:
    having = [row for row in rows if isinstance(row.get("accuracy"), int | float)]
    pairs = [share_interval(row["accuracy"], row.get("count")) or (math.nan, math.nan) for row in having]
    if not any(math.isfinite(low) for low, _ in pairs):
        return None, None
    return [low for low, _ in pairs], [high for _, high in pairs]


def _smooth(values: Sequence[Number], *, window: int) -> list[float]:
    """A centred moving mean; at the ends the window shrinks, so that it does not lag behind."""
    array = np.asarray(values, np.float64)
    known = np.isfinite(array)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, array, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    result = []
    for i in range(len(array)):
        half = min(window // 2, i, len(array) - 1 - i)
        start, stop = i - half, i + half + 1
        number = counts[stop] - counts[start]
        result.append(float((sums[stop] - sums[start]) / number) if number and known[i] else math.nan)
    return result


def _thin(steps: Sequence[Number], values: Sequence[Number]) -> tuple[list[Number], list[Number]]:
    stride = -(-len(steps) // MOST)
    keep = sorted({*range(0, len(steps), stride), len(steps) - 1})
    return [steps[i] for i in keep], [values[i] for i in keep]


def _last(rows: Sequence[Json], key: str, percent: bool) -> str:
    series: Any = _series(rows, key)
    if not series:
        return ""
    value = series[1][-1]
    return f" The last validation gave {numbers.percent(value) if percent else numbers.plain(value)}."
