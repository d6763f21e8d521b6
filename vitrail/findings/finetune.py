"""What a sweep of learning rates, and a comparison of what is trained, say: of rows of their JSON files."""

import math
from collections.abc import Sequence
from typing import Any

from vitrail.core import numbers
from vitrail.core.text import listed
from vitrail.records.finetune import CHOSEN_BY, chosen_by, score_of

Json = dict[str, Any]


def choice(chosen: Json, judged: Sequence[Json]) -> str:
    """Which learning rate was chosen, and whether the held-out images tell it from the others of the sweep."""
    said = (
        f"The rate {chosen['learning_rate']:g} gave {numbers.percent(chosen.get('accuracy'))} of "
        f"{numbers.count(chosen.get('count'))} held-out images and was chosen."
    )
    alike = [f"{row['learning_rate']:g}" for row in judged if row["folder"] != chosen["folder"] and _alike(row, chosen)]
    if alike:
        said += f" So few images do not tell it from {listed(alike)}: the intervals overlap."
    rates = [row["learning_rate"] for row in judged]
    if len(rates) > 1 and chosen["learning_rate"] in (rates[0], rates[-1]):
        side = "lower" if chosen["learning_rate"] == rates[0] else "higher"
        said += f" It is the end of the sweep: a {side} one may be better."
    return said


def chosen_of(chosen: Json, tried: Sequence[Json]) -> str:
    """What `finetune auto` chose of all that it tried, and by how much it is above the linear judge, the first."""
    if not numbers.known(chosen.get("accuracy")):
        return "The linear judge of frozen features is the model; nothing could be held out to choose by."
    images = f"{numbers.count(chosen.get('count'))} held-out training images"
    said = f"The {chosen['name']} gave {scored(chosen)} of {images}"
    judge = tried[0] if tried else chosen
    if chosen["name"] == judge.get("name"):
        others = "nothing else was tried" if len(tried) < 2 else "nothing that was tried is above it"
        return f"{said} and is the model: {others}."
    gain = numbers.points(score_of(chosen) - score_of(judge))
    said += f" and was chosen; the linear judge gave {numbers.percent(score_of(judge))}, {gain} less."
    return said + (" Their intervals overlap." if measure(chosen) == "accuracy" and _alike(judge, chosen) else "")


def measure(row: Json) -> str:
    """The name of what a trial is chosen by."""
    return CHOSEN_BY.get(chosen_by(row), "accuracy")


def scored(row: Json) -> str:
    """What a trial is chosen by, in words."""
    name = measure(row)
    return numbers.percent(score_of(row)) if name == "accuracy" else f"a {name} of {numbers.percent(score_of(row))}"


def comparison(rows: Sequence[Json]) -> str:
    """The best, whether the next may be as good, and what the cheapest costs; empty for none."""
    best = max(rows, key=lambda row: row["accuracy"], default=None)
    if best is None:
        return ""
    said = f"{best['name']} is the most accurate: {numbers.percent(best['accuracy'])}"
    said += f"{numbers.within(best.get('interval'))}."
    others = [row for row in rows if row is not best]
    alike = [str(row["name"]) for row in others if _alike(row, best)]
    if alike:
        said += f" The intervals of {listed(alike)} overlap with it: the difference may be chance."
    elif others:
        said += " No other interval overlaps with it."
    least = min(rows, key=lambda row: row.get("trained_parameters") or math.inf)
    if least is not best and best.get("trained_parameters"):
        share = least["trained_parameters"] / best["trained_parameters"]
        lost = numbers.points(best["accuracy"] - least["accuracy"])
        said += f" {least['name']} trains {numbers.percent(share)} of its parameters and is {lost} below it."
    return said


def _alike(one: Json, other: Json) -> bool | None:
    return numbers.overlap(one.get("interval"), other.get("interval"))
