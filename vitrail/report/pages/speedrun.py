"""The page of a speedrun: whether the bar is reached, each seed's accuracy and time, and on what it ran."""

import json
import shlex
from typing import Any

from markupsafe import Markup

from vitrail.core import numbers
from vitrail.core.config import shown
from vitrail.report.blocks import Chart, Code, Facts, Part, Section, Table, Text
from vitrail.report.charts.intervals import DotLine, Mark, dot_chart
from vitrail.report.folder import Folder, Json, objects, texts
from vitrail.report.page import page

NOTE = "Dots are seeds, their lines the 95 % interval of the test images; the dot below them is the mean, its line the "
NOTE += "interval over seeds; the tick is the bar."
RULES = (
    "Each seed is trained in a process of its own. The clock runs from the start of the process, so that imports, data "
    "and compilation count, until the test images were judged, once, by one view each. Nothing else is judged, no "
    "weights are chosen and no seed is left out. The bar is reached where at least five seeds are above it on the mean "
    "with p < 0.01 (one-sided t-test) and none is beyond the limit."
)


def speedrun_page(folder: Folder) -> str:
    """The page of a folder that `vitrail speedrun` wrote."""
    content = folder.json("speedrun.json") or {}
    track = _object(content.get("track"))
    rows = [row for row in objects(content.get("attempts")) if numbers.known(row.get("accuracy"))]
    lead = str(content.get("finding") or "This speedrun has no result yet.")
    sections = [_seeds(content, track, rows), _rules(content, track), _machine(rows), _recipe(content), _again(content)]
    title = f"Speedrun {track.get('name', '')}".strip()
    kind = f"Speedrun in folder {folder.path.resolve().name}"
    return page(title, lead, sections, kind=kind, problems=folder.problems)


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _seeds(content: Json, track: Json, rows: list[Json]) -> Section:
    head = ["seed", "#accuracy", "#time", "#start", "#data, model", "#training", "#judging"]
    parts = ("seconds", "starting", "preparing", "training", "judging")
    cells = [
        (
            str(row.get("seed")),
            numbers.measured(row.get("accuracy"), row.get("interval")),
            *(numbers.duration(row.get(part)) for part in parts),
        )
        for row in rows
    ]
    facts = [
        ("Mean accuracy", numbers.percent(content.get("mean"), 2) + numbers.within(content.get("interval"))),
        ("Bar", numbers.percent(track.get("bar"))),
        ("p, one-sided, that the mean is above", numbers.plain(content.get("p"), 2)),
        ("Mean time", numbers.duration(content.get("seconds"))),
        ("Slowest", numbers.duration(content.get("slowest"))),
        ("Limit", numbers.duration(track.get("seconds"))),
    ]
    return Section("Seeds", "seeds", [Chart(_drawing(content, track, rows), NOTE), Table(head, cells), Facts(facts)])


def _drawing(content: Json, track: Json, rows: list[Json]) -> Markup | None:
    bar = track.get("bar")
    if not rows or not numbers.known(bar):
        return None
    tick = Mark("bar", bar, None, 1, small=True)  # type: ignore[arg-type]
    lines = [
        DotLine(f"seed {row.get('seed')}", (Mark("accuracy", row["accuracy"], numbers.ends(row.get("interval"))), tick))
        for row in rows
    ]
    mean = content.get("mean")
    if numbers.known(mean) and len(rows) > 1:
        mark = Mark("accuracy", mean, numbers.ends(content.get("interval")))  # type: ignore[arg-type]
        lines.append(DotLine("mean", (mark, tick), strong=True))
    said = f"Accuracy of {len(rows)} seeds against the bar of {numbers.percent(bar)}."
    return dot_chart(lines, title=said, x_label=f"accuracy on {track.get('test', 'the test images')}")


def _rules(content: Json, track: Json) -> Section:
    again = [f"seed {seed}, {number} times" for seed, number in _object(content.get("starts")).items() if number != 1]
    asked = [str(number) for number in content.get("asked") or () if numbers.known(number)]
    more = (
        f"More seeds were asked for after the first had been seen: {', then '.join(asked)}." if len(asked) > 1 else ""
    )
    facts = [
        ("Learns from", f"{track.get('data')}@train" if track.get("data") else None),
        ("Is judged on", track.get("test")),
        ("Test-time augmentation", content.get("test_time_augmentation")),
        ("Seeds asked for", ", then ".join(asked)),
        ("Started more than once", ", ".join(again)),
    ]
    undecided = [Text(f"Not decided: {reason}.") for reason in texts(content.get("undecided"))]
    return Section("The rules", "rules", [Text(RULES), *undecided, Text(more), Facts(facts)])


def _machine(rows: list[Json]) -> Section | None:
    if not rows:
        return None

    def every(key: str) -> str:
        return ", ".join(dict.fromkeys(str(row[key]) for row in rows if row.get(key) is not None))

    held = [_object(row.get("caches")) for row in rows]
    caches = dict.fromkeys(f"compiler {one.get('compiler')}, vitrail's folder {one.get('folder')}" for one in held)
    load = [row["load"] for row in rows if numbers.known(row.get("load"))]
    changed = ", with changes" if any(row.get("changed") for row in rows) else ""
    facts = [
        ("Computed by", every("processor")),
        ("Device", every("device")),
        ("Cores", every("cores")),
        ("Threads", every("threads")),
        ("Precision", every("precision")),
        ("torch.compile made", every("compiled")),
        ("Caches", "; ".join(caches)),
        ("Load before a seed, at most", numbers.plain(max(load), 2) if load else None),
        ("Parameters", numbers.quantity(rows[0].get("parameters"))),
        ("Arithmetic of a seed's training", numbers.quantity(rows[0].get("total_flops"), "FLOP")),
        ("vitrail", every("vitrail")),
        ("torch", every("torch")),
        ("Python", every("python")),
        ("Commit", (every("commit") + changed) if every("commit") else "not known: no git checkout"),
        ("Started", every("started")),
    ]
    return Section("Machine and versions", "machine", [Facts(facts)])


def _recipe(content: Json) -> Section | None:
    config: Any = content.get("config")
    if not isinstance(config, dict):
        return None
    changes = texts(content.get("changes"))
    recipe = _object(content.get("track")).get("recipe")
    said = f"Another recipe than the track's, {recipe}: {'; '.join(changes)}." if changes else f"The track's, {recipe}."
    whole = [(key, shown(value)) for key, value in config.items() if key not in ("type", "seed")]
    return Section("Recipe", "recipe", [Text(said), Part("The whole config", [Facts(whole)], folded=True)])


def _again(content: Json) -> Section | None:
    command = texts(content.get("command"))
    if not command:
        return None
    track = Code(json.dumps(_object(content.get("track")), ensure_ascii=False))
    said = Text("Finished seeds are not repeated; one that was interrupted starts over.")
    return Section("Run it again", "again", [said, Code(shlex.join(command)), Part("The track", [track], folded=True)])
