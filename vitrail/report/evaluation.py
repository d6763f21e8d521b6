"""An evaluation: how often the model is right, on what it fails, and whether it knows."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vitrail.report import numbers
from vitrail.report.bars import Bar, bar_chart
from vitrail.report.charts import reliability
from vitrail.report.heat import confusion_map, most_confused
from vitrail.report.page import Picture, Section, fragment, page
from vitrail.report.pictures import picture
from vitrail.report.reading import Folder, Json, objects, texts

LARGEST_MAP = 30  # classes; above it the most frequent confusions are listed instead
LARGEST_BARS = 40  # classes; above it the ends of the list are shown
ENDS = 20


def evaluation_page(folder: Folder) -> str:
    """The page of a folder that `vitrail evaluate` wrote."""
    content = folder.json("evaluation.json") or {}
    lead = headline(content) or "This evaluation holds no accuracy."
    kind = f"Evaluation in folder {folder.path.resolve().name}"
    data = content.get("data")
    title = f"Evaluation on {data}" if data else "Evaluation"
    return page(title, lead, [section(folder, title="Results")], kind=kind, problems=folder.problems)


def headline(content: Json) -> str:
    """The accuracy in a sentence, from an evaluation.json or a result.json; empty where there is none."""
    if not numbers.known(content.get("accuracy")):
        return ""
    bounds = numbers.ends(content.get("interval"))
    within = f" (95 % interval {numbers.interval(bounds)})" if bounds else ""
    images = content.get("count")
    on = f" on {numbers.count(images)} test images" if numbers.known(images) else ""
    return f"Accuracy {numbers.percent(content['accuracy'])}{on}{within}."


def section(
    folder: Folder,
    *,
    title: str = "Evaluation",
    anchor: str = "evaluation",
    validation: Sequence[Json] = (),
    opening: str = "",
) -> Section | None:
    """The section of an evaluation; `validation` are the validation rows of the run that it ended, for comparison."""
    content = folder.json("evaluation.json")
    if content is None:
        rows = _validation_rows(validation)
        return Section(title, anchor, _fragment(table_rows=rows)) if rows else None
    classes = texts(content.get("classes"))
    confusion = _square(content.get("confusion"), len(classes))
    calibration = content.get("calibration") if isinstance(content.get("calibration"), dict) else {}
    bins = objects(calibration.get("bins"))  # type: ignore[union-attr]
    final = (
        "final evaluation",
        numbers.count(content.get("count")),
        numbers.percent(content.get("accuracy")),
        numbers.interval(content.get("interval")),
        numbers.plain(content.get("loss")),
    )
    body = _fragment(
        opening=opening,
        table_rows=[final, *_validation_rows(validation)],
        figures=_figures(content, calibration or {}),
        confusion=_map(confusion, classes),
        confused=most_confused(confusion, classes) if confusion and len(classes) > LARGEST_MAP else [],
        per_class=_per_class(objects(content.get("per_class"))),
        reliability=reliability(bins, title=_reliability_title(bins))
        if any(bin_.get("count") for bin_ in bins)
        else None,
        calibration_sentence=_calibration_sentence(bins),
        mistakes=_mistakes(objects(content.get("mistakes")), folder.arrays("mistakes.npz").get("images")),
        broken_rows=[(item.get("key", ""), item.get("reason", "")) for item in objects(content.get("broken"))],
    )
    return Section(title, anchor, body)


def _fragment(**content: Any) -> Any:
    empty: dict[str, Any] = dict.fromkeys(
        ("table_rows", "figures", "confusion", "confused", "per_class", "reliability", "mistakes", "broken_rows"), ()
    )
    return fragment("evaluation.html.j2", **{**empty, "calibration_sentence": "", "opening": "", **content})


def _validation_rows(rows: Sequence[Json]) -> list[tuple[str, ...]]:
    known = [row for row in rows if numbers.known(row.get("accuracy"))]
    if not known:
        return []
    last, best = known[-1], max(known, key=lambda row: row["accuracy"])
    chosen = [("last validation", last)] + ([("best validation", best)] if best is not last else [])
    return [
        (
            f"{name}, step {numbers.count(row.get('step'))}",
            numbers.count(row.get("count")),
            numbers.percent(row["accuracy"]),
            numbers.interval(numbers.wilson(row["accuracy"], row.get("count") or 0)),
            numbers.plain(row.get("loss")),
        )
        for name, row in chosen
    ]


def _figures(content: Json, calibration: Json) -> list[tuple[str, str]]:
    pairs = [
        ("Tested on", content.get("data")),
        ("Model", content.get("model")),
        ("Right answer among the first five", _if(content.get("top5"), numbers.percent)),
        ("Mean accuracy of the classes", _if(content.get("balanced_accuracy"), numbers.percent)),
        ("Calibration error (ECE)", _if(calibration.get("ece"), numbers.percent)),
        ("Time", _if(content.get("seconds"), numbers.duration)),
        ("Images a second", _if(content.get("images_per_second"), numbers.count)),
    ]
    return [(name, str(value)) for name, value in pairs if value]


def _if(value: Any, shown: Any) -> str | None:
    return shown(value) if numbers.known(value) else None


def _square(confusion: object, size: int) -> list[list[int]]:
    """The confusion matrix as integers, or empty where it does not fit the classes."""
    matrix = np.asarray(confusion if isinstance(confusion, list) else [], dtype=object)
    if size == 0 or matrix.shape != (size, size):
        return []
    return [[int(number or 0) for number in row] for row in matrix.tolist()]


def _map(confusion: list[list[int]], classes: list[str]) -> Any:
    if not confusion or len(classes) > LARGEST_MAP:
        return None
    worst = most_confused(confusion, classes, most=1)
    most = (
        f" The most frequent mistake: {worst[0][0]} taken for {worst[0][1]}, {worst[0][2]} of {worst[0][3]}."
        if worst
        else ""
    )
    return confusion_map(confusion, classes, title=f"Confusion matrix of {len(classes)} classes.{most}")


def _per_class(rows: Sequence[Json]) -> list[tuple[str, Any]]:
    bars = [
        Bar(
            str(row.get("name")),
            float(row["accuracy"]),
            numbers.ends(row.get("interval")),
            f"of {numbers.count(row.get('count'))}" if numbers.known(row.get("count")) else "",
        )
        for row in rows
        if numbers.known(row.get("accuracy"))
    ]
    bars.sort(key=lambda bar: bar.value)
    if not bars:
        return []
    if len(bars) <= LARGEST_BARS:
        ends = f"{bars[0].name} is the hardest, {bars[-1].name} the easiest"
        return [("Class by class", bar_chart(bars, title=f"Accuracy of each class: {ends}."))]
    worst, best = bars[:ENDS], bars[-ENDS:]
    return [
        (
            f"The {ENDS} hardest of {len(bars)} classes",
            bar_chart(worst, title=f"Accuracy of the {ENDS} hardest classes."),
        ),
        (f"The {ENDS} easiest", bar_chart(best, title=f"Accuracy of the {ENDS} easiest classes.")),
    ]


def _weighted(bins: Sequence[Json], key: str) -> float:
    total = sum(bin_["count"] for bin_ in bins)
    return float(sum(bin_["count"] * bin_[key] for bin_ in bins) / total)


def _calibration_sentence(bins: Sequence[Json]) -> str:
    full = [
        b for b in bins if b.get("count") and numbers.known(b.get("confidence")) and numbers.known(b.get("accuracy"))
    ]
    if not full:
        return ""
    sure, right = _weighted(full, "confidence"), _weighted(full, "accuracy")
    said = f"On average it is {numbers.percent(sure)} sure of its answer and right {numbers.percent(right)} of the time"
    if abs(sure - right) < 0.01:
        return f"{said}: on the whole its confidence can be taken at its word."
    verdict = "surer than it should be" if sure > right else "less sure than it could be"
    return f"{said}: it is {verdict}, by {numbers.points(sure - right)}."


def _reliability_title(bins: Sequence[Json]) -> str:
    return f"Reliability diagram: accuracy against confidence. {_calibration_sentence(bins)}".strip()


def _mistakes(rows: Sequence[Json], images: np.ndarray | None) -> list[Picture]:
    if images is None or images.ndim != 4:
        return []
    shown = []
    for row, image in zip(rows, images, strict=False):
        label, predicted, sure = row.get("label"), row.get("predicted"), numbers.percent(row.get("confidence"))
        alt = f"{row.get('key', 'image')}: true class {label}, taken for {predicted}, {sure} sure"
        shown.append(picture(image, alt, width=104, caption=f"{label}, taken for {predicted}, {sure} sure"))
    return shown
