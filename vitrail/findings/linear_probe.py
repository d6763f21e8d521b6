"""What judged features say: against other features, judge against judge, layer by layer; of rows of linear.json."""

from collections.abc import Sequence
from typing import Any

from vitrail.core import numbers
from vitrail.core.numbers import Number
from vitrail.core.text import listed

Json = dict[str, Any]

SPOKEN = {
    "ridge": "ridge regression",
    "knn": "nearest neighbours",
    "majority": "a majority of neighbours",
    "logistic": "logistic regression",
}


def between_features(rows: Sequence[Json]) -> list[str]:
    """What the rows say about pre-trained features against each other kind, good or bad; empty for one kind alone."""
    rows = [row for row in rows if row["shots"] != "all"]
    names = list(dict.fromkeys(str(row["features"]) for row in rows))
    ours = next((name for name in names if "pre" in name.lower()), names[0] if names else "")
    others = [name for name in names if name != ours]
    by_place = {(str(row["features"]), row["shots"]): row for row in rows}
    shots = sorted({row["shots"] for row in rows if (ours, row["shots"]) in by_place})
    said = []
    for number in sorted({shots[0], shots[-1]}) if shots and others else []:
        base = by_place[ours, number]["mean"]
        parts = [_against(base, name, by_place.get((name, number))) for name in others]
        said.append(
            f"With {_images(number)}, {ours} features reach {numbers.percent(base)}; {'; '.join(filter(None, parts))}."
        )
    for name in others:
        compared = [number for number in shots if (name, number) in by_place]
        if compared:
            said.append(_verdict(ours, name, [(n, by_place[ours, n], by_place[name, n]) for n in compared]))
    return said


def _against(base: Number, name: str, row: Json | None) -> str:
    if row is None:
        return ""
    difference = base - row["mean"]
    relation = "less" if difference > 0 else "more"
    return f"{name} {numbers.percent(row['mean'])}, {numbers.points(difference)} {relation}"


def _verdict(ours: str, name: str, pairs: Sequence[tuple[int, Json, Json]]) -> str:
    lost = [number for number, mine, theirs in pairs if mine["mean"] <= theirs["mean"]]
    unsure = [
        number
        for number, mine, theirs in pairs
        if number not in lost and numbers.overlap(mine.get("interval"), theirs.get("interval")) is not False
    ]
    if len(lost) == len(pairs):
        return f"{_capital(ours)} features are never better than {name}: pre-training did not help here."
    if lost:
        where = f"with {_list(lost)}"
        return f"{_capital(ours)} features are no better than {name} {where}, and better otherwise."
    better = f"{_capital(ours)} features are better than {name} at every number of images"
    if not unsure:
        return f"{better}, and their 95 % intervals never overlap."
    return f"{better}, but with {_list(unsure)} the intervals overlap or are unknown: there it may be chance."


def between_judges(rows: Sequence[Json]) -> list[str]:
    """Which judge is the best at the fewest and at the most images, of the features that come first."""
    mine = [row for row in rows if row["features"] == rows[0]["features"]]
    places = sorted({(row["x"], row["label"]) for row in mine})
    sentences = []
    for x, _ in [places[0], places[-1]] if len(places) > 1 else places:
        best, *others = sorted((row for row in mine if row["x"] == x), key=lambda row: -row["mean"])
        listed = ", ".join(f"{SPOKEN.get(r['judge'], r['judge'])} {numbers.percent(r['mean'])}" for r in others)
        if not listed:
            continue
        chance = any(numbers.overlap(best.get("interval"), row.get("interval")) is not False for row in others)
        sentences.append(
            f"With {said(best)}, {SPOKEN.get(best['judge'], best['judge'])} judges {best['features']} features best: "
            f"{numbers.percent(best['mean'])}; {listed}"
            + ("; intervals overlap or are unknown, so the order may be chance." if chance else ".")
        )
    return sentences


def by_layer(rows: Sequence[Json], whole: Sequence[Json], depths: Sequence[int]) -> str:
    """Where the best is, whether the last layer is as good, and what the classifier reads."""
    best = max(rows, key=lambda row: row["mean"])
    shown = numbers.within(best.get("interval"))
    sentence = (
        f"By {SPOKEN.get(best['judge'], best['judge'])}, layer {best['layer']} of {depths[-1]} tells the most, "
        f"{best['tokens']}: {numbers.percent(best['mean'])}{shown}"
    )
    if whole:
        final = whole[0]
        apart = numbers.overlap(best.get("interval"), final.get("interval")) is False
        sentence += f"; what the classifier reads gives {numbers.percent(final['mean'])}"
        sentence += "" if apart else ", a difference that may be chance"
    return sentence + "."


def said(row: Json) -> str:
    """The number of images in words."""
    return f"all {numbers.count(row['images'])} images" if row["shots"] == "all" else _images(row["shots"])


def _images(shots: int) -> str:
    return f"{numbers.count(shots)} image{'' if shots == 1 else 's'} a class"


def _list(items: Sequence[int]) -> str:
    return _images(items[0]) if len(items) == 1 else f"{listed(list(map(numbers.count, items)))} images a class"


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]
