"""A JPEG known by its head: read without decoding, and decoded only as far and as finely as a crop needs."""

import io
import struct
import time
from typing import Any

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from tests.data.pictures import encoded, photograph, smooth
from vitrail.data.decode.image import MAX_PIXELS, BrokenImage, Jpeg, Pixels, decode, look
from vitrail.data.decode.jpeg_header import MAX_SCANS, read_head, refusal, some_rows
from vitrail.data.shards import encode as encoding
from vitrail.data.shards.encode import Form, prepare_image
from vitrail.data.transforms.crops import resize

ORIENTATION = 0x0112


def turned(pixels: Pixels, orientation: int, **options: object) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encoded(pixels, "JPEG", exif=exif, **options)


def jpeg(data: bytes) -> Jpeg:
    picture = look(data)
    assert isinstance(picture, Jpeg)
    return picture


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_head_says_the_size_of_the_upright_picture(orientation: int) -> None:
    picture = jpeg(turned(smooth(40, 24), orientation))
    assert (picture.height, picture.width) == ((24, 40) if orientation > 4 else (40, 24)) == decode_size(picture)


def decode_size(picture: Jpeg) -> tuple[int, int]:
    height, width, _ = picture.pixels().shape
    return height, width


def exif(order: str, kind: int, value: bytes, tag: int = ORIENTATION) -> bytes:
    name = {"<": b"II*\x00", ">": b"MM\x00*"}[order]
    entry = struct.pack(order + "HHI", tag, kind, 1) + value.ljust(4, b"\x00")
    return b"Exif\x00\x00" + name + struct.pack(order + "IH", 8, 1) + entry + b"\x00" * 4


def with_segment(data: bytes, content: bytes) -> bytes:
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + data[2:]


@pytest.mark.parametrize(
    ("segment", "orientation"),
    [
        (exif("<", 3, struct.pack("<H", 6)), 6),
        (exif(">", 3, struct.pack(">H", 6)), 6),
        (exif("<", 4, struct.pack("<I", 3)), 3),
        (exif(">", 1, b"\x08"), 8),
        (exif("<", 3, struct.pack("<H", 9)), 1),  # there is no such turn
        (exif("<", 3, struct.pack("<H", 0)), 1),
        (exif("<", 3, b"\x06", tag=0x0100), 1),
        (exif("<", 3, struct.pack("<H", 6))[:20], 1),  # cut off
        (b"Exif\x00\x00nothing of the kind", 1),
        (b"Exif\x00\x00II*\x00\xff\xff\xff\xff", 1),  # a directory that lies outside
        (b'http://ns.adobe.com/xap/1.0/\x00<x tiff:Orientation="8"/>', 8),
        (b"http://ns.adobe.com/xap/1.0/\x00<tiff:Orientation>3</tiff:Orientation>", 3),
        (b"another kind of segment", 1),
    ],
)
def test_the_orientation_is_read_as_it_may_be_written(segment: bytes, orientation: int) -> None:
    data = with_segment(encoded(smooth(40, 24), "JPEG"), segment)
    head = read_head(data)
    assert head is not None
    assert head.orientation == orientation
    assert decode(data).shape == ((24, 40, 3) if orientation > 4 else (40, 24, 3))


def test_what_is_no_plain_jpeg_has_no_head() -> None:
    data = encoded(smooth(40, 24), "JPEG")
    assert read_head(data) is not None
    for other in (b"", b"\xff\xd8", encoded(smooth(4, 4)), data[:100], data[:2] + b"garbage" + data[2:]):
        assert read_head(other) is None


def boxes(height: int, width: int, count: int, least: int) -> list[tuple[int, int, int, int]]:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        h, w = int(rng.integers(least, height + 1)), int(rng.integers(least, width + 1))
        top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
        found.append((left, top, left + w, top + h))
    return found


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 1},
    "every second": {"restart_marker_rows": 2},
    "within rows": {"restart_marker_blocks": 4},
    "grey": {"restart_marker_rows": 1},
}


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_a_small_part_is_cut_from_the_same_pixels(subsampling: int, kind: str) -> None:
    pixels = photograph(133, 170) if kind != "grey" else photograph(133, 170)[..., 0]
    data = encoded(pixels, "JPEG", quality=90, subsampling=subsampling, **KINDS[kind])
    whole = decode(data)
    for left, top, right, bottom in boxes(133, 170, 40, 1):
        pixels, box = jpeg(data).part((left, top, right, bottom), (224, 224))
        above = top - int(box[1])
        assert box == (left, top - above, right, bottom - above)
        assert np.array_equal(pixels[top - above : bottom - above, left:right], whole[top:bottom, left:right])


def test_what_lies_below_a_part_is_not_decoded() -> None:
    data = encoded(photograph(400, 300), "JPEG")
    pixels, _ = jpeg(data).part((10, 5, 60, 50), (32, 32))
    assert pixels.shape[0] < 60


def test_between_restart_markers_what_lies_above_is_not_decoded_either() -> None:
    data = encoded(photograph(400, 300), "JPEG", restart_marker_rows=1)
    pixels, box = jpeg(data).part((10, 205, 60, 250), (32, 32))
    assert pixels.shape[0] < 65
    assert 0 < box[1] < 20
    head = read_head(data)
    assert head is not None
    assert head.stripe == 16
    rows = some_rows(data, head, 201, 254)
    assert len(rows.data) < len(data) / 3
    assert np.array_equal(decode(rows.data)[3:-3], decode(data)[rows.first + 3 : rows.first + rows.height - 3])


def test_prepared_images_have_markers_after_every_row_of_blocks() -> None:
    data, _ = prepare_image(encoded(photograph(300, 400), "JPEG"), Form(256, encoding.Jpeg(90)))
    head = read_head(data)
    assert head is not None
    assert head.stripe == 16
    assert some_rows(data, head, 100, 150).first == 96


def test_markers_that_are_missing_or_too_many_are_not_relied_upon() -> None:
    data = encoded(photograph(133, 170), "JPEG", restart_marker_rows=1)
    head = read_head(data)
    assert head is not None
    assert some_rows(data, head, 50, 90).first > 0
    lost = data.replace(b"\xff\xd2", b"\xff\x00", 1)
    assert some_rows(lost, head, 50, 90).first == 0
    assert some_rows(lost, head, 50, 90).height == 90


@pytest.mark.parametrize(("times", "scale"), [(1, 1), (1.9, 1), (2, 2), (3.9, 2), (4, 4), (7, 4), (8, 8), (11, 8)])
def test_the_smallest_scale_at_which_the_box_has_the_size(times: float, scale: int) -> None:
    size, picture = (30, 40), jpeg(encoded(photograph(331, 443), "JPEG"))
    height, width = round(30 * times), round(40 * times)
    pixels, box = picture.part((0, 331 - height, width, 331), size)  # of files without markers all above is decoded
    assert pixels.shape == (-(-331 // scale), -(-443 // scale), 3)
    assert (box[2] - box[0], box[3] - box[1]) == (width / scale, height / scale)
    assert box[2] - box[0] >= 40
    assert box[3] - box[1] >= 30


# Measured: means up to 2.4, at most 12 of 255. Of 318 boxes in photographs, for views of 64 pixels: the mean is 1.5, at
# most 7.4 of one view and 52 of a pixel. Where a box is twice the view no filter is left to blur what was decoded.
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("subsampling", [0, 2])
def test_a_view_of_a_scaled_part_is_the_view_of_the_whole_file(orientation: int, subsampling: int) -> None:
    data = turned(photograph(701, 523), orientation, quality=92, subsampling=subsampling)
    picture, whole, size = jpeg(data), decode(data), (64, 48)
    scales = set()
    for box in boxes(picture.height, picture.width, 25, 120):
        pixels, place = picture.part(box, size)
        scales.add(round(picture.height / pixels.shape[0]))
        difference = np.abs(resize(pixels, size, place).astype(int) - resize(whole, size, box))
        assert difference.mean() < 3
        assert difference.max() < 20
    assert {2, 4} <= scales


def test_a_scaled_part_lies_where_it_should_whichever_way_up() -> None:
    """A box that is off by half a pixel of the scaled picture shows in a gradient."""
    y, x = np.mgrid[0:517, 0:389]
    gradient = np.stack([y / 517 * 255, x / 389 * 255, 0 * x], axis=-1).round().astype(np.uint8)
    for orientation in range(1, 9):
        data = turned(gradient, orientation, quality=98, subsampling=0)
        picture, whole = jpeg(data), decode(data)
        for box in boxes(picture.height, picture.width, 10, 270):
            pixels, place = picture.part(box, (32, 32))
            assert max(pixels.shape) < 140
            difference = resize(pixels, (32, 32), place).astype(float) - resize(whole, (32, 32), box)
            assert np.abs(difference.mean(axis=(0, 1))).max() < 0.4


def test_a_truncated_file_is_broken_whatever_part_is_asked_for() -> None:
    data = encoded(photograph(300, 300), "JPEG")
    for share in (0.5, 0.9, 0.999):
        for box in ((0, 0, 40, 40), (0, 0, 300, 300), (200, 250, 300, 300)):
            with pytest.raises(BrokenImage):
                jpeg(data[: int(share * len(data))]).part(box, (32, 32))


def test_a_cmyk_file_is_left_to_pillow() -> None:
    data = encoded(Image.fromarray(smooth(200, 160)).convert("CMYK"), "JPEG", quality=95)
    assert np.array_equal(look(data), decode(data))


def test_a_damaged_file_that_pillow_reads_gives_its_parts() -> None:
    data = bytearray(encoded(photograph(300, 200), "JPEG", subsampling=2))
    place = data.index(b"\xff\xda") + 3000
    data[place : place + 40] = bytes(40)
    with pytest.raises(ValueError, match="."):
        simplejpeg.decode_jpeg(bytes(data))
    whole = decode(bytes(data))
    for bottom, size in ((280, (200, 200)), (300, (32, 32))):
        pixels, box = jpeg(bytes(data)).part((10, 20, 150, bottom), size)
        assert box == (10, 20, 150, bottom)
        assert np.array_equal(pixels[20:bottom, 10:150], whole[20:bottom, 10:150])


def test_headers_that_contradict_each_other_are_broken() -> None:
    data = encoded(smooth(200, 160), "JPEG")
    head = read_head(data)
    assert head is not None
    with pytest.raises(BrokenImage, match="contradict"):
        Jpeg(data, head._replace(width=100)).part((0, 0, 50, 50), (32, 32))


def test_thousands_of_scans_are_refused() -> None:
    data = encoded(photograph(64, 64), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    bomb = data[:start] + (data[start:-2]) * (MAX_SCANS + 1) + data[-2:]
    started = time.perf_counter()
    with pytest.raises(BrokenImage, match=r"1\d\d scans are more than the 100 allowed"):
        decode(bomb)
    assert time.perf_counter() - started < 0.5
    assert decode(data).shape == (64, 64, 3)


def test_what_was_read_before_changes_no_head() -> None:
    """Files that begin alike share a head that was read once; whatever comes between them, it is their own."""
    kinds = [
        encoded(photograph(64, 48, 1), "JPEG"),
        encoded(photograph(64, 48, 2), "JPEG"),  # begins like the one before
        encoded(photograph(48, 64), "JPEG"),
        encoded(Image.fromarray(photograph(64, 48)).convert("L"), "JPEG"),
        turned(photograph(64, 48), 6),
        encoded(photograph(64, 48, 1), "JPEG", progressive=True),
        encoded(photograph(64, 48, 1), "JPEG", quality=30, restart_marker_rows=1),
    ]
    alone = [read_again(data) for data in kinds]
    for first in (0, *range(len(kinds))):
        for second in range(len(kinds)):
            assert read_head(kinds[first]) == alone[first]
            assert read_head(kinds[second]) == alone[second]


def read_again(data: bytes) -> object:
    """The head, read after that of another file."""
    read_head(encoded(smooth(8, 8), "JPEG"))
    return read_head(data)


def test_a_progressive_file_is_counted_however_it_begins() -> None:
    data = encoded(photograph(64, 64), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    single = data[: data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)] + data[-2:]  # its first scan alone
    bomb = data[:start] + (data[start:-2]) * (MAX_SCANS + 1) + data[-2:]
    for _ in range(2):
        first, all_of_it = read_head(single), read_head(bomb)
        assert first is not None
        assert all_of_it is not None
        assert first.scans == 1
        assert all_of_it.scans > MAX_SCANS


def test_a_file_with_something_after_its_end_is_whole() -> None:
    data = encoded(photograph(90, 70), "JPEG")
    assert np.array_equal(decode(data + b"\x00\r\n"), decode(data))
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(decode(data), np.asarray(image))


def _jpeg(frame: bytes = b"", scans: int = 1, before: bytes = b"") -> bytes:
    """A head by hand: a frame of grey pixels unless another is given."""
    frame = frame or struct.pack(">BHHB3B", 8, 4, 4, 1, 1, 0x11, 0)
    scan = b"\xff\xda" + struct.pack(">H", 8) + b"\x01\x01\x00\x00\x3f\x00" + b"\x12"
    return b"\xff\xd8" + before + b"\xff\xc0" + struct.pack(">H", len(frame) + 2) + frame + scan * scans + b"\xff\xd9"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (_jpeg(), ""),
        (_jpeg(before=b"some bytes between"), ""),
        (_jpeg(scans=MAX_SCANS + 1), "scans are more than"),
        (_jpeg(struct.pack(">BHHB3B", 12, 4, 4, 1, 1, 0x11, 0)), "12 bits"),
        (_jpeg(struct.pack(">BHHB", 8, 4, 4, 2) + b"\x01\x11\x00" * 2), "2 components"),
        (_jpeg(struct.pack(">BHHB3B", 8, 65_535, 65_535, 1, 1, 0x11, 0)), "65535 x 65535 pixels"),
        (_jpeg(struct.pack(">BHHB3B", 8, 0, 4, 1, 1, 0x11, 0)), "4 x 0 pixels"),
        (_jpeg(struct.pack(">BHHB3B", 8, 4, 4, 1, 1, 0x51, 0)), "its frame is damaged"),
        (_jpeg(struct.pack(">BHHB3B", 8, 4, 4, 3, 1, 0x11, 0)), "its frame is damaged"),
        (_jpeg(before=_jpeg()[2:15]), "several frames"),
        (_jpeg(before=b"\xff\xe1\xff\xff"), "cut off within its head"),
        (b"\xff\xd8\xff\xd9" + b"\0" * 9, "no picture"),
    ],
)
def test_what_the_fast_decoder_declines_is_looked_at_before_pillow(data: bytes, reason: str) -> None:
    found = refusal(data, MAX_PIXELS)
    assert reason in found
    assert bool(reason) == bool(found)


def test_pillow_is_given_no_jpeg_whose_head_is_not_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: Any, **__: Any) -> None:
        raise AssertionError("Pillow was asked")

    monkeypatch.setattr(Image, "open", opened)
    for data in (_jpeg(scans=MAX_SCANS + 1, before=b"x"), _jpeg(before=_jpeg()[2:15])):
        with pytest.raises(BrokenImage, match="scans|frames"):
            decode(data)
