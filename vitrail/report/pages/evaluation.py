"""An evaluation: how often the model is right, on what it fails, and whether it knows."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vitrail.core import numbers
from vitrail.report.blocks import Block, Chart, Facts, Images, Part, Section, Table, Text, Tile
from vitrail.report.charts.confusion import confusion_map, most_confused
from vitrail.report.charts.images import picture
from vitrail.report.charts.intervals import Bar, bar_chart
from vitrail.report.charts.lines import reliability
from vitrail.report.folder import Folder, Json, objects, share_interval, texts
from vitrail.report.page import page
from vitrail.report.pages import comparison, multi_label
from vitrail.report.sections import left_out, selective, train_test_overlap

LARGEST_MAP = 30  # classes; above it the most frequent confusions are listed instead
LARGEST_BARS = 40  # classes; above it the ends of the list are shown
ENDS = 20
HEAD = ["", "#images", "#accuracy", "95 % interval", "#loss"]
CONFUSION = (
    "Each row is a true class, each column an answer. Right answers lie on the diagonal; the stronger the colour of a "
    "cell, the larger its share of the row."
)
PER_CLASS = "Share of right answers in each class, from the hardest to the easiest, with 95 % intervals."
RELIABILITY = (
    "Images are grouped by the confidence of their answer. The area of a dot grows with the number of images; the "
    "whiskers are 95 % intervals."
)
WORST = "The wrong answers that the model was surest of."


def evaluation_page(folder: Folder) -> str:
    """The page of a folder that `vitrail evaluate` wrote."""
    content = folder.json("evaluation.json") or {}
    pictures = folder.arrays("pictures.npz")
    said = headline(content) or "This evaluation holds no accuracy."
    lead = " ".join(filter(None, [said, train_test_overlap.headline(content), comparison.headline(content)]))
    sections = [
        section(folder, title="Results"),
        comparison.section(content.get("comparison")),
        selective.section(content.get("abstention")),
        train_test_overlap.section(content, pictures),
    ]
    kind = f"Evaluation in folder {folder.path.resolve().name}"
    data = content.get("data")
    title = f"Evaluation on {data}" if data else "Evaluation"
    return page(title, lead, sections, kind=kind, problems=folder.problems)


def headline(content: Json) -> str:
    """The accuracy in a sentence, from an evaluation.json or a result.json; empty where there is none."""
    if numbers.known(content.get("mean_average_precision")):
        return multi_label.headline(content)
    if not numbers.known(content.get("accuracy")):
        return ""
    images = content.get("count")
    on = f" on {numbers.count(images)} test images" if numbers.known(images) else ""
    return f"Accuracy {numbers.percent(content['accuracy'])}{on}{numbers.within(content.get('interval'))}."


def section(
    folder: Folder,
    *,
    title: str = "Evaluation",
    anchor: str = "evaluation",
    validation: Sequence[Json] = (),
    opening: str = "",
) -> Section | None:
    """The section of an evaluation; `validation` are the validation rows of the run that it ended, for comparison."""
    if folder.has("multilabel.json"):
        return multi_label.section(folder, title=title, anchor=anchor, opening=opening)
    content = folder.json("evaluation.json")
    if content is None:
        return Section(title, anchor, [Table(HEAD, _validation_rows(validation), strong=0)])
    classes = texts(content.get("classes"))
    confusion = _square(content.get("confusion"), len(classes))
    calibration = content.get("calibration") if isinstance(content.get("calibration"), dict) else {}
    bins = objects(calibration.get("bins"))  # type: ignore[union-attr]
    tempered = content.get("temperature") if isinstance(content.get("temperature"), dict) else {}
    final = (
        "final evaluation",
        numbers.count(content.get("count")),
        numbers.percent(content.get("accuracy")),
        numbers.interval(content.get("interval")),
        numbers.plain(content.get("loss")),
    )
    confused = most_confused(confusion, classes) if confusion and len(classes) > LARGEST_MAP else []
    diagram = Chart(_reliability(bins, tempered or {}), RELIABILITY)
    calibrated = " ".join(filter(None, [_calibration_sentence(bins), _tempered(tempered or {}, content)]))
    mistakes = _mistakes(objects(content.get("mistakes")), folder.arrays("mistakes.npz").get("images"))
    blocks = [
        Text(opening),
        Table(HEAD, [final, *_validation_rows(validation)], strong=0),
        Facts(_figures(content, calibration or {}, tempered or {})),
        Part("What is taken for what", [Chart(_map(confusion, classes), CONFUSION)]),
        Part("Most frequent confusions", [Table(["true class", "answer", "#times", "#of"], confused)]),
        *_per_class(objects(content.get("per_class"))),
        Part("Does it know when it is right?", [Text(calibrated), diagram] if diagram else []),
        Part("Worst mistakes", [Text(WORST), mistakes] if mistakes else []),
        left_out.broken_images(content),
    ]
    return Section(title, anchor, blocks)


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
            numbers.interval(share_interval(row["accuracy"], row.get("count"))),
            numbers.plain(row.get("loss")),
        )
        for name, row in chosen
    ]


def _figures(content: Json, calibration: Json, tempered: Json) -> list[tuple[str, str | None]]:
    fitted = tempered.get("fitted_on")
    on = f", fitted on {fitted['data']}" if isinstance(fitted, dict) and fitted.get("data") else ""
    return [
        ("Tested on", content.get("data")),
        ("Model", content.get("model")),
        ("Views of each image", _views(content.get("views"))),
        ("Assumed of the model", " ".join(f"{said}." for said in texts(content.get("assumed"))) or None),
        ("Several right labels", "an answer is right where it is any of them" if content.get("several") else None),
        ("Right answer among the first five", numbers.measured(content.get("top5"), content.get("top5_interval"))),
        (
            "Mean accuracy of the classes",
            numbers.measured(content.get("balanced_accuracy"), content.get("balanced_accuracy_interval")),
        ),
        ("Loss, 95 % interval", _loss_interval(content.get("loss_interval"))),
        ("Calibration error (ECE)", numbers.measured(calibration.get("ece"), calibration.get("ece_interval"))),
        ("Temperature", f"{tempered['value']:.3g}{on}" if numbers.known(tempered.get("value")) else None),
        ("Time", numbers.duration(content.get("seconds"))),
        ("Images a second", numbers.count(content.get("images_per_second"))),
    ]


def _views(views: Any) -> str | None:
    """Say over which views of an image the probabilities are averaged; None where that is not known."""
    if not isinstance(views, dict):
        return None
    crops, sizes = views.get("crops"), [numbers.ends(size) for size in views.get("resolutions") or ()]
    said = " and ".join(f"{size[0]:.0f} x {size[1]:.0f}" for size in sizes if size)
    if crops == 1 and len(sizes) < 2:
        return f"one, at {said} pixels" if said else None
    return f"mean of {crops} crop{'' if crops == 1 else 's'} at {said} pixels"


def _loss_interval(bounds: Any) -> str | None:
    ends = numbers.ends(bounds)
    return f"{numbers.plain(ends[0])}–{numbers.plain(ends[1])}" if ends else None


def _reliability(bins: Sequence[Json], tempered: Json) -> Any:
    """The reliability diagram, with the bins after the temperature beside those before; None without images."""
    if not any(bin_.get("count") for bin_ in bins):
        return None
    calibrated = tempered.get("calibration")
    after = objects(calibrated.get("bins")) if isinstance(calibrated, dict) else []
    names = ("as it is", f"with temperature {numbers.plain(tempered.get('value'))}") if after else ("", "")
    return reliability(bins, title=_reliability_title(bins), other=after, names=names)


def _tempered(tempered: Json, content: Json) -> str:
    """What the temperature changes, in a sentence."""
    after, before = tempered.get("calibration"), content.get("calibration")
    if not isinstance(after, dict) or not isinstance(before, dict):
        return ""
    errors = f"from {numbers.percent(before.get('ece'))} to {numbers.percent(after.get('ece'))}"
    losses = f"from {numbers.plain(content.get('loss'))} to {numbers.plain(tempered.get('loss'))}"
    return (
        f"Logits divided by a temperature of {numbers.plain(tempered.get('value'))} change the calibration error "
        f"{errors} and the loss {losses}; the answers stay as they are."
    )


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


def _per_class(rows: Sequence[Json]) -> list[Block]:
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
        return [Part("Class by class", [Chart(bar_chart(bars, title=f"Accuracy of each class: {ends}."), PER_CLASS)])]
    worst = bar_chart(bars[:ENDS], title=f"Accuracy of the {ENDS} hardest classes.")
    best = bar_chart(bars[-ENDS:], title=f"Accuracy of the {ENDS} easiest classes.")
    hardest = Part(f"The {ENDS} hardest of {len(bars)} classes", [Chart(worst, PER_CLASS)])
    return [hardest, Part(f"The {ENDS} easiest", [Chart(best)])]


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


def _mistakes(rows: Sequence[Json], images: np.ndarray | None) -> Images:
    if images is None or images.ndim != 4:
        return Images([])
    shown = []
    for row, image in zip(rows, images, strict=False):
        label, predicted, sure = row.get("label"), row.get("predicted"), numbers.percent(row.get("confidence"))
        alt = f"{row.get('key', 'image')}: true class {label}, taken for {predicted}, {sure} sure"
        shown.append(Tile([picture(image, alt, width=104)], f"{label}, taken for {predicted}, {sure} sure"))
    return Images([shown])
