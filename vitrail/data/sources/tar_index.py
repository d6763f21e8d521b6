"""Where everything lies in a tar file: read from its headers alone, nothing unpacked; kept beside the tar.

Our own reading of headers, not `tarfile`: it is bounded in memory and time whatever a file says, and three times as
fast. Formats: v7, ustar, GNU (long names, large numbers), pax (paths and sizes).
"""

import json
import os
import zlib
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from vitrail.core.cache import cache_folder
from vitrail.core.errors import BadInput
from vitrail.core.files import atomic_path
from vitrail.data.decode import image
from vitrail.data.sources.skipped import Skipped

_BLOCK = 512
_LONGEST_NAME = 1 << 16  # bytes of a long name or of a pax header
_LONGEST_LABEL = 1 << 20
_REGULAR = (b"0", b"\0", b"7")
_KINDS = {b"1": "a link", b"2": "a link", b"3": "a device", b"4": "a device", b"6": "a pipe"}


class Member(NamedTuple):
    """A regular file in a tar: its name, and where its bytes are."""

    name: str
    offset: int
    size: int


class TarIndex(NamedTuple):
    """The samples of one tar file. `keys` and `labels` are texts, a label is null where there is none."""

    keys: pa.LargeStringArray
    offsets: pa.Int64Array
    sizes: pa.Int64Array
    labels: pa.LargeStringArray
    skipped: Skipped  # members that are not used, and why


def members(file: Path, skipped: Skipped) -> Iterator[Member]:
    """The regular files in a tar, in order. Links, devices, and names that leave the folder are refused, with reasons.

    Raises:
        BadInput: not a tar file, a compressed one, or one that is damaged or cut off.
    """
    total = file.stat().st_size
    with open(file, "rb", buffering=1 << 16) as opened:
        place, name, size = 0, None, None
        while True:
            opened.seek(place)
            header = opened.read(_BLOCK)
            if len(header) < _BLOCK or not header.strip(b"\0"):
                if place == 0:
                    raise BadInput(f"{file} is not a tar file{_compressed(header)}")
                if len(header) not in (0, _BLOCK):
                    raise BadInput(f"{file} is cut off at byte {place}")
                return
            if not _checks(header):
                if place == 0:
                    raise BadInput(f"{file} is not a tar file{_compressed(header)}")
                raise BadInput(f"{file} is damaged at byte {place}: no header of a member")
            kind, length = header[156:157], _number(header[124:136])
            if kind in _REGULAR and size is not None:
                length = size
            start = place + _BLOCK
            if length is None or length < 0 or start + length > total:
                raise BadInput(f"{file} is cut off or damaged: the member at byte {place} ends behind its end")
            place = start + -(-length // _BLOCK) * _BLOCK
            if kind in (b"L", b"x"):
                if length > _LONGEST_NAME:
                    raise BadInput(f"{file}: the name of the member at byte {start} has {length:,} bytes")
                data = opened.read(length)
                if kind == b"L":
                    name = data.rstrip(b"\0")
                else:
                    found = _pax(data)
                    name = found.get(b"path", name)
                    size = _decimal(found[b"size"]) if b"size" in found else size
                    if any(key.startswith(b"GNU.sparse") for key in found):
                        name = b"\0"  # its bytes are not those of the file
                continue
            if kind in (b"K", b"g", b"V"):  # a long name of a link, what holds for all, the label of the tape
                continue
            own, name, size = name if name is not None else _name(header), None, None
            text = own.decode("utf-8", "backslashreplace")
            if kind == b"5":
                continue
            problem = _problem(kind, own)
            if problem:
                skipped.add(problem, repr(text))
                continue
            yield Member(text, start, length)


def _checks(header: bytes) -> bool:
    """Whether the sum of the bytes, those of the sum taken for spaces, is the one stated."""
    stated = _number(header[148:156])
    if stated is None:
        return False
    total = (zlib.adler32(header) & 0xFFFF) - 1  # the sum modulo 65,521, at a thirtieth of the time of `sum`
    return (total - sum(header[148:156]) + 8 * 32 - stated) % 65_521 == 0


def _compressed(header: bytes) -> str:
    if header.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")):
        return ": it is compressed, which allows no random access; unpack it once, as with gunzip"
    return ""


def _number(field: bytes) -> int | None:
    """An octal number, or GNU's binary one."""
    if field[:1] in (b"\x80", b"\xff"):
        return int.from_bytes(field[1:], "big") if field[0] == 0x80 else -1
    text = field.split(b"\0")[0].strip()
    try:
        return int(text or b"0", 8)
    except ValueError:
        return None


def _decimal(text: bytes) -> int:
    return int(text) if text.isdigit() and len(text) < 19 else -1


def _pax(data: bytes) -> dict[bytes, bytes]:
    """The records `LENGTH KEY=VALUE` and a new line."""
    found, place = {}, 0
    while place < len(data):
        length, _, _ = data[place : place + 20].partition(b" ")
        if not length.isdigit() or int(length) <= len(length) + 1:
            break
        record = data[place + len(length) + 1 : place + int(length) - 1]
        key, _, value = record.partition(b"=")
        found[key] = value
        place += int(length)
    return found


def _name(header: bytes) -> bytes:
    name = header[:100].split(b"\0")[0]
    prefix = header[345:500].split(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _problem(kind: bytes, name: bytes) -> str:
    if kind not in _REGULAR:
        return f"not a file but {_KINDS.get(kind, 'of an unknown kind')}"
    if not name or b"\0" in name:
        return "without a proper name"
    if name.startswith((b"/", b"\\")) or name[1:2] == b":":
        return "with an absolute name"
    if b".." in name.replace(b"\\", b"/").split(b"/"):
        return "with a name that leaves the folder"
    return ""


def index(file: Path) -> TarIndex:
    """The samples of a tar file, from the index beside it; made where there is none, or where the tar has changed.

    The index is `FILE.index`, or lies in the cache folder where the tar's own cannot be written.
    """
    facts = file.stat()
    stamp = {"format": 3, "bytes": facts.st_size, "mtime_ns": facts.st_mtime_ns}
    beside = file.with_name(file.name + ".index")
    elsewhere = cache_folder() / "tars" / f"{facts.st_dev:x}-{facts.st_ino:x}.index"
    for place in (beside, elsewhere):
        known = _read(place, stamp)
        if known is not None:
            return known
    made = _samples(file)
    try:
        _write(beside, made, stamp)
    except OSError:
        with suppress(OSError):
            _write(elsewhere, made, stamp)
    return made


_LABELS = ("cls", "json", "index", "txt")  # members that say a label, the best first
_KEYS = ("label", "cls", "class", "class_id", "label_id", "class_name", "label_name", "category", "target")
_INNER = ("name", "index", "id")  # of an object that is a label
_LONGEST_NAMED = 60  # characters of a .txt that is the name of a class; others are captions


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


def _samples(file: Path) -> TarIndex:
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
    return TarIndex(
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


def _write(place: Path, made: TarIndex, stamp: dict[str, int]) -> None:
    about = {**stamp, "skipped": [made.skipped.counts, made.skipped.first], "sha256": _digest(made)}
    columns = {"key": made.keys, "offset": made.offsets, "size": made.sizes, "label": made.labels}
    table = pa.table(columns).replace_schema_metadata({b"vitrail": json.dumps(about).encode()})
    with atomic_path(place) as temporary, pa.ipc.new_file(str(temporary), table.schema) as writer:
        writer.write_table(table)


def _read(place: Path, stamp: dict[str, int]) -> TarIndex | None:
    """What was written, or None where it is missing, unreadable, or of another state of the tar."""
    try:
        with open(place, "rb") as file, pa.ipc.open_file(file) as opened:
            about = json.loads(opened.schema.metadata[b"vitrail"])
            if {key: about.get(key) for key in stamp} != stamp:
                return None
            table = opened.read_all().combine_chunks()
            table.validate(full=True)
            skipped = Skipped()
            skipped.counts, skipped.first = about["skipped"]
            keys, labels = (_one(table[name].cast(pa.large_string())) for name in ("key", "label"))
            offsets, sizes = (_one(table[name].cast(pa.int64())) for name in ("offset", "size"))
            known = TarIndex(keys, offsets, sizes, labels, skipped)
            if about["sha256"] != _digest(known):
                return None
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None
    return known


def _digest(made: TarIndex) -> str:
    """By which an index in which a bit has changed is made again."""
    texts = [made.keys.to_pylist(), made.labels.to_pylist(), made.skipped.counts, made.skipped.first]
    found = sha256(json.dumps(texts).encode())
    for numbers in (made.offsets, made.sizes):
        found.update(numbers.to_numpy().astype("<i8").tobytes())
    return found.hexdigest()


def _one(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], type=column.type)
