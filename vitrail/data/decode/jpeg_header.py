"""What the head of a JPEG says before a pixel is decoded (size, orientation, scans), and a file of some of its rows."""

import re
import struct
from itertools import islice
from typing import NamedTuple

MAX_SCANS = 100  # progressive files have about 10; each takes a pass over all pixels, however few its bytes

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # the others of these define tables
_TABLES = frozenset([0xC4, 0xDB, 0xE0])  # and JFIF's own: most segments
_BARE = frozenset([0x01, *range(0xD0, 0xD8)])  # markers without a length
_EXIF, _XMP = b"Exif\x00\x00", b"http://ns.adobe.com/xap/1.0/\x00"
_XMP_ORIENTATION = re.compile(rb"""tiff:Orientation(?:=["']|>)([1-8])""")
_ORIENTATION = 0x0112
_NUMBERS = {1: "B", 3: "H", 4: "I"}  # TIFF's types of whole numbers
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")  # within a scan nothing else looks like it
_RESTARTS = [b"\xff" + bytes([0xD0 + i]) for i in range(8)]  # they are numbered
_END = b"\xff\xd9"
_SEGMENT = struct.Struct(">BBH").unpack_from
_FRAME = struct.Struct(">HHB").unpack_from


class Head(NamedTuple):
    """Of the stored picture, before it is turned; `orientation` is EXIF's, 1 to 8."""

    height: int
    width: int
    orientation: int
    scans: int
    frame: int  # where in the file its frame header starts
    scan: int  # where the data of its first scan start
    unit: int  # rows that are coded together; 0: not known
    stripe: int  # rows between two restart markers, after which decoding can start; 0: not known, or there are none


_previous: tuple[bytes, Head] | None = None  # the last head that tells all of its file, and its bytes


def read_head(data: bytes) -> Head | None:
    """The head of a JPEG in grey or colour; None where it is none, or not so plain that this reads it."""
    # small files that one program wrote begin with the same bytes, and reading them takes a tenth of decoding
    if _previous is not None and data.startswith(_previous[0]):
        return _previous[1]
    if data[:2] != b"\xff\xd8":
        return None
    at, frame, interval, exif, xmp, size = 2, None, 0, 0, 0, len(data)
    while at + 4 <= size:
        fill, marker, length = _SEGMENT(data, at)
        if fill != 0xFF:
            return None
        if marker == 0xFF or marker in _BARE:
            at += 1 if marker == 0xFF else 2
            continue
        start, end = at + 4, at + 2 + length
        if length < 2 or end > size:
            return None
        if marker in _TABLES:
            pass
        elif marker in _FRAMES:
            if frame is not None or length < 8:
                return None
            frame = at
        elif marker == 0xE1 and not exif and data.startswith(_EXIF, start):
            exif = _exif_orientation(data[start + len(_EXIF) : end])
        elif marker == 0xE1 and not xmp and data.startswith(_XMP, start):
            found = _XMP_ORIENTATION.search(data, start, end)
            xmp = int(found[1]) if found else 0
        elif marker == 0xDD and length == 4:
            interval = data[start] << 8 | data[start + 1]
        elif marker == 0xDA:
            return _head(data, frame, at, end, interval, exif or xmp or 1)
        elif marker == 0xD9:
            return None
        at = end
    return None


def refusal(data: bytes, most_pixels: int) -> str:
    """Why a JPEG is not given to a decoder that believes more; empty where its head is in order.

    For what `read_head` does not read or the fast decoder declines: bytes between segments are skipped, as decoders do.
    """
    at, found = 2, 0
    while (at := data.find(b"\xff", at)) >= 0 and at + 4 <= len(data):
        marker, length = data[at + 1], data[at + 2] << 8 | data[at + 3]
        if marker in (0, 0xFF) or marker in _BARE:
            at += 1 if marker == 0xFF else 2
            continue
        if marker == 0xD9:
            break
        start, end = at + 4, at + 2 + length
        if length < 2 or end > len(data):
            return "cut off within its head"
        if marker in _FRAMES:
            found += 1
            reason = "it has several frames" if found > 1 else _frame_refusal(data[start:end], most_pixels)
            if reason:
                return reason
        if marker == 0xDA:
            parts = data[start] if length > 2 else 0
            if not found or not 1 <= parts <= 4 or length != 6 + 2 * parts:
                return "the header of its first scan is damaged"
            scans = data.count(b"\xff\xda", at)
            return f"{scans} scans are more than the {MAX_SCANS} allowed" if scans > MAX_SCANS else ""
        at = end
    return "it has no picture"


def _frame_refusal(frame: bytes, most_pixels: int) -> str:
    if len(frame) < 6 or len(frame) != 6 + 3 * frame[5]:
        return "the header of its frame is damaged"
    height, width, components = _FRAME(frame, 1)
    sampling, tables = frame[7::3], frame[8::3]
    if frame[0] != 8 or components not in (1, 3, 4):
        return f"{frame[0]} bits in {components} components; 8 bits in 1, 3 or 4 are read"
    if not (height and width) or height * width > most_pixels:
        return f"{width} x {height} pixels; up to {most_pixels:,} are allowed"
    if any(not (1 <= s >> 4 <= 4 and 1 <= s & 15 <= 4) for s in sampling) or max(tables) > 3:
        return "the header of its frame is damaged"
    return ""


def _head(data: bytes, frame: int | None, scan: int, start: int, interval: int, orientation: int) -> Head | None:
    if frame is None or start - scan < 5:
        return None
    height, width, components = _FRAME(data, frame + 5)
    if not (height and width and components in (1, 3)):
        return None  # CMYK, for one: inverted or not, which decoders do not agree about
    # a sequential file whose first scan has all components has no other; the mark of a scan is never within one
    single = data[frame + 1] in (0xC0, 0xC1) and data[scan + 4] == components
    scans = 1 if single else data.count(b"\xff\xda", scan)
    unit, stripe = _stripe(data, frame, width, components, interval) if single and interval else (0, 0)
    head = Head(height, width, orientation, scans, frame, start, unit, stripe)
    if single:  # otherwise what follows the head decides about its scans
        global _previous
        _previous = data[:start], head
    return head


def _stripe(data: bytes, frame: int, width: int, components: int, interval: int) -> tuple[int, int]:
    """Rows that are coded together, and rows between markers after so many blocks; 0 where they are within rows."""
    down, across = 8, 8  # pixels of what is coded together
    if components > 1:
        sampling = data[frame + 11 : frame + 10 + 3 * components : 3]
        down, across = 8 * max(s & 15 for s in sampling), 8 * max(s >> 4 for s in sampling)
    if not (down and across):
        return 0, 0
    lines, rest = divmod(interval, -(-width // across))
    return down, 0 if rest else lines * down


def _exif_orientation(tiff: bytes) -> int:
    """1 to 8, or 0 where it is not said: nothing that is wrong with it is worth an image."""
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(tiff[:4])
    try:
        if order is None:
            return 0
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", tiff, entry)
            if tag == _ORIENTATION:
                (value,) = struct.unpack_from(order + _NUMBERS.get(kind, "H"), tiff, entry + 8)
                return value if 1 <= value <= 8 else 0
    except struct.error:
        pass
    return 0


class Rows(NamedTuple):
    """A file that holds `height` rows of another, the first of which is its row `first`."""

    data: bytes
    first: int
    height: int
    clean: bool  # False: a decoder will warn of data after the last row


def some_rows(data: bytes, head: Head, top: int, bottom: int) -> Rows:
    """A file whose pixels are the rows `top` to `bottom` - 1 of a file and more, as few as can be had.

    Where restart markers cut the file into stripes of rows, it is those that are needed; they depend on nothing before
    them. Otherwise it is all from the first row on, by a frame header that says that there are no more: a decoder stops
    there. The outermost rows may differ from those of the whole file, as colours are interpolated across rows.
    """
    if head.scans != 1 or data[-2:] != _END:  # of a truncated file nothing is left out, so that it is seen
        return Rows(data, 0, head.height, True)
    bottom = min(bottom, head.height)
    if head.stripe and (found := _stripes(data, head, max(0, top), bottom)):
        return found
    if bottom == head.height:
        return Rows(data, 0, head.height, True)
    return Rows(_lower(data, head, bottom), 0, bottom, False)


def _stripes(data: bytes, head: Head, top: int, bottom: int) -> Rows | None:
    """The rows of the stripes that hold those from `top` to `bottom` - 1; None where a marker is missing."""
    first, last = top // head.stripe, -(-bottom // head.stripe)
    needed = min(last, -(-head.height // head.stripe) - 1)
    marks = [mark.start() for mark in islice(_RESTART.finditer(data, head.scan), needed)]
    if len(marks) < needed or any(data[at + 1] != 0xD0 + i % 8 for i, at in enumerate(marks)):
        return None
    marks.append(len(data) - 2)
    start = marks[first - 1] + 2 if first else head.scan
    parts = [_lower(data[: head.scan], head, bottom - first * head.stripe)]
    for i in range(first, last):
        parts += (data[start : marks[i]], _RESTARTS[(i - first) % 8])
        start = marks[i] + 2
    parts[-1] = _END
    whole = last * head.stripe - bottom < head.unit  # otherwise data are left over
    return Rows(b"".join(parts), first * head.stripe, bottom - first * head.stripe, whole)


def _lower(data: bytes, head: Head, rows: int) -> bytes:
    """The file with another height in its frame header."""
    at = head.frame + 5
    return data[:at] + struct.pack(">H", rows) + data[at + 2 :]
