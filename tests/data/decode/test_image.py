"""Bytes to upright RGB pixels, whatever the file says; broken files get a reason."""

import io
import struct
import time
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from tests.data.pictures import encoded, noise, photograph, smooth
from vitrail.data.decode.image import BrokenImage, decode

ORIENTATION = 0x0112

# EXIF orientation -> the turn that makes the stored picture upright, by arrays alone.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


def turned(pixels: np.ndarray, orientation: int, kind: str, **options: object) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encoded(pixels, kind, exif=exif, **options)


def as_pillow_sees_it(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_lossless_picture_is_turned_upright_exactly(orientation: int) -> None:
    pixels = noise(5, 8)
    data = turned(pixels, orientation, "PNG")
    assert np.array_equal(decode(data), UPRIGHT[orientation](pixels))
    assert np.array_equal(decode(data), as_pillow_sees_it(data))


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_jpeg_is_turned_upright(orientation: int) -> None:
    pixels = smooth(40, 24)
    data = turned(pixels, orientation, "JPEG", quality=98, subsampling=0)
    got = decode(data).astype(int)
    assert np.abs(got - UPRIGHT[orientation](pixels)).max() <= 4  # measured 2: JPEG's own loss
    assert np.abs(got - as_pillow_sees_it(data)).max() == 0


def test_an_orientation_behind_a_long_colour_profile_is_found() -> None:
    data = turned(smooth(40, 24), 6, "JPEG")
    profile = b"\xff\xe2" + struct.pack(">H", 60_002) + b"\x00" * 60_000  # an APP2 segment before the EXIF one
    assert decode(data[:2] + profile + data[2:]).shape == (24, 40, 3)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("shape", [(64, 48), (33, 51)])
def test_jpeg_agrees_with_pillow(subsampling: int, shape: tuple[int, int]) -> None:
    data = encoded(noise(*shape), "JPEG", quality=85, subsampling=subsampling)
    difference = np.abs(decode(data).astype(int) - as_pillow_sees_it(data))
    assert difference.max() <= 2  # measured 0: both are libjpeg-turbo; its upsampling may differ between versions
    progressive = encoded(noise(*shape), "JPEG", quality=85, subsampling=subsampling, progressive=True)
    assert np.abs(decode(progressive).astype(int) - as_pillow_sees_it(progressive)).max() <= 2


PICTURE = Image.fromarray(photograph(40, 56))

# kind, mode, options of saving -> the largest difference from Pillow's own conversion that is allowed
MODES = [
    ("JPEG", "RGB", {}, 0),  # measured 0 for all: both are libjpeg-turbo, and the rest is Pillow itself
    ("JPEG", "L", {}, 0),
    ("JPEG", "CMYK", {}, 0),
    ("JPEG", "RGB", {"subsampling": 0, "progressive": True}, 0),
    ("PNG", "1", {}, 0),
    ("PNG", "L", {}, 0),
    ("PNG", "P", {}, 0),
    ("PNG", "RGB", {}, 0),
    ("WEBP", "RGB", {}, 0),
    ("WEBP", "RGB", {"lossless": True}, 0),
    ("GIF", "P", {}, 0),
    ("GIF", "L", {}, 0),
    ("BMP", "1", {}, 0),
    ("BMP", "L", {}, 0),
    ("BMP", "P", {}, 0),
    ("BMP", "RGB", {}, 0),
    ("TIFF", "1", {"compression": "group4"}, 0),
    ("TIFF", "L", {}, 0),
    ("TIFF", "P", {}, 0),
    ("TIFF", "RGB", {"compression": "tiff_lzw"}, 0),
    ("TIFF", "RGB", {"compression": "jpeg"}, 0),
    ("TIFF", "CMYK", {}, 0),
    ("TIFF", "YCbCr", {}, 0),
    ("TIFF", "LAB", {}, 0),
    ("PPM", "L", {}, 0),
    ("PPM", "RGB", {}, 0),
    ("AVIF", "RGB", {"speed": 10}, 0),
]


@pytest.mark.parametrize(("kind", "mode", "options", "bound"), MODES, ids=lambda v: str(v))
@pytest.mark.parametrize("orientation", [None, 1, 3, 6])
def test_every_mode_of_every_format_is_as_pillow_converts_it(
    kind: str, mode: str, options: dict[str, Any], bound: int, orientation: int | None
) -> None:
    if orientation is not None and kind not in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF"):
        pytest.skip(f"{kind} has no EXIF")
    picture = PICTURE.quantize(64) if mode == "P" else converted(mode)
    exif = {} if orientation is None else {"exif": exif_of(orientation)}
    data = encoded(picture, kind, **options, **exif)
    got = decode(data).astype(int)
    assert got.shape == ((56, 40, 3) if orientation == 6 else (40, 56, 3))
    assert np.abs(got - as_pillow_sees_it(data)).max() <= bound


def converted(mode: str) -> Image.Image:
    if mode != "LAB":
        return PICTURE.convert(mode)
    lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    result = ImageCms.applyTransform(PICTURE, lab)
    assert result is not None
    return result


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_of_every_format_is_laid_on_black(kind: str, mode: str) -> None:
    if mode == "LA" and kind == "AVIF":
        pytest.skip("AVIF has no such mode")
    alpha = Image.fromarray(smooth(40, 56)[..., 0])
    picture = PICTURE.convert(mode)
    picture.putalpha(alpha)
    data = encoded(picture, kind, **({"lossless": True} if kind == "WEBP" else {}))
    with Image.open(io.BytesIO(data)) as opened:
        stored = np.asarray(opened.convert("RGBA")).astype(float)
    assert np.abs(decode(data) - stored[..., :3] * stored[..., 3:] / 255).max() <= 1  # rounding


def test_a_cmyk_jpeg_becomes_rgb() -> None:
    cmyk = Image.fromarray(smooth(24, 32)).convert("CMYK")
    data = encoded(cmyk, "JPEG", quality=95)
    assert np.abs(decode(data).astype(int) - smooth(24, 32)).mean() < 3  # measured 0.98


def test_grey_becomes_three_equal_channels() -> None:
    grey = noise(6, 9)[..., 0]
    assert np.array_equal(decode(encoded(grey)), np.repeat(grey[..., None], 3, axis=-1))
    jpeg = decode(encoded(Image.fromarray(smooth(16, 16)[..., 0]), "JPEG"))
    assert jpeg.shape == (16, 16, 3)
    assert (jpeg[..., 0] == jpeg[..., 2]).all()


def test_a_palette_is_looked_up() -> None:
    palette = Image.fromarray(noise(6, 9)).quantize(16)
    assert np.array_equal(decode(encoded(palette)), np.asarray(palette.convert("RGB")))
    assert np.array_equal(decode(encoded(palette, "GIF")), np.asarray(palette.convert("RGB")))


def test_alpha_is_laid_on_black() -> None:
    rgb, alpha = noise(7, 5), noise(7, 5, 1)[..., :1]
    expected = rgb * (alpha / 255)
    got = decode(encoded(np.concatenate([rgb, alpha], axis=-1)))
    assert np.abs(got - expected).max() <= 1  # rounding
    grey = decode(encoded(Image.fromarray(np.concatenate([rgb[..., :1], alpha], axis=-1), "LA")))
    assert np.abs(grey - expected[..., :1]).max() <= 1


def test_a_transparent_palette_entry_is_black() -> None:
    palette = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), "P")
    palette.putpalette([250, 240, 230, 10, 20, 30])
    assert decode(encoded(palette, transparency=0)).tolist() == [[[0, 0, 0], [10, 20, 30]]]


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    deep = np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16)
    assert decode(encoded(deep))[0, :, 0].tolist() == [0, 0, 1, 128, 255]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_broken(kind: str, share: float) -> None:
    data = encoded(noise(64, 64), kind)
    with pytest.raises(BrokenImage):
        decode(data[: int(len(data) * share)])


def test_a_truncated_jpeg_with_exif_is_broken() -> None:
    data = turned(noise(64, 64), 6, "JPEG")
    with pytest.raises(BrokenImage):
        decode(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"\x00" * 1000, "not an image"),
        (b"<html>404 Not Found</html>", "not an image"),
        (b"\xff\xd8\xff\xe0 this only starts like a JPEG", "."),
        (b"\x89PNG\r\n\x1a\n this only starts like a PNG", "."),
    ],
)
def test_what_is_no_image_is_broken_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BrokenImage, match=reason):
        decode(data)


def test_damaged_bytes_never_raise_anything_else() -> None:
    rng = np.random.default_rng(0)
    originals = [encoded(noise(24, 24), kind) for kind in ("JPEG", "PNG", "GIF", "BMP")]
    for i in range(200):
        data = bytearray(originals[i % len(originals)])
        for place in rng.integers(0, len(data), 3):
            data[place] = rng.integers(256)
        try:
            pixels = decode(bytes(data))
        except BrokenImage:
            continue
        assert pixels.dtype == np.uint8
        assert pixels.shape[-1] == 3


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\x00" * (1 << 20))
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    started = time.perf_counter()
    with pytest.raises(BrokenImage, match="60000|pixels"):
        decode(png)
    jpeg = bytearray(encoded(noise(8, 8), "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 60_000, 60_000)
    with pytest.raises(BrokenImage, match="60000 x 60000 pixels"):
        decode(bytes(jpeg))
    assert time.perf_counter() - started < 2  # measured 0.007
