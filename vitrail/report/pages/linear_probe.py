"""Frozen features as judged: accuracy over images a class, by judge, and layer by layer."""

from collections.abc import Sequence
from typing import Any

from vitrail.core import numbers
from vitrail.findings import linear_probe as findings
from vitrail.report.blocks import Chart, Facts, Section, Table, paragraphs
from vitrail.report.charts.lines import guessing, interval_line, line_chart, ranges
from vitrail.report.folder import Folder, Json, objects
from vitrail.report.page import page
from vitrail.report.sections.layer_probes import JUDGES, layers_section, mean_cell


def linear_page(folder: Folder) -> str:
    """The page of a folder that `vitrail linear` wrote."""
    content = folder.json("linear.json") or {}
    rows = usable(content)
    plain = [row for row in rows if row.get("layer") is None]
    best = max(plain, key=lambda row: row["mean"], default=None)
    lead = "This evaluation holds no accuracy yet."
    if best:
        shown = numbers.within(best.get("interval"))
        by = (
            f", by {findings.SPOKEN.get(best['judge'], best['judge'])}"
            if len({row["judge"] for row in rows}) > 1
            else ""
        )
        measure = "Mean average precision " if content.get("measure") else ""
        lead = f"{measure}{numbers.percent(best['mean'])}{shown} with {findings.said(best)} and {best['features']}"
        lead += f" features{by}."
    kind = f"Few-shot evaluation in folder {folder.path.resolve().name}"
    title = f"Few-shot evaluation on {content['test']}" if content.get("test") else "Few-shot evaluation"
    sections = [section(folder, title="Results"), layers_section(rows, _classes(content))]
    return page(title, lead, sections, kind=kind, problems=folder.problems)


def section(
    folder: Folder, *, title: str = "From a few examples", anchor: str = "few-shot", opening: Sequence[str] = ()
) -> Section | None:
    """Accuracy over the number of images a class, a line for each kind of features and judge, and what it says."""
    content = folder.json("linear.json")
    if content is None:
        return None
    rows = [row for row in usable(content) if row.get("layer") is None]
    judges = list(dict.fromkeys(row["judge"] for row in rows))
    several = len(judges) > 1
    for row in rows:
        row["line"] = f"{JUDGES.get(row['judge'], row['judge'])}, {row['features']}" if several else row["features"]
    names = list(dict.fromkeys(row["line"] for row in rows))
    number = _classes(content)
    pairs = [
        ("Classifier learned on", content.get("train")),
        ("Tested on", content.get("test")),
        ("Classes", numbers.count(number)),
        ("Measured", content.get("measure")),
        ("Test images", numbers.count(content.get("count"))),
    ]
    if not judges or "ridge" in judges:
        pairs.append(("Ridge strength", f"{content['ridge']:,.10g}" if numbers.known(content.get("ridge")) else None))
    if {"knn", "majority"} & set(judges) and numbers.known(content.get("neighbours")):
        pairs.append(("Neighbours", numbers.count(content["neighbours"])))
    if content.get("view") == "official":
        pairs.append(("Images", "a square, then the middle seven eighths of each side, as the official evaluator does"))
    draws = {len(row.get("accuracies") or ()) for row in rows if row["shots"] != "all"} - {0}
    if draws:
        pairs.append(
            ("Random draws of the examples", " to ".join(numbers.count(n) for n in sorted({min(draws), max(draws)})))
        )
    head, table = _table(rows, names, several)
    # of the baselines one judge is enough to compare with, and more lines could not be told apart
    drawn = names if len(names) <= 4 else [r["line"] for r in rows if r["features"] == rows[0]["features"]]
    drawn += [r["line"] for r in rows if r["judge"] == judges[0]] if judges else []
    first = [row for row in rows if row["judge"] == judges[0]] if judges else []
    note = "Bands and whiskers are 95 % intervals over random draws of the examples"
    if any(row.get("interval_over") == "images" for row in rows):
        note += "; of the whole training set, of which there is one draw, over the test images"
    sentences = [
        *opening,
        *findings.between_features(first),
        *(findings.between_judges(rows) if several else []),
    ]
    chart = Chart(_chart(rows, list(dict.fromkeys(drawn)), number), note + ".")
    return Section(title, anchor, [*paragraphs(sentences), chart, Table(head, table), Facts(pairs)])


def _classes(content: Json) -> Any:
    classes = content.get("classes")
    return len(classes) if isinstance(classes, list) else classes


def _table(rows: Sequence[Json], names: Sequence[str], several: bool) -> tuple[list[str], list[tuple[str, ...]]]:
    """A column for each kind of features; with several judges, which are many kinds, a row for each."""
    shots = sorted({(row["x"], row["label"]) for row in rows})
    by_place = {(row["line"], row["label"]): row for row in rows}
    if not several:
        return (
            ["images a class", *(f"#{name}" for name in names)],
            [(label, *(mean_cell(by_place.get((name, label))) for name in names)) for _, label in shots],
        )
    head = ["images a class", *(f"#{label}" for _, label in shots)]
    return head, [(name, *(_short(by_place.get((name, label))) for _, label in shots)) for name in names]


def _short(row: Json | None) -> str:
    """The mean and half of the interval."""
    bounds = numbers.ends(row.get("interval")) if row else None
    if row is None or bounds is None:
        return mean_cell(row)
    return f"{100 * row['mean']:.1f}\u00a0±\u00a0{50 * (bounds[1] - bounds[0]):.1f}\u00a0%"


def usable(content: Json) -> list[Json]:
    """The rows that hold an accuracy, with `x` (images a class), `label` and `judge`."""
    rows, number = [], _classes(content)
    for row in objects(content.get("rows")):
        shots, images = row.get("shots"), row.get("images")
        whole = shots == "all" and numbers.known(images) and numbers.known(number) and number > 0
        if not numbers.known(row.get("mean")) or not (whole or numbers.known(shots)):
            continue
        x = max(1, round(images / number)) if whole else shots
        label = f"all ({numbers.count(x)})" if whole else numbers.count(x)
        rows.append({"features": "features", "judge": "ridge", **row, "x": x, "label": label})
    return rows


def _chart(rows: Sequence[Json], names: Sequence[str], classes: Any) -> Any:
    lines = []
    for colour, name in enumerate(names):
        mine = sorted((row for row in rows if row["line"] == name), key=lambda row: row["x"])
        lines.append(interval_line(name, mine, "x", "mean", colour=colour))
    if not lines:
        return None
    return line_chart(
        lines,
        title=f"Accuracy over the number of images a class: {ranges(lines)}.",
        x_label="images a class",
        y_label="accuracy",
        percent=True,
        log_x=True,
        x_ticks=sorted({row["x"] for row in rows}),
        references=guessing(classes),
        height=340,
    )
