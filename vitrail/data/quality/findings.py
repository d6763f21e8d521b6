"""The doctor: what is wrong with data, from one pass over them (`examination`) and their copies (`duplicates`)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from vitrail.data.quality import phash
from vitrail.data.quality.near_duplicates import DuplicatePairs
from vitrail.data.quality.scan import ScannedSet, promised
from vitrail.data.sources.base import FileSource
from vitrail.records.data_check import CheckItem
from vitrail.records.images import Pictures

LARGE = 64.0  # times the median number of pixels from which an image is odd
SMALL = 1 / 16  # and up to which
TINY = 8  # pixels of the shorter side below which there is nothing to see
LONG = 4.0  # ratio of the sides from which an image is odd
RARE = 0.1  # share below which grey images among colour images are odd
UNEVEN = 10.0  # times the images of the smallest class that the largest may have

MODES = {
    "CMYK": "CMYK, the colours of print",
    "YCCK": "YCCK, the colours of print",
    "LAB": "Lab colours",
    "P": "a palette of colours",
    "PA": "a palette with transparency",
    "RGBA": "with transparency",
    "LA": "grey with transparency",
    "1": "black and white",
    "L": "grey among colour images",
}


class Issue(NamedTuple):
    """One thing that was found: in which set, about which row of its table (None: a class), and what is the matter."""

    scanned: ScannedSet
    row: int | None
    said: str
    drop: bool = False
    other: tuple[ScannedSet, int] | None = None  # the copy
    label: str = ""  # the class, where it is not about an image

    def item(self, pictures: Pictures = ()) -> CheckItem:
        """What check.json says of it."""
        image = None if self.row is None else self.scanned.about(self.row)
        return CheckItem(
            data=self.scanned.name,
            said=self.said,
            drop=self.drop,
            index=image.index if image else None,
            key=image.key if image else None,
            label=image.label if image else self.label,
            other=self.other[0].about(self.other[1]) if self.other else None,
            pictures=pictures,
        )


@dataclass(frozen=True)
class Finding:
    """All items of one kind, and what to do about them."""

    kind: str
    title: str
    advice: str
    items: list[Issue] = field(default_factory=list)


def findings(sets: list[ScannedSet], copies: DuplicatePairs | None, few: int) -> list[Finding]:
    """What is wrong, the worst first; kinds without an item are left out. Without `copies` none are looked for."""
    judged = [scanned for scanned in sets if scanned.judged]
    found = [
        Finding(kind, title, advice, [item for scanned in judged for item in look(scanned)])
        for kind, title, advice, look in _LOOKS
    ]
    if copies is not None:
        found[1:1] = _copies(sets, copies)
    found.append(Finding("few", *_FEW, [item for scanned in judged for item in _few(scanned, few)]))
    return [finding for finding in found if finding.items]


def _unreadable(scanned: ScannedSet) -> Iterator[Issue]:
    for row in np.flatnonzero(~scanned.table.readable).tolist():
        yield Issue(scanned, row, str(scanned.table.reason[row]), drop=True)


def _not_used(scanned: ScannedSet) -> Iterator[Issue]:
    """What the source leaves out, as members of a tar that might be an attack."""
    if scanned.source.skipped is not None:
        for line in scanned.source.skipped.lines():
            yield Issue(scanned, None, line)


def _named_twice(scanned: ScannedSet) -> Iterator[Issue]:
    """Files that the source lists more than once; found without reading them."""
    if not isinstance(scanned.source, FileSource):
        return
    names = scanned.source.names.dictionary_encode().indices.to_numpy(zero_copy_only=False)
    labels = scanned.source.labels
    order = np.lexsort((np.arange(len(names)), names))
    again = order[1:][np.diff(names[order]) == 0]
    first = dict(zip(names[order[::-1]].tolist(), order[::-1].tolist(), strict=True)) if len(again) else {}
    for index in np.sort(again).tolist():
        before = first[int(names[index])]
        classes = scanned.source.classes
        one, two = classes[int(labels[before])], classes[int(labels[index])]
        name = scanned.source.names[index].as_py().decode("utf-8", "backslashreplace")
        said = f"{name} is image {before} and image {index}"
        yield Issue(scanned, None, said if one == two else f"{said}, as {one} and as {two}", label=two)


def _extension(scanned: ScannedSet) -> Iterator[Issue]:
    table = scanned.table
    for row in np.flatnonzero((table.kind != "") & table.readable).tolist():
        kind, promise = str(table.kind[row]), promised(str(table.key[row]))
        if promise and promise != kind:
            yield Issue(scanned, row, f"holds {kind}, its name says {promise}")


def _mode(scanned: ScannedSet) -> Iterator[Issue]:
    modes = scanned.table.mode
    grey_is_odd = 0 < np.mean(modes == "L") < RARE
    for row in np.flatnonzero((modes != "") & (modes != "RGB") & scanned.table.readable).tolist():
        mode = str(modes[row])
        if mode != "L" or grey_is_odd:
            sixteen = mode.startswith("I") or mode == "F"
            yield Issue(scanned, row, MODES.get(mode, "more than 8 bits a channel" if sixteen else f"mode {mode}"))


def _size(scanned: ScannedSet) -> Iterator[Issue]:
    table = scanned.table
    rows = np.flatnonzero(table.readable)
    if not len(rows):
        return
    height, width = table.size[rows].T.astype(np.float64)
    pixels, ratio = height * width, np.maximum(height, width) / np.minimum(height, width)
    median = float(np.median(pixels))
    for i, row in enumerate(rows.tolist()):
        shape = f"{width[i]:.0f} x {height[i]:.0f} pixels"
        if min(height[i], width[i]) < min(TINY, median**0.5):
            yield Issue(scanned, row, f"{shape}: too small to show anything")
        elif ratio[i] >= LONG:
            yield Issue(scanned, row, f"{shape}: {ratio[i]:.1f} times as long as it is wide")
        elif pixels[i] >= LARGE * median or pixels[i] <= SMALL * median:
            yield Issue(scanned, row, f"{shape}, where half of the images have {median**0.5:.0f} x {median**0.5:.0f}")


def _turned(scanned: ScannedSet) -> Iterator[Issue]:
    for row in np.flatnonzero(scanned.table.turn != 1).tolist():
        yield Issue(scanned, row, f"EXIF orientation {scanned.table.turn[row]}")


def _flat(scanned: ScannedSet) -> Iterator[Issue]:
    flat = phash.flat(scanned.table.thumbnail) & scanned.table.readable
    for row in np.flatnonzero(flat).tolist():
        yield Issue(scanned, row, "almost one grey from edge to edge")


def _imbalance(scanned: ScannedSet) -> Iterator[Issue]:
    counts = _counts(scanned)
    present = np.flatnonzero(counts)
    if len(present) < 2:
        return
    large, small = present[counts[present].argmax()], present[counts[present].argmin()]
    ratio = counts[large] / counts[small]
    if ratio >= UNEVEN:
        classes = scanned.source.classes
        said = f"{classes[large]} has {counts[large]:,} images, {classes[small]} {counts[small]:,}: {ratio:,.0f} times"
        yield Issue(scanned, None, said, label=classes[small])


def _few(scanned: ScannedSet, few: int) -> Iterator[Issue]:
    for label, count in enumerate(_counts(scanned).tolist()):
        if count < few:
            name = scanned.source.classes[label]
            yield Issue(scanned, None, f"{name}: {count} image{'' if count == 1 else 's'}", label=name)


def _counts(scanned: ScannedSet) -> np.ndarray:
    return np.bincount(scanned.source.labels, minlength=len(scanned.source.classes))


Look = Callable[[ScannedSet], Iterator[Issue]]
_LOOKS: tuple[tuple[str, str, str, Look], ...] = (
    ("unreadable", "Unreadable images", "They cannot be decoded: take them out, or get them again.", _unreadable),
    (
        "not used",
        "Members that are not used",
        "Left out when the data are opened: see that nothing is lost.",
        _not_used,
    ),
    ("named twice", "Files named more than once", "The same file counts several times: name it once.", _named_twice),
    (
        "extension",
        "Wrong extensions",
        "vitrail goes by the content; other programs may stumble: rename them.",
        _extension,
    ),
    ("mode", "Odd colour modes", "vitrail turns all into RGB, transparency onto black: see that this suits.", _mode),
    ("size", "Odd sizes", "Look at them: strips, icons and scans are often not what a class is meant to show.", _size),
    ("turned", "Turned by EXIF", "vitrail turns them upright; programs that do not will see them lie.", _turned),
    ("flat", "Almost one colour", "Often a placeholder for an image that was lost: look at them.", _flat),
    (
        "imbalance",
        "Unequal classes",
        "Report the mean accuracy of the classes; sampling can be balanced over them.",
        _imbalance,
    ),
)
_FEW = ("Classes with few images", "Too few to learn from, or to measure on: collect more, or merge classes.")


def _copies(sets: list[ScannedSet], copies: DuplicatePairs) -> list[Finding]:
    """Copies across sets, under two labels, and within sets."""
    leaks: list[Issue] = []
    conflicts: list[Issue] = []
    equal: list[Issue] = []
    near: list[Issue] = []
    for i, scanned in enumerate(sets):
        if not scanned.judged:
            continue
        kept = copies.kept(scanned.places)
        for place in copies.places(scanned.places):
            row = scanned.row_of(place)
            for other in sets[i + 1 :]:
                for pair in copies.of(place, other.places, most=1):
                    copy = other.row_of(pair.second)
                    said = f"{_how(pair.kind, pair.mirrored)} in {other.name}"
                    leaks.append(Issue(scanned, row, said, drop=True, other=(other, copy)))
            others = copies.of(place, scanned.places)
            if not others:
                continue
            for pair in others:
                copy = scanned.row_of(pair.second if pair.first == place else pair.first)
                if scanned.label(copy) != scanned.label(row):
                    said = f"as {scanned.label(row)}, and as {scanned.label(copy)}"
                    conflicts.append(Issue(scanned, row, said, drop=True, other=(scanned, copy)))
                    break
            first = next((pair for pair in others if pair.second == place), None)
            if first is not None:
                copy = scanned.row_of(first.first)
                item = Issue(scanned, row, _how(first.kind, first.mirrored), not kept[row], (scanned, copy))
                (equal if first.kind == "exact" else near).append(item)
    return [
        Finding(
            "leak",
            "Images that are in two sets",
            "What is tested must not have been learned: take them out of the first.",
            leaks,
        ),
        Finding(
            "conflict",
            "The same image under two labels",
            "One of the labels is wrong, or both are right: correct them, or take both out.",
            conflicts,
        ),
        Finding("exact", "Exact copies", "The same pixels again: one is enough.", equal),
        Finding("near", "Near copies", "The same picture, encoded, cut or lit in another way: one is enough.", near),
    ]


def _how(kind: str, mirrored: bool) -> str:
    if kind == "exact":
        return "the same pixels"
    if kind == "features":
        return "almost the same to the model"
    return "almost the same, mirrored" if mirrored else "almost the same"


UNLIKELY = (
    "Unlikely labels",
    "The model is sure of another class: look at them, and correct the labels that are wrong.",
)
