"""The doctor: what is wrong with data, from one pass over them (`examination`) and their copies (`duplicates`)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from vitrail.data.quality import phash
from vitrail.data.quality.near_duplicates import DuplicatePairs
from vitrail.data.quality.scan import Scanned, promised
from vitrail.data.sources.base import FileSource, Source

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


@dataclass(frozen=True)
class ScannedSet:
    """A set to examine. `judged` is false for those that others are only compared with."""

    name: str
    source: Source
    table: Scanned
    start: int = 0  # the place of its first image among those of all sets
    judged: bool = True

    @property
    def places(self) -> range:
        """Of its images among all."""
        return range(self.start, self.start + len(self.table))

    def label(self, row: int) -> str:
        """The name of the class of the image in that row of the table."""
        return self.source.classes[int(self.source.labels[self.table.index[row]])]

    def row_of(self, place: int) -> int:
        """The row of an image, from its place among all."""
        return place - self.start


class Issue(NamedTuple):
    """One thing that was found: in which set, about which row of its table (None: a class), and what is the matter."""

    patient: ScannedSet
    row: int | None
    said: str
    drop: bool = False
    other: tuple[ScannedSet, int] | None = None  # the copy
    label: str = ""  # the class, where it is not about an image

    def as_json(self) -> dict[str, Any]:
        """For check.json."""
        told: dict[str, Any] = {"data": self.patient.name, "said": self.said, "drop": self.drop}
        told |= (
            {"index": None, "key": None, "label": self.label} if self.row is None else _about(self.patient, self.row)
        )
        if self.other is not None:
            told["other"] = {"data": self.other[0].name, **_about(*self.other)}
        return told


def _about(patient: ScannedSet, row: int) -> dict[str, Any]:
    table = patient.table
    return {"index": int(table.index[row]), "key": str(table.key[row]), "label": patient.label(row)}


@dataclass(frozen=True)
class Finding:
    """All items of one kind, and what to do about them."""

    kind: str
    title: str
    advice: str
    items: list[Issue] = field(default_factory=list)


def findings(patients: list[ScannedSet], copies: DuplicatePairs | None, few: int) -> list[Finding]:
    """What is wrong, the worst first; kinds without an item are left out. Without `copies` none are looked for."""
    judged = [patient for patient in patients if patient.judged]
    found = [
        Finding(kind, title, advice, [item for patient in judged for item in look(patient)])
        for kind, title, advice, look in _LOOKS
    ]
    if copies is not None:
        found[1:1] = _copies(patients, copies)
    found.append(Finding("few", *_FEW, [item for patient in judged for item in _few(patient, few)]))
    return [finding for finding in found if finding.items]


def _unreadable(patient: ScannedSet) -> Iterator[Issue]:
    for row in np.flatnonzero(~patient.table.readable).tolist():
        yield Issue(patient, row, str(patient.table.reason[row]), drop=True)


def _not_used(patient: ScannedSet) -> Iterator[Issue]:
    """What the source leaves out, as members of a tar that might be an attack."""
    if patient.source.skipped is not None:
        for line in patient.source.skipped.lines():
            yield Issue(patient, None, line)


def _named_twice(patient: ScannedSet) -> Iterator[Issue]:
    """Files that the source lists more than once; found without reading them."""
    if not isinstance(patient.source, FileSource):
        return
    names = patient.source.names.dictionary_encode().indices.to_numpy(zero_copy_only=False)
    labels = patient.source.labels
    order = np.lexsort((np.arange(len(names)), names))
    again = order[1:][np.diff(names[order]) == 0]
    first = dict(zip(names[order[::-1]].tolist(), order[::-1].tolist(), strict=True)) if len(again) else {}
    for index in np.sort(again).tolist():
        before = first[int(names[index])]
        classes = patient.source.classes
        one, two = classes[int(labels[before])], classes[int(labels[index])]
        name = patient.source.names[index].as_py().decode("utf-8", "backslashreplace")
        said = f"{name} is image {before} and image {index}"
        yield Issue(patient, None, said if one == two else f"{said}, as {one} and as {two}", label=two)


def _extension(patient: ScannedSet) -> Iterator[Issue]:
    table = patient.table
    for row in np.flatnonzero((table.kind != "") & table.readable).tolist():
        kind, promise = str(table.kind[row]), promised(str(table.key[row]))
        if promise and promise != kind:
            yield Issue(patient, row, f"holds {kind}, its name says {promise}")


def _mode(patient: ScannedSet) -> Iterator[Issue]:
    modes = patient.table.mode
    grey_is_odd = 0 < np.mean(modes == "L") < RARE
    for row in np.flatnonzero((modes != "") & (modes != "RGB") & patient.table.readable).tolist():
        mode = str(modes[row])
        if mode != "L" or grey_is_odd:
            sixteen = mode.startswith("I") or mode == "F"
            yield Issue(patient, row, MODES.get(mode, "more than 8 bits a channel" if sixteen else f"mode {mode}"))


def _size(patient: ScannedSet) -> Iterator[Issue]:
    table = patient.table
    rows = np.flatnonzero(table.readable)
    if not len(rows):
        return
    height, width = table.size[rows].T.astype(np.float64)
    pixels, ratio = height * width, np.maximum(height, width) / np.minimum(height, width)
    median = float(np.median(pixels))
    for i, row in enumerate(rows.tolist()):
        shape = f"{width[i]:.0f} x {height[i]:.0f} pixels"
        if min(height[i], width[i]) < min(TINY, median**0.5):
            yield Issue(patient, row, f"{shape}: too small to show anything")
        elif ratio[i] >= LONG:
            yield Issue(patient, row, f"{shape}: {ratio[i]:.1f} times as long as it is wide")
        elif pixels[i] >= LARGE * median or pixels[i] <= SMALL * median:
            yield Issue(patient, row, f"{shape}, where half of the images have {median**0.5:.0f} x {median**0.5:.0f}")


def _turned(patient: ScannedSet) -> Iterator[Issue]:
    for row in np.flatnonzero(patient.table.turn != 1).tolist():
        yield Issue(patient, row, f"EXIF orientation {patient.table.turn[row]}")


def _flat(patient: ScannedSet) -> Iterator[Issue]:
    flat = phash.flat(patient.table.thumbnail) & patient.table.readable
    for row in np.flatnonzero(flat).tolist():
        yield Issue(patient, row, "almost one grey from edge to edge")


def _imbalance(patient: ScannedSet) -> Iterator[Issue]:
    counts = _counts(patient)
    present = np.flatnonzero(counts)
    if len(present) < 2:
        return
    large, small = present[counts[present].argmax()], present[counts[present].argmin()]
    ratio = counts[large] / counts[small]
    if ratio >= UNEVEN:
        classes = patient.source.classes
        said = f"{classes[large]} has {counts[large]:,} images, {classes[small]} {counts[small]:,}: {ratio:,.0f} times"
        yield Issue(patient, None, said, label=classes[small])


def _few(patient: ScannedSet, few: int) -> Iterator[Issue]:
    for label, count in enumerate(_counts(patient).tolist()):
        if count < few:
            name = patient.source.classes[label]
            yield Issue(patient, None, f"{name}: {count} image{'' if count == 1 else 's'}", label=name)


def _counts(patient: ScannedSet) -> np.ndarray:
    return np.bincount(patient.source.labels, minlength=len(patient.source.classes))


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


def _copies(patients: list[ScannedSet], copies: DuplicatePairs) -> list[Finding]:
    """Copies across sets, under two labels, and within sets."""
    leaks: list[Issue] = []
    conflicts: list[Issue] = []
    equal: list[Issue] = []
    near: list[Issue] = []
    for i, patient in enumerate(patients):
        if not patient.judged:
            continue
        kept = copies.kept(patient.places)
        for place in copies.places(patient.places):
            row = patient.row_of(place)
            for other in patients[i + 1 :]:
                for pair in copies.of(place, other.places, most=1):
                    copy = other.row_of(pair.second)
                    said = f"{_how(pair.kind, pair.mirrored)} in {other.name}"
                    leaks.append(Issue(patient, row, said, drop=True, other=(other, copy)))
            others = copies.of(place, patient.places)
            if not others:
                continue
            for pair in others:
                copy = patient.row_of(pair.second if pair.first == place else pair.first)
                if patient.label(copy) != patient.label(row):
                    said = f"as {patient.label(row)}, and as {patient.label(copy)}"
                    conflicts.append(Issue(patient, row, said, drop=True, other=(patient, copy)))
                    break
            first = next((pair for pair in others if pair.second == place), None)
            if first is not None:
                copy = patient.row_of(first.first)
                item = Issue(patient, row, _how(first.kind, first.mirrored), not kept[row], (patient, copy))
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
