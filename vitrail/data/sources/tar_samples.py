"""What the members of a tar make: images, each with the label that a member beside it, or its folder, says."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from vitrail.data.decode import image
from vitrail.data.sources.skipped import Skipped
from vitrail.data.sources.tar_members import Member, members

_LABELS = ("cls", "json", "index", "txt")  # members that say a label, the best first
_KEYS = ("label", "cls", "class", "class_id", "label_id", "class_name", "label_name", "category", "target")
_INNER = ("name", "index", "id")  # of an object that is a label
_LONGEST_NAMED = 60  # characters of a .txt that is the name of a class; others are captions
_LONGEST_LABEL = 1 << 20  # bytes


class TarSamples(NamedTuple):
    """The samples of one tar file. `keys` and `labels` are texts, a label is null where there is none."""

    keys: pa.LargeStringArray
    offsets: pa.Int64Array
    sizes: pa.Int64Array
    labels: pa.LargeStringArray
    skipped: Skipped  # members that are not used, and why


class _Group(NamedTuple):
    """Members by sample: the image, what may be its label, and what is left."""

    images: dict[str, Member]
    labels: dict[str, dict[str, Member]]
    again: list[Member]  # second images of a sample
    others: list[Member]

    def labelled(self) -> int:
        return len(self.images.keys() & self.labels.keys())


def _grouped(found: list[Member], last: bool) -> _Group:
    """Members that share their name up to the first dot, as WebDataset has it, or up to the last."""
    group = _Group({}, {}, [], [])
    for member in found:
        folder, slash, base = member.name.rpartition("/")
        stem, _, suffix = base.rpartition(".") if last else base.partition(".")
        key, suffix = f"{folder}{slash}{stem}", suffix.lower()
        if "." + suffix.rpartition(".")[2] in image.SUFFIXES:
            if key in group.images:
                group.again.append(member)
            else:
                group.images[key] = member
        elif suffix in _LABELS:
            group.labels.setdefault(key, {})[suffix] = member
        else:
            group.others.append(member)
    return group


def samples(file: Path) -> TarSamples:
    """The images, each with the label beside it; in a tar without any labels the folders of the images are the labels.

    Names with dots, as `n01440764.10026.jpg`, are taken whole where WebDataset's rule would lose images.
    """
    skipped, found = Skipped(), list[Member]()
    for member in members(file, skipped):
        if member.name.rpartition("/")[2].startswith("."):  # hidden files, and macOS's shadows of others
            skipped.add("hidden", repr(member.name))
        else:
            found.append(member)
    group = _grouped(found, last=False)
    if group.again:
        whole = _grouped(found, last=True)
        if (whole.labelled(), len(whole.images)) > (group.labelled(), len(group.images)):
            group = whole
    labels = _labels(file, group, skipped)
    for reason, left in (("a second image of its sample", group.again), ("neither an image nor a label", group.others)):
        for member in left:
            skipped.add(reason, repr(member.name))
    if not group.labels:
        parents = {key: member.name.split("/")[-2:-1] for key, member in group.images.items()}
        labels = {key: folder[0] for key, folder in parents.items() if folder and folder[0] != "."}
    return TarSamples(
        pa.array([member.name for member in group.images.values()], type=pa.large_string()),
        pa.array([member.offset for member in group.images.values()], type=pa.int64()),
        pa.array([member.size for member in group.images.values()], type=pa.int64()),
        pa.array([labels.get(key) for key in group.images], type=pa.large_string()),
        skipped,
    )


def _labels(file: Path, group: _Group, skipped: Skipped) -> dict[str, str]:
    """The label of each sample; what says none is counted."""
    labels: dict[str, str] = {}
    descriptor = os.open(file, os.O_RDONLY)
    try:
        for key, kinds in group.labels.items():
            for suffix in _LABELS:
                if suffix not in kinds:
                    continue
                member = kinds[suffix]
                used = key in group.images or suffix in ("cls", "json")
                if key in labels or not used:
                    if suffix in ("index", "txt"):
                        group.others.append(member)
                    continue
                if member.size > _LONGEST_LABEL:
                    skipped.add("a label of more than a megabyte", repr(member.name))
                    continue
                text = _label(os.pread(descriptor, member.size, member.offset), suffix)
                if text is not None:
                    labels[key] = text
                elif suffix != "json":
                    reason = "a caption, not a label" if suffix == "txt" else "a label that is no text"
                    skipped.add(reason, repr(member.name))
    finally:
        os.close(descriptor)
    return labels


def _label(data: bytes, suffix: str) -> str | None:
    try:
        text = data.decode("utf-8").strip()
        if suffix == "json":
            text = _in_json(json.loads(text), _KEYS)
    except (ValueError, TypeError, RecursionError):
        return None
    if suffix == "txt" and (len(text) > _LONGEST_NAMED or "\n" in text):
        return None
    return text or None


def _in_json(found: Any, keys: tuple[str, ...], depth: int = 0) -> str:
    """The label in a JSON value: under one of the keys, in the only object within it that has one, in a list of one."""
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    if isinstance(found, (int, str)) and not isinstance(found, bool):
        return str(found).strip() if depth else ""
    if not isinstance(found, dict) or depth > 3:
        return ""
    for key in keys:
        if key in found:
            return _in_json(found[key], (*_KEYS, *_INNER), depth + 1)
    inside = [_in_json(value, keys, depth + 1) for value in found.values() if isinstance(value, dict)]
    labels = [label for label in inside if label]
    return labels[0] if len(labels) == 1 else ""
