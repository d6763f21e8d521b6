"""The page of an export: how far its answers are from the model's, on hostile inputs and on data, and its speed."""

from vitrail.core import numbers
from vitrail.report.blocks import Facts, Section, Table, Text
from vitrail.report.folder import Folder, Json, objects, texts
from vitrail.report.page import page
from vitrail.report.pages.comparison import section as comparison_section


def export_page(folder: Folder) -> str:
    """The page of a folder that `vitrail export` wrote."""
    content = folder.json("export.json") or {}
    check = content.get("check") if isinstance(content.get("check"), dict) else None
    sections = [
        _proof(content),
        _check(check),
        comparison_section(check.get("comparison"), title="Image by image", opening="") if check else None,
        _speed(content),
        _facts(content),
    ]
    name = str(content.get("model", "A model"))
    title = f"{name.rstrip('/').rpartition('/')[2]} for {content.get('target', 'another runtime')}"
    return page(title, _lead(content, check), sections, kind="Export", problems=folder.problems)


def _lead(content: Json, check: Json | None) -> str:
    rows = [row for row in _rows(content) if row.get("bound") is not None]
    worst = max((row["relative"] for row in rows), default=None)
    said = f"In {content.get('precision', 'an unknown precision')}."
    if worst is not None:
        said += f" Its answers differ from the model's by {numbers.plain(worst, 2)} of the largest number at most."
    if check and numbers.known(check.get("agreement")):
        count = numbers.count(check.get("count"))
        said += f" It gives the same label to {numbers.percent(check['agreement'], 2)} of {count} images."
    return said


def _rows(content: Json) -> list[Json]:
    proof = content.get("proof")
    rows = objects(proof.get("rows") if isinstance(proof, dict) else None)
    return [row for row in rows if numbers.known(row.get("relative"))]


def _proof(content: Json) -> Section:
    proof = content.get("proof") if isinstance(content.get("proof"), dict) else {}
    assert isinstance(proof, dict)
    pixels = proof.get("pixels") if isinstance(proof.get("pixels"), dict) else {}
    assert isinstance(pixels, dict)
    cells = [
        (
            str(row.get("inputs", "")),
            str(row.get("output", "")),
            *(numbers.plain(row.get(key), 2) for key in ("largest", "mean", "relative")),
            "none promised" if row.get("bound") is None else f"{row['bound']:g}",
        )
        for row in _rows(content)
    ]
    head = ["inputs", "output", "#largest", "#mean", "#of the largest", "#promised"]
    facts = Facts(
        [
            ("An answer alone and among others differs by", numbers.plain(proof.get("neighbours"), 2)),
            ("Pixels, of 255, differ on the mean by", numbers.plain(pixels.get("mean"), 2)),
            ("and at most by", numbers.plain(pixels.get("largest"), 2)),
            ("of images", numbers.count(pixels.get("images"))),
        ]
    )
    note = Text(
        "The largest and the mean difference, and the largest over the largest number, for which a bound is promised. "
        "Whole images are black, white, noise and ramps of sizes from 1 x 1 to 500 x 375; batches are noise, the last "
        "of them with a grey, a black and a white image.",
        quiet=True,
    )
    return Section("Against the model in float32", "proof", [Table(head, cells), note, facts])


def _check(check: Json | None) -> Section | None:
    if not check:
        return None
    ends = numbers.ends(check.get("interval"))
    lost = check.get("lost")
    change = f"{-100 * lost:+.2f} points".replace("-", "−") if isinstance(lost, float) else None
    bounds = f"{-100 * ends[1]:+.2f} to {-100 * ends[0]:+.2f}".replace("-", "−") if ends else None
    facts = [
        ("Images", f"{numbers.count(check.get('count'))} of {check.get('data')}"),
        ("The same answer", numbers.percent(check.get("agreement"), 2)),
        ("Accuracy changes by", change),
        ("95 % interval", bounds),
        ("Calibration error of the model", numbers.percent(check.get("ece_model"), 2)),
        ("of the export", numbers.percent(check.get("ece_export"), 2)),
    ]
    return Section("On labelled images", "data", [Facts(facts)])


def _speed(content: Json) -> Section | None:
    rows = [row for row in objects(content.get("speed")) if numbers.known(row.get("images_per_second"))]
    if not rows:
        return None
    cells = [(str(row.get("name")), str(row.get("batch")), f"{row['images_per_second']:.1f}") for row in rows]
    said = f"Images a second on {content.get('machine')}, {numbers.count(content.get('threads'))} threads."
    return Section("Speed", "speed", [Text(said), Table(["runtime", "#batch", "#images/s"], cells)])


def _facts(content: Json) -> Section:
    versions = content.get("versions")
    known = versions.items() if isinstance(versions, dict) else ()
    size = content.get("resolution")
    facts = [
        ("Model", content.get("model")),
        ("Precision", content.get("precision")),
        ("Outputs", ", ".join(texts(content.get("outputs")))),
        ("Classes", numbers.count(len(texts(content.get("classes"))))),
        ("Pixels", f"{size[0]} x {size[1]}" if isinstance(size, list) and len(size) == 2 else None),
        ("Versions", ", ".join(f"{name} {number}" for name, number in known)),
        ("Machine", content.get("machine")),
        ("Its instructions", ", ".join(texts(content.get("instructions")))),
        ("predict.py, one image, start included", numbers.duration(content.get("cold_start"))),
    ]
    return Section("What it is", "what", [Facts(facts), *(Text(note) for note in texts(content.get("notes")))])
