"""The doctor's visit: data examined in one pass, what is wrong with them, and what to leave out."""

import csv
import io
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vitrail.core.errors import BadInput
from vitrail.core.files import write_text_atomic
from vitrail.core.progress import say
from vitrail.core.resumable import alone_in
from vitrail.core.seeds import generator
from vitrail.data.decode.image import decode
from vitrail.data.open.filtered import write_filtered
from vitrail.data.open.names import open_data, splits_of
from vitrail.data.quality.findings import UNLIKELY, Finding, Issue, findings
from vitrail.data.quality.near_duplicates import find_near_duplicates
from vitrail.data.quality.scan import Look, ScannedSet, look, scan_sets
from vitrail.data.quality.thumbnails import Gallery
from vitrail.data.quality.untrusted import Guard
from vitrail.data.sources.base import Source
from vitrail.data.sources.shard_digests import refuse_damaged
from vitrail.data.sources.split_names import DataName, meaning
from vitrail.data.sources.subset import Subset
from vitrail.records.data_check import CheckFinding, DataCheck, ScannedData
from vitrail.records.images import ClassCount
from vitrail.records.record import write_record

SAMPLE = 1000  # images that --quick reads of each set
LISTED = 1000  # items of a finding in the JSON, and ten times as many unreadable ones; the CSV holds all
DRAWN = 12  # items of a finding on the page
NEIGHBOURS = 10
AGREED = 0.8  # share of the neighbours that makes another class likely
DOUBTED = 0.05  # probability, or share of the neighbours, up to which a label is unlikely
WORK = 4e9  # images x features x classes up to which classifiers are fitted: minutes on two cores


@dataclass(frozen=True)
class Check:
    """What to examine, and with what to compare it."""

    data: str
    against: tuple[str, ...] = ()
    model: str | None = None
    quick: bool = False
    few: int = 10
    untrusted: bool = False  # decode in a process with limits, which may die of an image


def check(config: Check, folder: Path | None = None, *, workers: int | None = None, device: str = "auto") -> DataCheck:
    """Examines the data; the data themselves are only read.

    Where a folder is given, it holds after that check.json, findings.csv, drop.csv, pictures.npz, and for each set a
    filtered view without what is to be dropped, which is DATA.

    Raises:
        BadInput: data that cannot be opened, or prepared shards whose bytes are not those that were written.
    """
    started = time.perf_counter()
    if config.few < 0:
        raise BadInput(f"--few {config.few} is a number of images of a class, expected 0 or more")
    if config.untrusted and config.model is not None:
        raise BadInput("features are made of images that are decoded here: leave out --model with --untrusted")
    guard = Guard() if config.untrusted else None
    sets = _scanned(config, workers, guard or look)
    copies = None
    if not config.quick:
        say(f"comparing {sum(len(p.table) for p in sets):,} images")
        copies = find_near_duplicates([p.table for p in sets], new=len(config.against))
    found = findings(sets, copies, config.few)
    if config.model is not None:
        found += _unlikely(config.model, [p for p in sets if p.judged], device)
    gallery = Gallery((lambda data: guard(data).pixels) if guard else decode)
    rows = [_row(finding, gallery) for finding in found]
    drops = _drops(found)
    if guard:
        guard.close()
    with alone_in(folder):
        result = DataCheck(
            data=config.data,
            against=config.against,
            model=config.model,
            quick=config.quick,
            count=sum(len(p.source) for p in sets if p.judged),
            examined=sum(len(p.table) for p in sets if p.judged),
            sets=[_about(p) for p in sets],
            findings=rows,
            dropped=len(drops),
            views=_write_views(folder, sets, found) if folder is not None else {},
            seconds=time.perf_counter() - started,
        )
        if folder is not None:
            write_text_atomic(folder / "findings.csv", _table([(f, item) for f in found for item in f.items]))
            write_text_atomic(folder / "drop.csv", _table(drops))
            gallery.write(folder / "pictures.npz")
            write_record(folder / "check.json", result)
    return result


def _scanned(config: Check, workers: int | None, looking: Look) -> list[ScannedSet]:
    """All sets, examined: the splits of the data, then those that they are compared with."""
    judged = [(name, open_data(name, "train")) for name in _splits(config.data)]
    opened = [*judged, *((name, open_data(name, "test")) for name in config.against)]
    for name, source in opened:
        say(f"{name}: {len(source):,} images in {len(source.classes):,} classes")
        if not config.quick:
            refuse_damaged(getattr(source.base(), "files", ()))
    sample, workers = (_sample, 1) if config.quick else (None, workers)
    sets = scan_sets(opened, workers, sample=sample, looking=looking)
    return [replace(scanned, judged=i < len(judged)) for i, scanned in enumerate(sets)]


def _splits(data: str) -> list[str]:
    """The names of all splits of data that name none, the one for training first."""
    name = DataName.parse(data)
    splits = [split for split in splits_of(data) if meaning(split)]  # others may overlap, as seen-train with train
    return [str(name.of(split)) for split in splits] or [data]


def _sample(source: Source) -> np.ndarray:
    if len(source) <= SAMPLE:
        return np.arange(len(source))
    return np.unique(generator(0, "quick check").integers(0, len(source), SAMPLE))


def _unlikely(model: str, judged: list[ScannedSet], device: str) -> list[Finding]:
    """Labels that are probably wrong, by what the model's frozen features of the other images say."""
    import torch

    from vitrail.core.device import choose_device
    from vitrail.evals.inference import run_inference
    from vitrail.weights.load import load

    loaded = load(model, device=choose_device(device))
    items = []
    for scanned in judged:
        rows = np.flatnonzero(scanned.table.readable)
        counts = np.bincount(scanned.source.labels[scanned.table.index[rows]], minlength=len(scanned.source.classes))
        rows = rows[counts[scanned.source.labels[scanned.table.index[rows]]] > 1]  # one image says nothing of itself
        if len(rows) <= NEIGHBOURS or (counts > 1).sum() < 2:
            continue
        readable = Subset(scanned.source, scanned.table.index[rows])
        parts = list(run_inference(loaded, readable, loaded.preprocess, title=f"labels of {scanned.name}"))
        if sum(len(part.batch.labels) for part in parts) != len(rows):
            raise BadInput(f"{scanned.name} has changed while it was read")
        values = torch.cat([part.representation for part in parts]).numpy()
        found = _doubted(values, readable.labels)
        for i, rather, share in zip(found.rows, found.rather, found.shares, strict=True):
            said = (
                f"labelled {scanned.label(int(rows[i]))}; {share:.0%} {found.by} say {scanned.source.classes[rather]}"
            )
            items.append(Issue(scanned, int(rows[i]), said))
    return [Finding("unlikely", *UNLIKELY, items)] if items else []


class _Doubts(NamedTuple):
    rows: list[int]  # the most doubtful first
    rather: list[int]  # classes
    shares: list[float]  # of these
    by: str


def _doubted(values: np.ndarray, labels: np.ndarray) -> _Doubts:
    """Confident learning; of more numbers than WORK allows, what none of the neighbours believes."""
    from vitrail.evals.confident_learning import label_errors, out_of_fold
    from vitrail.evals.knn import leave_one_out

    classes, number = np.unique(labels, return_inverse=True)
    if values.size * len(classes) <= WORK:
        shares = out_of_fold(values, number, len(classes))
        found = label_errors(number, shares)
        by = "by the other images' features"
        unlikely = shares[found.places, number[found.places]] <= DOUBTED
        places, rather = found.places[unlikely], found.rather[unlikely]
        return _Doubts(places.tolist(), classes[rather].tolist(), shares[places, rather].tolist(), by)
    predicted, share, own = leave_one_out(values, number, len(classes), NEIGHBOURS)
    doubted = np.flatnonzero((own <= DOUBTED) & (share >= AGREED))
    doubted = doubted[np.argsort(-share[doubted], kind="stable")]
    by = f"of {NEIGHBOURS} neighbours"
    return _Doubts(doubted.tolist(), classes[predicted[doubted]].tolist(), share[doubted].tolist(), by)


def _row(finding: Finding, gallery: Gallery) -> CheckFinding:
    """A finding for check.json, with pictures of its first items."""
    most = 10 * LISTED if finding.kind == "unreadable" else LISTED
    items = [
        item.item(_pictures(item, gallery) if number < DRAWN else ())
        for number, item in enumerate(finding.items[:most])
    ]
    title, advice = finding.title, finding.advice
    return CheckFinding(kind=finding.kind, title=title, advice=advice, count=len(finding.items), items=items)


def _pictures(item: Issue, gallery: Gallery) -> list[int]:
    """The numbers of the pictures of an item and its copy, those that can be drawn."""
    ends = [(item.scanned, item.row), *([item.other] if item.other else [])]
    numbers = [
        gallery.add(str(p.start), p.source, int(p.table.index[row]))
        for p, row in ends
        if row is not None and p.table.readable[row]
    ]
    return [number for number in numbers if number is not None]


def _drops(found: list[Finding]) -> list[tuple[Finding, Issue]]:
    """Each image that is to be dropped once, with the first reason."""
    seen: dict[tuple[int, int], tuple[Finding, Issue]] = {}
    for finding in found:
        for item in finding.items:
            if item.drop and item.row is not None:
                seen.setdefault((item.scanned.start, item.row), (finding, item))
    return [seen[key] for key in sorted(seen)]


def _about(scanned: ScannedSet) -> ScannedData:
    """A set for check.json."""
    table, readable = scanned.table, scanned.table.readable
    counts = np.bincount(scanned.source.labels, minlength=len(scanned.source.classes)).tolist()
    sides = np.sort(table.size[readable].min(axis=1)) if readable.any() else np.zeros(0)
    return ScannedData(
        data=scanned.name,
        judged=scanned.judged,
        count=len(scanned.source),
        examined=len(table),
        readable=int(readable.sum()),
        classes=[ClassCount(name=name, count=n) for name, n in zip(scanned.source.classes, counts, strict=True)],
        formats=_tally(table.kind[readable], "pixels"),
        modes=_tally(table.mode[readable], "RGB"),
        short_side=[int(sides[i]) for i in (0, len(sides) // 2, -1)] if len(sides) else None,
    )


def _tally(texts: np.ndarray, empty: str) -> dict[str, int]:
    names, counts = np.unique(texts, return_counts=True)
    return {str(name) or empty: int(count) for name, count in zip(names, counts, strict=True)}


def _write_views(folder: Path, sets: list[ScannedSet], found: list[Finding]) -> dict[str, str]:
    """A view of each judged set from which something is dropped, and the names of the files."""
    drops: dict[int, list[int]] = {}
    for _, item in _drops(found):
        assert item.row is not None
        drops.setdefault(item.scanned.start, []).append(int(item.scanned.table.index[item.row]))
    judged = [p for p in sets if p.judged]
    written = {}
    for scanned in judged:
        split = DataName.parse(scanned.name).split if len(judged) > 1 else None
        left_out = np.array(drops.get(scanned.start, []), np.int64)
        name = f"kept-{split}.json" if split else "kept.json"
        if len(left_out) and len(left_out) < len(scanned.source):
            written[scanned.name] = name
            write_filtered(folder / name, scanned.name, scanned.source, left_out)
        else:
            (folder / name).unlink(missing_ok=True)  # of an earlier visit
    return written


def _table(rows: list[tuple[Finding, Issue]]) -> str:
    """A line for each item."""
    text = io.StringIO()
    writer = csv.writer(text)
    names = ("data", "index", "key", "label")
    writer.writerow([*names, "finding", "said", "drop", *(f"other_{name}" for name in names)])
    for finding, item in rows:
        told = item.item()
        line = [*(getattr(told, name) for name in names), finding.kind, told.said, told.drop]
        writer.writerow([*line, *(getattr(told.other, name, None) for name in names)])
    return text.getvalue()


def summary(result: DataCheck) -> str:
    """For people: a line for each kind of finding, with its first item."""
    looked = "" if result.examined == result.count else f" ({result.examined:,} of them read)"
    lines = [f"{result.data}: {result.count:,} images{looked}"]
    for finding in result.findings:
        first = finding.items[0]
        name = f"{first.key}: " if first.key else ""
        lines.append(f"  {finding.title.lower():<36} {finding.count:>8,}   {name}{first.said}")
    if not result.findings:
        lines.append("  nothing found")
    lines.append(f"{result.dropped:,} images are to be left out")
    return "\n".join(lines)
