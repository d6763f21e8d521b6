"""A study: what was found, its figures, its table, what it cost, its configs, and how to run it again."""

import json
import shlex
from typing import Any

from vitrail.core import numbers
from vitrail.core.config import shown
from vitrail.report.blocks import Code, Facts, Part, Section, Table, Text, paragraphs
from vitrail.report.charts.figures import figure_blocks, read_figures
from vitrail.report.folder import Folder, Json, objects, texts
from vitrail.report.page import page


def study_page(folder: Folder) -> str:
    """The page of a folder that `vitrail study` wrote."""
    content = folder.json("study.json") or {}
    lead = str(content.get("finding") or "This study has no results yet.")
    kind = f"Study {content.get('study', '')} · {content.get('source', '')} · scale {content.get('scale', '')}"
    title = str(content.get("question") or folder.path.name)
    figures, unread = read_figures(content.get("figures"))
    problems = [*_failures(content), *folder.problems]
    if unread:
        many = "figure of study.json is" if unread == 1 else "figures of study.json are"
        problems.append(f"{unread} {many} of a kind that this version cannot draw, and left out.")
    drawn = [block for figure in figures for block in figure_blocks(figure)]
    sections = [
        Section("Figures", "figures", drawn),
        _table(content),
        _paper(content),
        _cost(content),
        _configs(content),
        _again(content),
    ]
    return page(title, lead, sections, kind=kind, problems=problems)


def _failures(content: Json) -> list[str]:
    """A sentence for each run that failed, and for each that was made elsewhere with other results."""
    said = []
    for row in objects(content.get("rows")):
        for run in objects(row.get("runs")):
            if run.get("state") == "failed":
                said.append(f"{row.get('name')}, seed {run.get('seed')}, failed: {run.get('failure')}")
            said += [
                f"{row.get('name')}, seed {run.get('seed')}, was {differs}" for differs in texts(run.get("differs"))
            ]
    return said


def _table(content: Json) -> Section:
    measures = objects(content.get("measures"))
    rows = objects(content.get("rows"))
    head = ["run", *(f"#{measure.get('name')}" for measure in measures), "#seeds", "#parameters", "#FLOP"]
    lines = [(row.get("name"), *(_cell(row, measure) for measure in measures), *_sizes(row)) for row in rows]
    notes = [f"Intervals of {measure['name']}: {measure.get('noise')}." for measure in measures if measure.get("name")]
    same = {note.split(": ", 1)[-1] for note in notes}
    if len(same) == 1:
        notes = [f"Intervals: {next(iter(same))}"]
    return Section("Table", "table", [Table(head, lines), *(Text(note, quiet=True) for note in notes)])


def _cell(row: Json, measure: Json) -> str:
    found = (row.get("values") or {}).get(measure.get("name"))
    if not isinstance(found, dict):
        return numbers.UNKNOWN
    if not measure.get("share", True):
        return numbers.plain(found.get("mean"))
    return numbers.measured(found.get("mean"), found.get("interval"))


def _sizes(row: Json) -> tuple[str, str, str]:
    runs = objects(row.get("runs"))
    finished = sum(run.get("state") == "finished" for run in runs)
    seeds = str(finished) if finished == len(runs) else f"{finished} of {len(runs)}"
    return seeds, numbers.quantity(row.get("parameters")), numbers.quantity(row.get("total_flops"))


def _paper(content: Json) -> Section:
    remarks = texts(content.get("remarks"))
    unlike = [f"Unlike the paper: {remarks[0]}", *remarks[1:]] if remarks else []
    return Section("What the paper found", "paper", paragraphs([str(content.get("paper") or ""), *unlike]))


def _cost(content: Json) -> Section | None:
    cost: Any = content.get("cost")
    if not isinstance(cost, dict):
        return None
    machines: Any = cost.get("machines")
    pairs = [
        ("Finished runs", numbers.count(cost.get("runs"))),
        ("Training", numbers.duration(cost.get("seconds"))),
        ("Measuring", numbers.duration(cost.get("measuring_seconds"))),
        ("Arithmetic of training", numbers.quantity(cost.get("total_flops"), "FLOP")),
        *(
            ("Machine", f"{name} ({number} runs)")
            for name, number in (machines.items() if isinstance(machines, dict) else ())
        ),
    ]
    return Section("Cost", "cost", [Facts(pairs)])


def _configs(content: Json) -> Section | None:
    base: Any = content.get("base")
    if not isinstance(base, dict) or not isinstance(base.get("config"), dict):
        return None
    rows = [(row.get("name"), row.get("change") or "the base") for row in objects(content.get("rows"))]
    whole = [(key, shown(value)) for key, value in base["config"].items() if key != "type"]
    table = Table(["run", "what makes it another than the base"], rows, prose=1)
    config = Part(f"The whole config of the base, {base.get('name')}", [Facts(whole)], folded=True)
    return Section("The runs", "runs", [Text("Each run is the base with one change."), table, config])


def _again(content: Json) -> Section | None:
    command = texts(content.get("command"))
    if not command:
        return None
    measured = [Code(json.dumps(measure, ensure_ascii=False)) for measure in objects(content.get("measured"))]
    said = Text("Finished runs are used again; what is missing is made.")
    folded = Part("What is measured of each run", measured, folded=True)
    return Section("Run it again", "again", [said, Code(shlex.join(command)), folded])
