"""An evaluation on images of several classes each: how well each class is found, and what its threshold makes of it."""

from collections.abc import Sequence

import numpy as np

from vitrail.core import numbers
from vitrail.report.blocks import Block, Chart, Facts, Images, Part, Section, Table, Text, Tile
from vitrail.report.charts.images import picture
from vitrail.report.charts.intervals import Bar, bar_chart
from vitrail.report.folder import Folder, Json, objects, texts
from vitrail.report.page import page
from vitrail.report.sections import left_out

LARGEST_BARS = 40  # classes; above it the ends of the list are shown
ENDS = 20
AVERAGE_PRECISION = (
    "Average precision of each class, from the hardest to the easiest, with 95 % intervals: 100 % where every image "
    "that has the class is ranked above every image that has not. Guessing reaches the share of images that have it."
)
HEAD = ["class", "#images", "#average precision", "#threshold", "#said", "#precision", "#recall", "#F1"]


def multi_label_page(folder: Folder) -> str:
    """The page of a folder that `vitrail evaluate` wrote of such images."""
    content = folder.json("multilabel.json") or {}
    kind = f"Evaluation in folder {folder.path.resolve().name}"
    data = content.get("data")
    title = f"Evaluation on {data}" if data else "Evaluation"
    lead = headline(content) or "This evaluation holds no mean average precision."
    return page(title, lead, [section(folder, title="Results")], kind=kind, problems=folder.problems)


def headline(content: Json) -> str:
    """The mean average precision in a sentence, from a multilabel.json or a result.json; empty where there is none."""
    if not numbers.known(content.get("mean_average_precision")):
        return ""
    images = content.get("count")
    on = f" on {numbers.count(images)} test images of several classes each" if numbers.known(images) else ""
    within = numbers.within(content.get("mean_average_precision_interval"))
    return f"Mean average precision {numbers.percent(content['mean_average_precision'])}{on}{within}."


def section(
    folder: Folder, *, title: str = "Evaluation", anchor: str = "evaluation", opening: str = ""
) -> Section | None:
    """The section of such an evaluation."""
    content = folder.json("multilabel.json")
    if content is None:
        return None
    rows = objects(content.get("per_class"))
    mistakes = _mistakes(objects(content.get("mistakes")), folder.arrays("mistakes.npz").get("images"))
    blocks: list[Block] = [
        Text(opening),
        Facts(_figures(content)),
        *_bars(rows),
        Part("At the thresholds", [Text(_chosen(content)), Table(HEAD, [_cells(row) for row in rows])]),
        Part("Furthest off", [Text("The answers that were furthest from the truth."), mistakes] if mistakes else []),
        left_out.broken_images(content),
    ]
    return Section(title, anchor, blocks)


def _figures(content: Json) -> list[tuple[str, str | None]]:
    def share(key: str) -> str:
        return numbers.measured(content.get(key), content.get(f"{key}_interval"))

    return [
        ("Tested on", content.get("data")),
        ("Model", content.get("model")),
        ("Images", numbers.count(content.get("count"))),
        ("Classes of an image, on average", numbers.plain(content.get("classes_an_image"))),
        ("Mean average precision (mAP)", share("mean_average_precision")),
        ("F1 of all answers together (micro)", share("f1")),
        ("Mean F1 of the classes (macro)", numbers.percent(content.get("mean_f1"))),
        ("All classes of an image right", share("exact")),
        ("Likeliest class is one of the image's", numbers.measured(content.get("accuracy"), content.get("interval"))),
        ("Loss, summed over classes", numbers.plain(content.get("loss"))),
        ("Assumed of the model", " ".join(f"{said}." for said in texts(content.get("assumed"))) or None),
        ("Time", numbers.duration(content.get("seconds"))),
    ]


def _chosen(content: Json) -> str:
    """Where the thresholds come from, in a sentence."""
    thresholds = content.get("thresholds")
    if not isinstance(thresholds, dict):
        return (
            "A class is said from a probability of 50 % on: no threshold was chosen. Held-out images choose better "
            "ones (vitrail evaluate --calibrate-on DATA --store-temperature)."
        )
    own = thresholds.get("own")
    rare = own.count(False) if isinstance(own, list) else 0
    where = f"{numbers.count(thresholds.get('count'))} images of {thresholds.get('data')}"
    said = f"A class is said from its threshold on: the probability with the highest F1 on {where}."
    if thresholds.get("data") == content.get("data"):
        said += " These are the images that are judged here, so precision and recall are flattered."
    if rare:
        said += f" {rare} of the classes had too few images there and share one threshold."
    return said


def _cells(row: Json) -> tuple[str, ...]:
    ends = numbers.ends(row.get("threshold_interval"))
    threshold = numbers.plain(row.get("threshold"))
    return (
        str(row.get("name")),
        numbers.count(row.get("count")),
        numbers.percent(row.get("average_precision")),
        f"{threshold} ({numbers.plain(ends[0])}–{numbers.plain(ends[1])})" if ends else threshold,
        numbers.count(row.get("answered")),
        numbers.measured(row.get("precision"), row.get("precision_interval")),
        numbers.measured(row.get("recall"), row.get("recall_interval")),
        numbers.percent(row.get("f1")),
    )


def _bars(rows: Sequence[Json]) -> list[Block]:
    bars = [
        Bar(
            str(row.get("name")),
            float(row["average_precision"]),
            numbers.ends(row.get("interval")),
            f"{numbers.count(row.get('count'))} images" if numbers.known(row.get("count")) else "",
        )
        for row in rows
        if numbers.known(row.get("average_precision"))
    ]
    bars.sort(key=lambda bar: bar.value)
    if not bars:
        return []
    if len(bars) <= LARGEST_BARS:
        said = f"Average precision of each class: {bars[0].name} is the hardest, {bars[-1].name} the easiest."
        return [Part("Class by class", [Chart(bar_chart(bars, title=said), AVERAGE_PRECISION)])]
    worst = bar_chart(bars[:ENDS], title=f"Average precision of the {ENDS} hardest classes.")
    best = bar_chart(bars[-ENDS:], title=f"Average precision of the {ENDS} easiest classes.")
    hardest = Part(f"The {ENDS} hardest of {len(bars)} classes", [Chart(worst, AVERAGE_PRECISION)])
    return [hardest, Part(f"The {ENDS} easiest", [Chart(best)])]


def _mistakes(rows: Sequence[Json], images: np.ndarray | None) -> Images:
    if images is None or images.ndim != 4:
        return Images([])
    shown = []
    for row, image in zip(rows, images, strict=False):
        there = texts(row.get("labels"))
        sure, name = numbers.percent(row.get("probability")), row.get("name")
        said = f"{', '.join(there) or 'no class'}: {name} {'missed' if name in there else 'said'}, {sure}"
        shown.append(Tile([picture(image, f"{row.get('key', 'image')}: {said}", width=104)], said))
    return Images([shown])
