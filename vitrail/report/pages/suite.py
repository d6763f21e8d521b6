"""A suite: one model, or two, on many data sets; each task, the groups, the mean, and what was published."""

from collections.abc import Sequence
from typing import Any

from vitrail.core import numbers
from vitrail.report.blocks import Chart, Facts, Section, Table, Text
from vitrail.report.charts.intervals import DotLine, Mark, dot_chart
from vitrail.report.folder import Folder, Json, objects, texts
from vitrail.report.page import page

STATES = {"done": "done", "failed": "failed", "absent": "data absent", "waiting": "not run"}
INTERVALS = (
    "A task's interval says how far its accuracy may be off with other test images, or with other draws or seeds where "
    "there are several. The interval of a mean follows from those of its tasks: half its width is the root of the sum "
    "of their squared half widths, over the number of tasks. It takes the tasks as given, and says nothing of others."
)
COMPARED = {
    "paired by images": "both models judged on the same images, compared image by image",
    "paired by draws": "compared draw by draw",
    "paired by seeds": "the means of the runs compared seed by seed",
    "unpaired": "judged independently",
}


def suite_page(folder: Folder) -> str:
    """The page of a folder that `vitrail suite` wrote."""
    content = folder.json("suite.json") or {}
    tasks, means = objects(content.get("tasks")), objects(content.get("means"))
    of = str(content.get("headline") or "")
    names = _names(content)
    kind = f"Suite {content.get('suite', '')} in folder {folder.path.resolve().name}"
    lead = str(content.get("sentence") or "This suite has no results yet.")
    done = sum(task.get("state") == "done" for task in tasks)
    if done < len(tasks):
        missing = [f"{sum(t.get('state') == s for t in tasks)} {said}" for s, said in STATES.items() if s != "done"]
        lead += f" Of {len(tasks)} tasks {done} {'is' if done == 1 else 'are'} done"
        lead += "; " + ", ".join(part for part in missing if not part.startswith("0 ")) + "."
    sections = [
        _results(tasks, means, of, names, texts(content.get("groups"))),
        _differences(tasks, means, of, names),
        _means(means, names, bool(content.get("against"))),
        _missing(tasks),
        _choice(content.get("choice")),
        _about(content),
    ]
    title = str(content.get("suite") or "Suite")
    title = {"vtab": "VTAB-1k", "paper": "The paper's five data sets"}.get(title, title)
    return page(title, lead, sections, kind=kind, problems=folder.problems)


def _names(content: Json) -> tuple[str, str]:
    return str(content.get("model") or "model"), str(content.get("against") or "")


def _score(task: Json, of: str) -> Json:
    return next((score for score in objects(task.get("scores")) if score.get("of") == of), {})


def _results(
    tasks: Sequence[Json], means: Sequence[Json], of: str, names: tuple[str, str], groups: Sequence[str]
) -> Section:
    scores = list(dict.fromkeys(str(s.get("of")) for task in tasks for s in objects(task.get("scores"))))
    published = list(dict.fromkeys(str(p["model"]) for task in tasks for p in objects(task.get("published"))))
    lines: list[DotLine] = []
    for group in [*groups, ""]:
        inside = [task for task in tasks if task.get("group") == group]
        if inside and groups:
            lines.append(DotLine(group or "Others", heading=True))
        lines += [_dots(task, of, names, published) for task in inside]
        row = _mean_row(means, of, group)
        if row:
            lines.append(_mean_dots(row, names, published))
    whole = _mean_row(means, of, "all tasks")
    if whole and (whole.get("expected") or 0) > 1:
        lines.append(_mean_dots(whole, names, published))
    drawing = None
    if any(one.marks for one in lines):
        said = f"Accuracy of {names[0]} on each task, {of}"
        drawing = dot_chart(lines, title=said, x_label="accuracy on the test images")
    caption = f"Top-1 accuracy, {_how(of)}. Whiskers are 95 % intervals."
    caption += " Upright marks are the paper's numbers." if published else ""
    head = ["task", *(f"#{names[0]}, {name}" if names[1] else f"#{name}" for name in scores)]
    head += [f"#{names[1]}, {of}"] if names[1] else []
    head += [f"#{name}" for name in published]
    rows = [
        (
            str(task.get("name")),
            *(_cell(_score(task, name)) for name in scores),
            *([_cell(_score(task, of).get("against") or {})] if names[1] else []),
            *(_published(task, name) for name in published),
        )
        for task in tasks
    ]
    return Section("Results", "results", [Chart(drawing, caption), Table(head, rows)])


def _how(of: str) -> str:
    return of if of == "fine-tuned" else f"{of} a class"


def _dots(task: Json, of: str, names: tuple[str, str], published: Sequence[str]) -> DotLine:
    score = _score(task, of)
    marks = _marks(score, names)
    marks += [
        Mark(p["model"], p["accuracy"], colour=2 + published.index(str(p["model"])) % 4, small=True)
        for p in objects(task.get("published"))
        if numbers.known(p.get("accuracy"))
    ]
    done = task.get("state") == "done"
    note = "" if done or numbers.known(score.get("accuracy")) else STATES.get(str(task.get("state")), "not run")
    return DotLine(str(task.get("name")), tuple(marks), note=note)


def _marks(score: Json, names: tuple[str, str]) -> list[Mark]:
    marks = []
    if numbers.known(score.get("accuracy")):
        marks.append(Mark(names[0], score["accuracy"], numbers.ends(score.get("interval")), 0))
    other = score.get("against")
    if isinstance(other, dict) and numbers.known(other.get("accuracy")):
        marks.append(Mark(names[1], other["accuracy"], numbers.ends(other.get("interval")), 1))
    return marks


def _mean_row(means: Sequence[Json], of: str, group: str) -> Json | None:
    row = next((r for r in means if r.get("of") == of and r.get("group") == group and r.get("tasks")), None)
    return row if row and isinstance(row.get("mean"), dict) else None


def _mean_dots(row: Json, names: tuple[str, str], published: Sequence[str]) -> DotLine:
    mean = row["mean"]
    marks = [Mark(names[0], mean["value"], numbers.ends(mean.get("interval")), 0)]
    other = row.get("against")
    if isinstance(other, dict) and numbers.known(other.get("value")):
        marks.append(Mark(names[1], other["value"], numbers.ends(other.get("interval")), 1))
    marks += [
        Mark(p["model"], p["accuracy"], colour=2 + published.index(p["model"]) % 4, small=True)
        for p in objects(row.get("published"))
        if p.get("model") in published
    ]
    return DotLine(_over(row), tuple(marks), strong=True)


def _over(row: Json) -> str:
    """Say over how many tasks a mean is, and of how many where some are missing."""
    tasks, expected = row.get("tasks"), row.get("expected")
    return f"mean of {tasks}" if tasks == expected else f"mean of {tasks} of {expected}"


def _cell(score: Json) -> str:
    return numbers.measured(score.get("accuracy"), score.get("interval"))


def _published(task: Json, model: str) -> str:
    found = next((p for p in objects(task.get("published")) if p.get("model") == model), {})
    return numbers.percent(found.get("accuracy"))


def _differences(tasks: Sequence[Json], means: Sequence[Json], of: str, names: tuple[str, str]) -> Section | None:
    rows = [(task, _score(task, of).get("difference")) for task in tasks]
    found = [(task, less) for task, less in rows if isinstance(less, dict) and numbers.known(less.get("value"))]
    if not found:
        return None
    found.sort(key=lambda pair: -pair[1]["value"])
    name = f"{names[0]} less {names[1]}"
    lines = [DotLine(str(t.get("name")), (Mark(name, d["value"], numbers.ends(d.get("interval"))),)) for t, d in found]
    whole = next((row for row in means if row.get("of") == of and row.get("group") == "all tasks"), {})
    mean = whole.get("difference")
    if isinstance(mean, dict) and len(found) > 1:
        mark = Mark(name, mean["value"], numbers.ends(mean.get("interval")))
        lines.append(DotLine(f"mean of {whole.get('compared')}", (mark,), strong=True))
    drawing = dot_chart(
        lines,
        title=f"Difference of accuracy, {name}, by task",
        x_label=f"points, to the right {names[0]} is better",
        share=False,
    )
    table = [(str(t.get("name")), _points(d), COMPARED.get(str(d.get("how")), "")) for t, d in found]
    blocks = [
        Text("An interval that holds 0 means that the two cannot be told apart on this task."),
        Chart(drawing, "Whiskers are 95 % intervals."),
        Table(["task", "#difference (95 % interval)", "how"], table),
    ]
    return Section("Difference", "difference", blocks)


def _points(less: Json) -> str:
    within = numbers.ends(less.get("interval"))
    said = f"{100 * less['value']:+.1f}"
    return said + (f" ({100 * within[0]:+.1f} to {100 * within[1]:+.1f})" if within else "")


def _means(means: Sequence[Json], names: tuple[str, str], compared: bool) -> Section | None:
    rows = []
    published = list(dict.fromkeys(str(p["model"]) for row in means for p in objects(row.get("published"))))
    for row in means:
        mean = row.get("mean")
        if not isinstance(mean, dict):
            continue
        cells = [f"{row.get('group')}, {_how(str(row.get('of')))}", f"{row.get('tasks')} of {row.get('expected')}"]
        cells.append(_cell({"accuracy": mean.get("value"), "interval": mean.get("interval")}))
        if compared:
            less = row.get("difference")
            cells.append(_points(less) if isinstance(less, dict) else numbers.UNKNOWN)
        cells += [_published(row, name) for name in published]
        rows.append(tuple(cells))
    if not rows:
        return None
    head = ["mean of", "#tasks", f"#{names[0]}", *([f"#less {names[1]}"] if compared else [])]
    head += [f"#{name}" for name in published]
    note = " Published means are over the same tasks." if published else ""
    return Section("Means", "means", [Table(head, rows), Text(INTERVALS + note, quiet=True)])


def _missing(tasks: Sequence[Json]) -> Section | None:
    absent = [task for task in tasks if task.get("state") in ("failed", "absent", "waiting")]
    if not absent:
        return None
    rows = [(str(t.get("name")), STATES.get(str(t.get("state")), ""), _why(t)) for t in absent]
    said = Text("No mean has these tasks. The same command runs them as soon as it can.")
    return Section("What is missing", "missing", [said, Table(["task", "state", "why"], rows, prose=2)])


def _why(task: Json) -> str:
    """Say why a task is missing; for absent data, the layout that is expected."""
    if task.get("state") == "absent" and task.get("layout"):
        return f"expected as {task['layout']}"
    return str(task.get("sentence") or "")


def _choice(choice: Any) -> Section | None:
    if not isinstance(choice, dict):
        return None
    chosen = choice.get("chosen")
    rows = [
        (
            f"rate {row.get('lr'):g}, {row.get('steps'):,} steps",
            _cell({"accuracy": row.get("mean"), "interval": row.get("interval")}),
            "chosen" if isinstance(chosen, dict) and all(row.get(k) == chosen.get(k) for k in ("lr", "steps")) else "",
        )
        for row in objects(choice.get("settings"))
    ]
    count = len(texts(choice.get("tasks")))
    said = Text(f"One setting for all tasks, by its mean over the held-out images of {count} tasks; no test image.")
    return Section("The setting", "setting", [said, Table(["setting", "#mean on held-out images", ""], rows)])


def _about(content: Json) -> Section:
    method = content.get("method")
    method = method if isinstance(method, dict) else {}
    said = "fine-tuned"
    if method.get("type") == "FewShot":
        shots = ", ".join(map(str, method.get("shots") or ()))
        said = f"few-shot ({method.get('variant')}): {shots} images a class"
        said += f", {method.get('seeds')} draws" if method.get("variant") == "official" else ""
    pairs = [
        ("Suite", str(content.get("about") or content.get("suite") or "")),
        ("Model", _names(content)[0]),
        ("Against", _names(content)[1]),
        ("Method", said),
        ("Time of all tasks", numbers.duration(content.get("seconds"))),
    ]
    return Section("About", "about", [Facts(pairs)])
