"""The files in a tar: read from its headers alone, nothing unpacked.

Our own reading of headers, not `tarfile`: it is bounded in memory and time whatever a file says, and three times as
fast. Formats: v7, ustar, GNU (long names, large numbers), pax (paths and sizes).
"""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vitrail.core.errors import BadInput
from vitrail.data.sources.skipped import Skipped

_BLOCK = 512
_LONGEST_NAME = 1 << 16  # bytes of a long name or of a pax header
_REGULAR = (b"0", b"\0", b"7")
_KINDS = {b"1": "a link", b"2": "a link", b"3": "a device", b"4": "a device", b"6": "a pipe"}


class Member(NamedTuple):
    """A regular file in a tar: its name, and where its bytes are."""

    name: str
    offset: int
    size: int


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
