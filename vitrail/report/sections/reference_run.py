"""A run beside the run that is its recipe's proof: both curves, and whether this one is on course."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vitrail.core import numbers
from vitrail.core.config import departures, shown
from vitrail.core.numbers import Number
from vitrail.core.text import listed
from vitrail.report.blocks import Block, Chart, Part, Section, Table, Text, paragraphs
from vitrail.report.charts.lines import Line, line_chart
from vitrail.report.folder import Folder, Json
from vitrail.report.sections import on_course, training_curves
from vitrail.report.sections.on_course import Piece, Point

BAND = 60  # points of the proof's line with its tolerance
TITLE, ANCHOR = "Against the recipe's proof", "proof"


class Curve(NamedTuple):
    """The proof's (step, loss) of training and (step, loss, accuracy) of validation."""

    train: list[tuple[Number, Number]]
    validation: list[tuple[Number, Number, Number]]


def section(folder: Folder, config: Json, result: Json | None, planned: int | None, proofs: Path) -> Section | None:
    """The comparison; a sentence where the recipe was not run here, None for a run without a recipe."""
    job, recipe = config.get("job"), config.get("recipe")
    if not recipe or recipe == "auto":  # whose runs are all other ones
        return None
    found = find(str(job), str(recipe), folder, proofs)
    if found is None:
        said = "This recipe was not run here: nothing to compare with."
        return Section(TITLE, ANCHOR, [Text(said)])
    train, validation = training_curves.metrics(folder)
    curve = _curve(found)
    steps = _steps(found, curve)
    other = departures(_config(found), _config(config))
    planned = planned or steps
    proof = on_course.pieces(curve.train, steps)
    run = on_course.pieces(_series(train, "loss"), planned)
    points = on_course.points(run, proof)
    sentences = [_what(found, steps), *_options(found, config, other), verdict(points, found, result, bool(other))]
    parts: list[Block] = []
    if curve.validation or any(numbers.known(row.get("accuracy")) for row in validation):
        lines = _accuracies(validation, curve, planned, steps)
        said = "Validation accuracy of this run and of the proof over the steps of this run."
        drawing = line_chart(lines, title=said, x_label="step", y_label="validation accuracy", percent=True)
        parts.append(Part("Validation accuracy", [Chart(drawing)]))
    if proof:
        drawing = line_chart(
            _losses(run, proof, planned),
            title="Training loss of this run and of the proof, with the band that is on course.",
            x_label="step",
            y_label="training loss",
        )
        note = "The shaded band is on course; both lines are means over 2 % of training."
        if planned != steps:
            note += f" The proof's {numbers.count(steps)} steps are stretched to the length of this run."
        parts.append(Part("Training loss", [Chart(drawing, note.replace(" %", "\u00a0%"))]))
    head = ["training done", "steps", "#this run", "#proof", "#allowed", ""]
    table = Table(head, [_row(point, planned, judged=not other) for point in points])
    return Section(TITLE, ANCHOR, [*paragraphs(sentences), table, *parts, Text(on_course.RULE, quiet=True)])


def find(job: str, recipe: str, folder: Folder, proofs: Path) -> Json | None:
    """The proof's file; names come from a run's file, so they must be plain."""
    if not all(re.fullmatch(r"[a-z0-9][a-z0-9-]*", name) for name in (job, recipe)):
        return None
    return Folder(proofs, folder.problems).json(f"{job}-{recipe}.json")


def verdict(points: Sequence[Point], proof: Json, result: Json | None, other: bool) -> str:
    """The sentence above the table; with other options nothing is promised, so nothing is judged."""
    reached = [point for point in points if point.where != "not reached"]
    if not points:
        return "The proof holds no curve."
    if not reached:
        return "This run has not come to the first point of comparison yet."
    off = [point for point in reached if point.where != "on course"]
    overlaps = numbers.overlap(result.get("interval"), proof.get("interval")) if result else None
    ended = ""
    if result and overlaps is not None:
        ours, theirs = (numbers.percent(part.get("accuracy")) for part in (result, proof))
        what = "overlap" if overlaps else "do not overlap"
        ended = f" The 95 % intervals of the accuracy {what}: {ours} here, {theirs} in the proof."
    if other:
        return f"With these other options the run is drawn over the proof, and not judged by it.{ended}"
    if not off and overlaps is not False:
        return f"On course: at {_shares(reached)} of training the loss is where the proof's was.{ended}"
    if not off:
        return f"Not on course: the loss is where the proof's was, the accuracy is not.{ended}"
    told = "; ".join(_off(point) for point in off)
    return f"Not on course: {told}.{ended}"


def _off(point: Point) -> str:
    at = f"at {_shares([point])} of training"
    if point.where == "no number":
        return f"{at} the loss was no number"
    return f"{at} the loss is {numbers.plain(point.loss)}, {point.where} the proof's {numbers.plain(point.proof)}"


def _shares(points: Sequence[Point]) -> str:
    shares = [f"{100 * at:.0f}" for point in points for at in point.at]
    return listed(shares) + "\u00a0%"


def _row(point: Point, planned: int, *, judged: bool) -> list[str]:
    steps = f"{numbers.count(math.floor(point.start * planned + 1e-6) + 1)}–{numbers.count(point.stop * planned)}"
    loss = numbers.UNKNOWN if point.loss is None else numbers.plain(point.loss)
    where = "within" if point.where == "on course" and not judged else point.where
    allowed = f"± {numbers.plain(point.tolerance, 2)}"
    return [_shares([point]), steps, loss, numbers.plain(point.proof), allowed, where]


def _what(proof: Json, steps: int) -> str:
    """When and where the proof was made, and what it reached."""
    machine = proof.get("machine") if isinstance(proof.get("machine"), dict) else {}
    assert isinstance(machine, dict)
    where = ", ".join(str(machine[key]) for key in ("processor", "precision") if machine.get(key))
    said = f"The proof is a run of {proof.get('date') or 'an unknown day'} on {where or 'an unknown machine'}"
    said += f": {numbers.count(steps)} steps"
    if numbers.known(proof.get("seconds")):
        said += f" in {numbers.duration(proof['seconds'])}"
    if numbers.known(proof.get("accuracy")):
        said += f", accuracy {numbers.percent(proof['accuracy'])}"
        said += numbers.within(proof.get("interval")).replace(" %", "\u00a0%", 1)
    return f"{said}."


def _options(proof: Json, config: Json, other: Sequence[str]) -> list[str]:
    said = []
    first, second = _config(proof).get("init"), _config(config).get("init")
    if first != second and (first or second):
        said.append(f"It started from {shown(first)}, this run from {shown(second)}.")
    if other:
        said.append(f"This run has other options than the proof: {'; '.join(other)}.")
    return said


def _config(content: Json) -> Json:
    inner = content.get("config")
    return inner if isinstance(inner, dict) else {}


def _steps(proof: Json, curve: Curve) -> int:
    said: Any = _config(proof).get("steps")
    last = max((int(row[0]) for row in (*curve.train[-1:], *curve.validation[-1:])), default=1)
    return int(said) if numbers.known(said) and said > 0 else last


def _curve(proof: Json) -> Curve:
    inner = proof.get("curve")
    parts: Any = inner if isinstance(inner, dict) else {}
    train = [tuple(row) for row in _list(parts.get("train")) if _numbers(row, 2)]
    validation = [tuple(row) for row in _list(parts.get("validation")) if _numbers(row, 3)]
    return Curve(train, validation)


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _numbers(row: object, length: int) -> bool:
    return isinstance(row, list) and len(row) == length and all(numbers.known(value) for value in row)


def _series(rows: Sequence[Json], key: str) -> list[tuple[Number, Number]]:
    return [(row["step"], row[key]) for row in rows if isinstance(row.get(key), int | float)]


def _losses(run: Sequence[Piece], proof: Sequence[Piece], planned: int) -> list[Line]:
    """The proof with its tolerance, and this run over it, both as means over windows."""
    at = np.linspace(on_course.HALF, 1, BAND)
    windows = [(max(0.0, share - on_course.HALF), min(1.0, share + on_course.HALF)) for share in at]
    expected = [on_course.mean(proof, *window) for window in windows]
    allowed = [on_course.allowed(proof, *window) for window in windows]
    low = [max(0.0, value - room) for value, room in zip(expected, allowed, strict=True)]
    high = [value + room for value, room in zip(expected, allowed, strict=True)]
    lines = [Line("proof", [share * planned for share in at], expected, low=low, high=high, colour=5)]
    done = run[-1].stop if run else 0.0
    reached = [window for window in windows if window[1] <= done + 1e-9]
    if reached:
        places = [share * planned for share in at[: len(reached)]]
        lines.append(Line("this run", places, [on_course.mean(run, *window) for window in reached], colour=0))
    return lines


def _accuracies(validation: Sequence[Json], curve: Curve, planned: int, steps: int) -> list[Line]:
    lines = []
    if curve.validation:
        places = [row[0] * planned / steps for row in curve.validation]
        lines.append(Line("proof", places, [row[2] for row in curve.validation], colour=5, dots=True))
    ours = training_curves.validation_line(validation, "this run", colour=0)
    return [*lines, ours] if ours else lines
