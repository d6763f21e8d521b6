"""The pages of `data check` (what was found, with pictures) and of `data duplicates` (copies in training and test)."""

from collections.abc import Sequence

import numpy as np

from vitrail.core import numbers
from vitrail.report.blocks import Block, Chart, Images, Picture, Section, Table, Text, Tile, paragraphs
from vitrail.report.charts.images import fitted
from vitrail.report.charts.intervals import Bar, bar_chart
from vitrail.report.folder import Folder, Json, objects
from vitrail.report.page import page
from vitrail.report.sections.train_test_overlap import WIDTH, pair_tile

SHOWN = 24  # items of a finding in its table
CLASSES = 40  # bars of class sizes; above, the ends of the list


def check_page(folder: Folder) -> str:
    """The page of a folder that `vitrail data check` wrote."""
    content = folder.json("check.json") or {}
    found = objects(content.get("findings"))
    pictures = folder.arrays("pictures.npz")
    sections: list[Section | None] = [_overview(content, found)]
    sections += [_finding(i, finding, pictures) for i, finding in enumerate(found)]
    sections += [_classes(one) for one in objects(content.get("sets")) if one.get("judged")]
    kind = f"Data check in folder {folder.path.resolve().name}"
    return page(
        f"Check of {content.get('data', 'data')}", _lead(content, found), sections, kind=kind, problems=folder.problems
    )


def _lead(content: Json, found: Sequence[Json]) -> str:
    images = f"{numbers.count(content.get('examined'))} images were examined"
    if content.get("quick"):
        images = (
            f"{numbers.count(content.get('examined'))} of {numbers.count(content.get('count'))} images were examined"
        )
    if not found:
        return f"{images}. Nothing was found."
    drop = content.get("dropped") or 0
    out = f"{numbers.count(drop)} should be left out" if drop else "none needs to be left out"
    return f"{images}; {out}."


def _overview(content: Json, found: Sequence[Json]) -> Section:
    rows = [(f.get("title", ""), numbers.count(f.get("count")), f.get("advice", "")) for f in found]
    sets = [
        (
            one.get("data", ""),
            numbers.count(one.get("count")),
            numbers.count(one.get("readable")),
            numbers.count(len(objects(one.get("classes")))),
            _counted(one.get("formats")),
            _counted(one.get("modes")),
            _sides(one.get("short_side")),
        )
        for one in objects(content.get("sets"))
    ]
    views = content.get("views")
    files = (
        [f"{name} is {data} without them, and is DATA for every command." for data, name in views.items()]
        if isinstance(views, dict)
        else []
    )
    if found:
        files = ["findings.csv lists all that was found, drop.csv what should be left out.", *files]
    blocks = [
        *paragraphs(files),
        Table(["finding", "#images", "what to do"], rows, prose=2),
        Table(["set", "#images", "#read", "#classes", "formats", "colour modes", "shorter side"], sets),
    ]
    return Section("Overview", "overview", blocks)


def _counted(tally: object) -> str:
    if not isinstance(tally, dict):
        return numbers.UNKNOWN
    return ", ".join(f"{name} {numbers.count(count)}" for name, count in sorted(tally.items(), key=lambda t: -t[1]))


def _sides(sides: object) -> str:
    if not isinstance(sides, list) or len(sides) != 3:
        return numbers.UNKNOWN
    low, middle, high = sides
    return f"{low} px" if low == high else f"{low} to {high} px, half below {middle}"


def _finding(number: int, finding: Json, pictures: dict[str, np.ndarray]) -> Section:
    items = objects(finding.get("items"))
    rows = [
        (item.get("key") or "", item.get("label") or "", item.get("said", ""), _other(item)) for item in items[:SHOWN]
    ]
    with_other = any(row[3] for row in rows)
    head = ["image", "class", "what"] + (["and"] if with_other else [])
    drawn = [Tile(_pictures(item, pictures), f"{item.get('label')}: {item.get('said')}") for item in items]
    said = Text(f"{numbers.count(finding.get('count') or 0)} found. {finding.get('advice', '')}")
    listed: Block = Table(head, [row if with_other else row[:3] for row in rows], prose=2)
    if not (rows and rows[0][0]):  # it is about a class or a set, not about images
        listed = Text("; ".join(row[2] for row in rows), quiet=True)
    return Section(str(finding.get("title", "Finding")), f"finding-{number}", [said, Images([drawn]), listed])


def _other(item: Json) -> str:
    other = item.get("other")
    return str(other.get("key") or "") if isinstance(other, dict) else ""


def _pictures(item: Json, pictures: dict[str, np.ndarray]) -> list[Picture]:
    held = [pictures.get(str(number)) for number in item.get("pictures") or []]
    return [
        fitted(pixels, str(item.get("key") or "image"), WIDTH)
        for pixels in held
        if pixels is not None and pixels.ndim == 3
    ]


def _classes(one: Json) -> Section | None:
    classes = objects(one.get("classes"))
    known = [(str(c.get("name")), int(c["count"])) for c in classes if numbers.known(c.get("count"))]
    largest = max((count for _, count in known), default=0)
    if not largest:
        return None
    known.sort(key=lambda pair: pair[1])
    few = known if len(known) <= CLASSES else known[: CLASSES // 2] + known[-CLASSES // 2 :]
    bars = [Bar(name, count / largest, None, f"{numbers.count(count)} images") for name, count in few]
    said = (
        f"Images of {len(known)} classes of {one.get('data')}, from the smallest to the largest, against the largest."
    )
    if len(few) < len(known):
        said += f" The {CLASSES // 2} smallest and largest are shown."
    anchor = f"classes-{str(one.get('data')).replace('/', '-')}"
    return Section(f"Classes of {one.get('data')}", anchor, [Text(said), Chart(bar_chart(bars, title=said))])


def duplicates_page(folder: Folder) -> str:
    """The page of a folder that `vitrail data duplicates` wrote."""
    content = folder.json("duplicates.json") or {}
    pictures = folder.arrays("pictures.npz")
    pairs = objects(content.get("pairs"))
    tested = bool(content.get("against"))
    rows = [
        (
            one.get("data", ""),
            numbers.count(one.get("count")),
            numbers.count(one.get("copies")),
            numbers.percent(one.get("share"), 2),
            numbers.count(one.get("conflicts")),
        )
        for one in objects(content.get("sets"))
    ]
    which = "#also in training" if tested else "#have a copy"
    with_pictures = [pair for pair in pairs if pair.get("pictures") and numbers.known(pair.get("similarity"))]
    with_pictures.sort(key=lambda pair: float(pair["similarity"]))
    drawn = Images([[pair_tile(pair, ("first", "second"), pictures) for pair in with_pictures]])
    kinds = [str(pair.get("kind")) for pair in pairs]
    counts = ", ".join(f"{kinds.count(kind):,} {kind}" for kind in dict.fromkeys(kinds))
    sentences = [f"{numbers.count(content.get('found'))} pairs: {counts}." if pairs else "No image has a copy."]
    if content.get("view"):
        sentences.append(
            f"{content['view']} is {content.get('train')} without the copies, and is DATA for every command."
        )
    table = Table(["set", "#images", which, "#share", "#under another label"], rows)
    order = Text("The least similar pairs come first: where they are copies, so are the others.")
    sections = [
        Section("Overview", "overview", [*paragraphs(sentences), table]),
        Section("Pairs", "pairs", [order, drawn]) if drawn else None,
    ]
    lead = (
        f"{numbers.count(content.get('dropped'))} of {numbers.count(content.get('count'))} images are to be left out."
    )
    title = f"Copies in {content.get('train', 'data')}"
    kind = f"Duplicates in folder {folder.path.resolve().name}"
    return page(title, lead, sections, kind=kind, problems=folder.problems)
