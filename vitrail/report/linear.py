"""A few-shot evaluation: a linear classifier on frozen features, from a few images of each class."""

import math
from collections.abc import Sequence
from typing import Any

from vitrail.report import numbers
from vitrail.report.charts import Line, Reference, line_chart
from vitrail.report.numbers import Number
from vitrail.report.page import Section, fragment, page
from vitrail.report.reading import Folder, Json, objects


def linear_page(folder: Folder) -> str:
    """The page of a folder that `vitrail linear` wrote."""
    content = folder.json("linear.json") or {}
    rows = _usable(content)
    best = max(rows, key=lambda row: row["mean"], default=None)
    lead = "This evaluation holds no accuracy yet."
    if best:
        within = numbers.ends(best.get("interval"))
        shown = f" (95 % interval {numbers.interval(within)})" if within else ""
        lead = f"{numbers.percent(best['mean'])}{shown} with {_images(best['shots'])} and {best['features']} features."
    kind = f"Few-shot evaluation in folder {folder.path.resolve().name}"
    title = f"Few-shot evaluation on {content['test']}" if content.get("test") else "Few-shot evaluation"
    return page(title, lead, [section(folder, title="Results")], kind=kind, problems=folder.problems)


def section(
    folder: Folder, *, title: str = "From a few examples", anchor: str = "few-shot", opening: Sequence[str] = ()
) -> Section | None:
    """Accuracy over the number of images a class, a line for each kind of features, and what it says in sentences."""
    content = folder.json("linear.json")
    if content is None:
        return None
    rows = _usable(content)
    names = list(dict.fromkeys(str(row["features"]) for row in rows))
    classes = content.get("classes")
    number = len(classes) if isinstance(classes, list) else classes
    pairs = [
        ("Classifier learned on", content.get("train")),
        ("Tested on", content.get("test")),
        ("Classes", numbers.count(number) if numbers.known(number) else None),
        ("Test images", numbers.count(content.get("count")) if numbers.known(content.get("count")) else None),
        ("Ridge strength", f"{content['ridge']:,.10g}" if numbers.known(content.get("ridge")) else None),
    ]
    draws = {len(row.get("accuracies") or ()) for row in rows} - {0}
    if draws:
        pairs.append(
            ("Random draws of the examples", " to ".join(numbers.count(n) for n in sorted({min(draws), max(draws)})))
        )
    shots = sorted({row["shots"] for row in rows})
    by_place = {(str(row["features"]), row["shots"]): row for row in rows}
    table = [(numbers.count(n), *(_cell(by_place.get((name, n))) for name in names)) for n in shots]
    body = fragment(
        "linear.html.j2",
        sentences=[*opening, *findings(rows)],
        drawing=_chart(rows, names, number),
        note="Bands and whiskers are 95 % intervals over random draws of the examples.",
        head=["images a class", *(f"#{name}" for name in names)],
        rows=table,
        figures=[(name, str(value)) for name, value in pairs if value],
    )
    return Section(title, anchor, body)


def findings(rows: Sequence[Json]) -> list[str]:
    """What the rows say about pre-trained features against each other kind, good or bad; empty for one kind alone."""
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
    unsure = [number for number, mine, theirs in pairs if number not in lost and overlapping(mine, theirs) is not False]
    if len(lost) == len(pairs):
        return f"{_capital(ours)} features are never better than {name}: pre-training did not help here."
    if lost:
        where = f"with {_list(lost)}"
        return f"{_capital(ours)} features are no better than {name} {where}, and better otherwise."
    better = f"{_capital(ours)} features are better than {name} at every number of images"
    if not unsure:
        return f"{better}, and their 95 % intervals never overlap."
    return f"{better}, but with {_list(unsure)} the intervals overlap or are unknown: there it may be chance."


def overlapping(one: Json, other: Json) -> bool | None:
    """Whether two intervals have common values; None where one is unknown."""
    first, second = numbers.ends(one.get("interval")), numbers.ends(other.get("interval"))
    if first is None or second is None:
        return None
    return first[0] <= second[1] and second[0] <= first[1]


def _usable(content: Json) -> list[Json]:
    rows = objects(content.get("rows"))
    usable = [row for row in rows if numbers.known(row.get("mean")) and numbers.known(row.get("shots"))]
    return [{**row, "features": row.get("features", "features")} for row in usable]


def _chart(rows: Sequence[Json], names: Sequence[str], classes: Any) -> Any:
    lines = []
    for colour, name in enumerate(names):
        mine = sorted((row for row in rows if str(row["features"]) == name), key=lambda row: row["shots"])
        bounds = [numbers.ends(row.get("interval")) or (math.nan, math.nan) for row in mine]
        lows, highs = [low for low, _ in bounds], [min(1.0, high) for _, high in bounds]
        lines.append(
            Line(name, [r["shots"] for r in mine], [r["mean"] for r in mine], lows, highs, colour=colour, dots=True)
        )
    if not lines:
        return None
    chance = [Reference(1 / classes, "guessing")] if numbers.known(classes) and classes > 1 else []
    said = "; ".join(
        f"{line.name} from {numbers.percent(line.y[0])} to {numbers.percent(line.y[-1])}" for line in lines
    )
    return line_chart(
        lines,
        title=f"Accuracy over the number of images a class: {said}.",
        x_label="images a class",
        y_label="accuracy",
        percent=True,
        log_x=True,
        x_ticks=sorted({row["shots"] for row in rows}),
        references=chance,
        height=340,
    )


def _cell(row: Json | None) -> str:
    if row is None:
        return numbers.UNKNOWN
    bounds = numbers.ends(row.get("interval"))
    return numbers.percent(row["mean"]) + (f" ({numbers.interval(bounds)})" if bounds else "")


def _images(shots: int) -> str:
    return f"{numbers.count(shots)} image{'' if shots == 1 else 's'} a class"


def _list(items: Sequence[int]) -> str:
    shown = [numbers.count(item) for item in items]
    if len(shown) == 1:
        return _images(items[0])
    return f"{', '.join(shown[:-1])} and {shown[-1]} images a class"


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]
