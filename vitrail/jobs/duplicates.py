"""Near-duplicate removal (section 4.1): training data without the images that are also in the test sets."""

import csv
import io
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vitrail.core.cluster import Cluster
from vitrail.core.device import RuntimeChoice
from vitrail.core.errors import BadInput
from vitrail.core.files import write_text_atomic
from vitrail.core.progress import say
from vitrail.data.open.filtered import write_filtered
from vitrail.data.open.names import open_data
from vitrail.data.quality.near_duplicates import DuplicatePairs, Pair, find_near_duplicates
from vitrail.data.quality.scan import ScannedSet, scan_sets
from vitrail.data.quality.thumbnails import Gallery
from vitrail.data.sources.subset import Subset
from vitrail.records.duplicates import CopiedSet, CopyPair, DuplicatesResult, UnreadableInSet
from vitrail.records.record import write_record
from vitrail.records.runtime import RuntimeInfo

LISTED = 10_000  # pairs in the JSON; the CSV holds all
DRAWN = 24  # pairs on the page: half of them the least similar, which are most in doubt


@dataclass(frozen=True)
class Duplicates:
    """Where to look for copies, of what, and how."""

    train: str
    against: tuple[str, ...] = ()  # none: copies within `train`
    model: str | None = None
    features: float = 0.95


def duplicates(
    config: Duplicates,
    folder: Path | None = None,
    *,
    workers: int | None = None,
    device: str = "auto",
    runtime: RuntimeChoice = "auto",
    cluster: Cluster | None = None,
) -> DuplicatesResult:
    """Finds the copies of `against` in `train`, or those within `train`.

    Where a folder is given, it holds after that duplicates.json, duplicates.csv, pictures.npz and kept.json, the
    filtered view of `train`, which is DATA. `cluster`: whose nodes decode the images and compute features, in place of
    `workers`; the files are the same, but for the seconds.

    Raises:
        BadInput: data that cannot be opened, a threshold that means nothing, or a set without a readable image.
    """
    if not 0 < config.features <= 1:
        raise BadInput(f"--features {config.features} is a cosine from which images are copies; expected 0.8 to 1")
    started = time.perf_counter()
    names = [(config.train, open_data(config.train, "train"))]
    names += [(name, open_data(name, "test")) for name in config.against]
    compared = scan_sets(names, workers, cluster=cluster)
    for one in compared:
        if not one.table.readable.any():
            raise BadInput(f"not one image of {one.name} can be read: {one.table.key[0]}: {one.table.reason[0]}")
    examined = time.perf_counter()
    vectors, computed = features_of(config.model, compared, device, runtime, cluster) if config.model else (None, None)
    say(f"comparing {sum(len(c.table) for c in compared):,} images")
    copies = find_near_duplicates(
        [c.table for c in compared],
        new=len(config.against),
        features=vectors,
        alike_features=config.features,
    )
    train, tests = compared[0], compared[1:]
    pairs, sets = _across(train, tests, copies) if tests else _within(train, copies)
    dropped = np.unique([pair.first if tests else pair.second for _, pair in pairs]).astype(np.int64)
    if not tests:
        dropped = np.flatnonzero(~copies.kept(train.places))
    rows = [_row(train, other, pair) for other, pair in pairs]
    gallery = Gallery()
    for i in _drawn(rows):
        ends = (train, rows[i].first.index), (pairs[i][0], rows[i].second.index)
        pictures = gallery.add_all(*((str(one.start), one.source, index) for one, index in ends))
        rows[i] = replace(rows[i], pictures=pictures)
    result = DuplicatesResult(
        train=config.train,
        against=config.against,
        model=config.model,
        count=len(train.table),
        unreadable=[_broken(c, row) for c in compared for row in np.flatnonzero(~c.table.readable)[:LISTED].tolist()],
        sets=sets,
        found=len(rows),
        pairs=rows[:LISTED],
        dropped=len(dropped),
        kept=len(train.table) - len(dropped),
        view="kept.json" if folder else None,
        seconds=time.perf_counter() - started,
        comparing_seconds=time.perf_counter() - examined,
        runtime=computed,
    )
    if folder is not None:
        write_filtered(folder / "kept.json", config.train, train.source, train.table.index[dropped])
        write_text_atomic(folder / "duplicates.csv", _table(rows))
        gallery.write(folder / "pictures.npz")
        write_record(folder / "duplicates.json", result)
    return result


def features_of(
    model: str, compared: list[ScannedSet], device: str, runtime: RuntimeChoice = "auto", cluster: Cluster | None = None
) -> tuple[np.ndarray, RuntimeInfo]:
    """float32 [n, D] of the images of all sets, NaN for those that cannot be read; and what computed them."""
    from vitrail.core.device import choose_device
    from vitrail.evals.features import features, for_cluster
    from vitrail.runtimes.open_runtime import open_runtime
    from vitrail.weights.load import load

    device, runtime = for_cluster(cluster, device, runtime)
    loaded = load(model, device=choose_device(device))
    images = sum(int(one.table.readable.sum()) for one in compared)
    computed = open_runtime(loaded, runtime, images=images)
    parts = []
    for one in compared:
        rows = np.flatnonzero(one.table.readable)
        some = Subset(one.source, one.table.index[rows])
        values = features(loaded, some, loaded.preprocess, runtime=computed, cluster=cluster).values
        if len(values) != len(rows):
            raise BadInput(f"{one.name} has changed while it was read: {len(rows) - len(values)} images are broken now")
        part = np.full((len(one.table), values.shape[1]), np.nan, np.float32)
        part[rows] = values
        parts.append(part)
    return np.concatenate(parts), computed.info()


def _across(
    train: ScannedSet, tests: list[ScannedSet], copies: DuplicatePairs
) -> tuple[list[tuple[ScannedSet, Pair]], list[CopiedSet]]:
    """The pairs of a training image and a test image, and for each test set how much of it is in `train`."""
    pairs, sets = [], []
    for test in tests:
        touched: set[int] = set()
        conflicts: set[int] = set()
        same = test.source.classes == train.source.classes
        for place in copies.places(train.places):
            for pair in copies.of(place, test.places):
                pairs.append((test, pair))
                touched.add(pair.second)
                if same and train.label(train.row_of(place)) != test.label(test.row_of(pair.second)):
                    conflicts.add(pair.second)
        sets.append(_copied(test, touched, conflicts if same else None))
    return pairs, sets


def _within(train: ScannedSet, copies: DuplicatePairs) -> tuple[list[tuple[ScannedSet, Pair]], list[CopiedSet]]:
    """The pairs within `train`, each once, and how many images have a copy."""
    pairs: list[tuple[ScannedSet, Pair]] = []
    touched: set[int] = set()
    conflicts: set[int] = set()
    for place in copies.places(train.places):
        for pair in copies.of(place, train.places):
            touched.add(place)
            if train.label(train.row_of(pair.first)) != train.label(train.row_of(pair.second)):
                conflicts.add(place)
            if pair.first == place:
                pairs.append((train, pair))
    return pairs, [_copied(train, touched, conflicts)]


def _copied(scanned: ScannedSet, touched: set[int], conflicts: set[int] | None) -> CopiedSet:
    count, copies = len(scanned.table), len(touched)
    different = None if conflicts is None else len(conflicts)
    return CopiedSet(data=scanned.name, count=count, copies=copies, share=copies / count, conflicts=different)


def _row(train: ScannedSet, other: ScannedSet, pair: Pair) -> CopyPair:
    return CopyPair(
        first=train.about(train.row_of(pair.first)),
        second=other.about(other.row_of(pair.second)),
        kind=pair.kind,
        similarity=round(pair.similarity, 4),
        mirrored=pair.mirrored,
        pictures=None,
    )


def _drawn(rows: list[CopyPair]) -> list[int]:
    """Which pairs are shown: the least similar ones, and others from among all; of each image one pair."""
    first: dict[tuple[str, int], int] = {}
    for i in sorted(range(len(rows)), key=lambda i: rows[i].similarity):
        first.setdefault((rows[i].second.data, rows[i].second.index), i)
    order = list(first.values())
    doubtful, others = order[: DRAWN // 2], order[DRAWN // 2 :]
    even = np.linspace(0, len(others) - 1, min(len(others), DRAWN // 2)).astype(int).tolist()
    return [*doubtful, *(others[i] for i in even)]


def _broken(one: ScannedSet, row: int) -> UnreadableInSet:
    return UnreadableInSet(data=one.name, key=str(one.table.key[row]), reason=str(one.table.reason[row]))


def _table(rows: list[CopyPair]) -> str:
    """One line a pair."""
    text = io.StringIO()
    writer = csv.writer(text)
    names = ("data", "index", "key", "label")
    writer.writerow([*names, *(f"copy_{name}" for name in names), "kind", "similarity", "mirrored"])
    for row in rows:
        ends = [getattr(end, name) for end in (row.first, row.second) for name in names]
        writer.writerow([*ends, row.kind, row.similarity, row.mirrored])
    return text.getvalue()


def summary(result: DuplicatesResult) -> str:
    """For people: a line for each set, and what is left."""
    lines = []
    for row in result.sets:
        where = f"also in {result.train}" if result.against else "copies of another"
        said = f"{row.data}: {row.copies:,} of {row.count:,} images ({row.share:.2%}) are {where}"
        lines.append(said + (f", {row.conflicts:,} under another label" if row.conflicts else ""))
    lines.append(f"{result.dropped:,} of the {result.count:,} images of {result.train} are to be left out")
    if result.unreadable:
        lines.append(f"{len(result.unreadable):,} images cannot be read: vitrail data check names them")
    return "\n".join(lines)
