"""`make`: recognises what a folder is by its files and writes its report.html; and the table of a folder of runs."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from vitrail.core import numbers
from vitrail.core.errors import BadInput
from vitrail.core.files import write_text_atomic
from vitrail.core.numbers import Number
from vitrail.report.blocks import Chart, Section, Table
from vitrail.report.charts.intervals import Bar, bar_chart
from vitrail.report.folder import Folder, Json, objects
from vitrail.report.page import page
from vitrail.report.pages.comparison import comparison_page
from vitrail.report.pages.data_check import check_page, duplicates_page
from vitrail.report.pages.demo import demo_page, parts_of
from vitrail.report.pages.evaluation import evaluation_page
from vitrail.report.pages.export import export_page
from vitrail.report.pages.finetune import parts_of as runs_of
from vitrail.report.pages.finetune import transfer_page, transfer_summary, tunings_page
from vitrail.report.pages.inspection import inspection_page
from vitrail.report.pages.linear_probe import linear_page
from vitrail.report.pages.multi_label import multi_label_page
from vitrail.report.pages.run import JOBS, final_accuracy, run_page, summary
from vitrail.report.pages.speedrun import speedrun_page
from vitrail.report.pages.study import study_page
from vitrail.report.pages.suite import suite_page

REPORT = "report.html"
NOTE = (
    "Accuracy of the final evaluation with its 95 % interval. Compare only those that were tested on the same images."
)
# The first of these files that a folder holds says what it is: a demo also holds folders of the other kinds.
PAGES = {
    "demo.json": demo_page,
    "study.json": study_page,
    "speedrun.json": speedrun_page,
    "suite.json": suite_page,
    "tunings.json": tunings_page,
    "transfer.json": transfer_page,
    "config.json": run_page,
    "evaluation.json": evaluation_page,
    "multilabel.json": multi_label_page,
    "comparison.json": comparison_page,
    "linear.json": linear_page,
    "inspection.json": inspection_page,
    "check.json": check_page,
    "duplicates.json": duplicates_page,
    "export.json": export_page,
}
OTHERS = {
    "demo.json": "demo",
    "multilabel.json": "evaluation, several classes an image",
    "tunings.json": "what to train, compared",
    "comparison.json": "comparison",
    "study.json": "study",
    "speedrun.json": "speedrun",
    "suite.json": "suite",
    "inspection.json": "inspection",
    "check.json": "data check",
    "duplicates.json": "duplicates",
    "export.json": "export",
}


def make(folder: Path, proofs: Path | None = None) -> Path:
    """Writes report.html into a folder that vitrail wrote, or into a folder of such folders, and returns its path.

    The pages of the folders inside are made too, so that no link is dead. Raises BadInput where there is nothing to
    report on. `proofs` is the folder of the recipes' proofs, with which runs are compared.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BadInput(f"{folder} is not a folder; a report is made of a folder that a vitrail command wrote")
    mark = mark_of(folder)
    if mark is not None:
        opened = Folder(folder)
        if mark == "demo.json":
            for part in parts_of(opened):
                if mark_of(part.path) not in (None, "demo.json"):
                    make(part.path, proofs)
        for part in runs_of(opened) if mark in ("tunings.json", "transfer.json") else ():
            if mark_of(part.path):
                make(part.path, proofs)
        return _write(folder, run_page(opened, proofs) if mark == "config.json" else PAGES[mark](opened))
    inside = sorted(child for child in folder.iterdir() if not child.name.startswith(".") and mark_of(child))
    if not inside:
        raise BadInput(
            f"{folder} holds nothing to report on; expected one of {', '.join(PAGES)}, or folders that hold one of them"
        )
    for child in inside:
        make(child, proofs)
    return _write(folder, index_page(Folder(folder), inside))


def mark_of(folder: Path) -> str | None:
    """The file by which a folder is recognised, such as "config.json" for a run; None for any other folder."""
    return next((name for name in PAGES if (folder / name).is_file()), None)


@dataclass(frozen=True)
class Row:
    """One folder in the table."""

    name: str
    link: str
    what: str
    unfinished: str = ""  # how far it has come
    accuracy: Number | None = None
    interval: object = None
    count: Number | None = None
    steps: Number | None = None
    seconds: Number | None = None


def index_page(folder: Folder, inside: list[Path]) -> str:
    """The table of a folder of runs: what each is, whether it is finished, how accurate it became."""
    rows = [_row(Folder(child, folder.problems)) for child in inside]
    bars = [Bar(row.name, row.accuracy, numbers.ends(row.interval)) for row in rows if row.accuracy is not None]
    best = max(bars, key=lambda bar: bar.value, default=None)
    drawing = None
    if best is not None and len(bars) > 1:
        said = f"Accuracy of {len(bars)} folders; the highest is {best.name} with {numbers.percent(best.value)}."
        drawing = bar_chart(bars, title=said)
    head = ["folder", "what", "accuracy (95 % interval)", "#images", "#steps", "#time"]
    table = Table(head, [_cells(row) for row in rows], prose=1, links=[row.link for row in rows])
    blocks = [Chart(drawing, NOTE), table]
    unfinished = sum(bool(row.unfinished) for row in rows)
    lead = f"{len(rows)} folder{'' if len(rows) == 1 else 's'}, {unfinished or 'none'} unfinished."
    if best is not None:
        lead += f" The highest accuracy is {numbers.percent(best.value)} ({best.name})."
    name = folder.path.resolve().name
    return page(name, lead, [Section("Results", "results", blocks)], kind="Folder of runs", problems=folder.problems)


def _cells(row: Row) -> tuple[object, ...]:
    accuracy: object = row.unfinished
    if row.accuracy is not None or not row.unfinished:
        within = f" ({numbers.interval(row.interval)})" if row.interval else ""
        accuracy = Markup("<b>{}</b>{}").format(numbers.percent(row.accuracy), within)
    counts = (numbers.count(row.count), numbers.count(row.steps), numbers.duration(row.seconds))
    return row.name, row.what, accuracy, *counts


def _row(folder: Folder) -> Row:
    mark = mark_of(folder.path)
    name = folder.path.name
    link = f"{quote(name)}/{REPORT}"
    if mark in ("config.json", "transfer.json"):
        return _run_row(folder, name, link)
    content: Json = folder.json(mark or "") or {}
    if mark == "evaluation.json":
        return Row(name, link, "evaluation", "", *_measured(content), seconds=_number(content.get("seconds")))
    if mark == "linear.json":
        rows = [row for row in objects(content.get("rows")) if numbers.known(row.get("mean"))]
        best = max(rows, key=lambda row: row["mean"], default={})
        images = "all images" if best.get("shots") == "all" else f"{best.get('shots')} a class"
        what = f"few-shot, {images}, {best.get('features')}" if best else "few-shot"
        return Row(name, link, what, "", _number(best.get("mean")), best.get("interval"), _number(content.get("count")))
    what = OTHERS.get(mark or "", "folder")
    return Row(name, link, what, seconds=_number(content.get("seconds")))


def _run_row(folder: Folder, name: str, link: str) -> Row:
    config, result = folder.json("config.json") or {}, folder.json("result.json")
    job = JOBS.get(str(config.get("job")), str(config.get("job") or "run")).lower()
    what = f"{job}, {config['recipe']}" if config.get("recipe") else job
    if result is None:
        said = transfer_summary(folder) if folder.has("transfer.json") else summary(folder, config, None)
        unfinished = said.split(".")[0].lower()
        return Row(name, link, what, unfinished)
    final = _measured(final_accuracy(result, folder.within("evaluation")))
    return Row(name, link, what, "", *final, steps=_number(result.get("steps")), seconds=_number(result.get("seconds")))


def _measured(content: Json) -> tuple[float | None, object, float | None]:
    return _number(content.get("accuracy")), content.get("interval"), _number(content.get("count"))


def _number(value: object) -> float | None:
    return float(value) if numbers.known(value) else None  # type: ignore[arg-type]


def _write(folder: Path, text: str) -> Path:
    write_text_atomic(folder / REPORT, text)
    return folder / REPORT
