"""Bytes to uint8 pixels [H, W, 3], upright; and what is broken, and why."""

import io
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import simplejpeg
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from vitrail.data.decode import image
from vitrail.data.decode.jpeg_header import MAX_SCANS, Head, Rows, read_head, refusal, some_rows

Pixels = UInt8[np.ndarray, "_h _w 3"]  # sizes may differ between arguments and result
Size = tuple[int, int]  # height, width
Box = tuple[int, int, int, int]  # left, top, right, bottom
FloatBox = tuple[int | float, int | float, int | float, int | float]

MAX_PIXELS = 2 * 89_478_485  # 179 megapixels, 0.5 GB decoded: above it Pillow, too, takes a file for an attack
# Files of these names are taken for images; others are, where their first bytes say so (`kind_of`).
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"}
    | {".pnm", ".avif", ".jp2", ".j2k", ".jpf", ".jpx"}
)
HEAD = 32  # bytes that tell the kind of an image
# What Pillow is asked for: some of its other formats start programs, and none is for photographs.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF", "JPEG2000")

_ORIENTATION = 0x0112  # EXIF's number of it
_SCALES = (8, 4, 2)  # by which libjpeg-turbo can make an image smaller in the time that it saves
_SCALED_FROM = 64  # pixels of the shorter side: below, two scales may give one size
_CONTEXT = 1  # row that is decoded above and below a part: colours are interpolated with it

# EXIF orientation -> (rows become columns, then rows reversed, then columns reversed) to turn a picture upright.
_TURNS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


class BrokenImage(Exception):
    """An image that cannot be decoded; the message is the reason, `key` the name of the image where it is known."""

    def __init__(self, reason: str, key: str | None = None):
        super().__init__(reason)
        self.key = key


class Jpeg:
    """A JPEG of which only the head has been read: `height` and `width` of the upright picture, and no pixels yet.

    Decoded by simplejpeg (libjpeg-turbo), or by Pillow where that declines: what is damaged.
    """

    def __init__(self, data: bytes, head: Head):
        self._data, self._head = data, head
        _refuse_bomb(head.width, head.height)
        if head.scans > MAX_SCANS:
            raise BrokenImage(f"{head.scans} scans are more than the {MAX_SCANS} allowed")
        turned = _TURNS[head.orientation][0]
        self.height, self.width = (head.width, head.height) if turned else (head.height, head.width)

    def pixels(self) -> Pixels:
        """All of it; raises BrokenImage."""
        try:
            pixels = simplejpeg.decode_jpeg(self._data, colorspace="RGB")
        except ValueError:
            return _decode_with_pillow(self._data)
        return np.ascontiguousarray(_upright(pixels, self._head.orientation))

    def part(self, box: Box, size: Size) -> tuple[Pixels, FloatBox]:
        """Pixels that hold the box, and where it lies in them: for a box that will be resized to `size`.

        They are decoded at the smallest scale (1, 1/2, 1/4, 1/8) at which the box still has `size` in both directions,
        and as few rows above and below the box as the file allows. At scale 1 they are those of `pixels`.

        Raises:
            BrokenImage: it cannot be decoded; what is damaged outside of the box may go unseen.
        """
        head, scale = self._head, self._scale(box, size)
        left, top, right, bottom = box
        if head.orientation == 1:
            rows = some_rows(self._data, head, top - _CONTEXT * scale, bottom + _CONTEXT * scale)
        else:
            rows = Rows(self._data, 0, head.height, True)
        expected = (-(-rows.height // scale), -(-head.width // scale))
        try:
            if scale == 1:
                stored = simplejpeg.decode_jpeg(rows.data, "RGB", strict=rows.clean)
            else:
                stored = simplejpeg.decode_jpeg(
                    rows.data, "RGB", min_height=expected[0], min_width=expected[1], strict=rows.clean
                )
        except ValueError:
            stored, head, rows = _decode_with_pillow(self._data), head._replace(orientation=1), rows._replace(first=0)
            scale, expected = 1, (self.height, self.width)  # Pillow has turned it
        if stored.shape[:2] != expected:
            raise BrokenImage("two of its headers contradict each other")
        if scale == head.orientation == 1:
            return stored, (left, top - rows.first, right, bottom - rows.first)
        pixels = _upright(stored, head.orientation)
        # the last pixel of a scaled picture stands for what is left of the last few; turned round, it comes first
        _, rows_reversed, columns_reversed = _TURNS[head.orientation]
        down = pixels.shape[0] - self.height / scale if rows_reversed else -rows.first / scale
        across = pixels.shape[1] - self.width / scale if columns_reversed else 0
        return pixels, (left / scale + across, top / scale + down, right / scale + across, bottom / scale + down)

    def _scale(self, box: Box, size: Size) -> int:
        """The largest by which the box can be divided and still have the size."""
        times = min((box[3] - box[1]) // size[0], (box[2] - box[0]) // size[1])
        if times < _SCALES[-1] or min(self.height, self.width) < _SCALED_FROM:
            return 1
        return next(scale for scale in _SCALES if times >= scale)


Picture = Pixels | Jpeg  # whose height and width are known


def kind_of(head: bytes) -> str:
    """The format that the first HEAD bytes of a file say, as "JPEG" or "HEIC"; empty where they are of no image."""
    for start, kind in _MAGIC.items():
        if head.startswith(start):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        brands = {head[i : i + 4] for i in range(8, len(head), 4)}
        return "AVIF" if brands & {b"avif", b"avis"} else "HEIC" if brands & _HEIC else ""
    if head[:2] == b"BM" and head[6:10] == bytes(4):
        return "BMP"
    return "PPM" if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace() else ""


_MAGIC = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF8": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"\0\0\0\x0cjP  ": "JPEG2000",
    b"\xff\x4f\xff\x51": "JPEG2000",
}
_HEIC = {b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"}


def reads_heic() -> bool:
    """Whether what HEIC needs is installed: `pip install 'vitrail[heic]'`."""
    return find_spec("pillow_heif") is not None


def _heic(data: bytes) -> Pixels:
    try:
        import pillow_heif
    except ImportError:
        raise BrokenImage("HEIC, which needs `pip install 'vitrail[heic]'`") from None
    found = pillow_heif.open_heif(data)
    _refuse_bomb(*found.size)
    return from_pillow(found.to_pillow())


def look(data: bytes) -> Picture:
    """What is there of an encoded image once its size is known: a JPEG that is still to be decoded, or all its pixels.

    Raises:
        BrokenImage: as `decode`.
    """
    if not data:
        raise BrokenImage("empty file")
    head = read_head(data)
    return Jpeg(data, head) if head else _decode_with_pillow(data)


def decode(data: bytes) -> Pixels:
    """Decodes an encoded image to RGB, turned upright by its EXIF orientation, alpha laid on black.

    JPEG goes through simplejpeg (libjpeg-turbo), everything else, and the JPEGs that it declines, through Pillow.
    Of files with several pictures it is the first.

    Raises:
        BrokenImage: empty, truncated, not an image, or more than MAX_PIXELS pixels.
    """
    return whole(look(data))


def whole(picture: Picture) -> Pixels:
    """All pixels of a picture; raises BrokenImage."""
    return picture.pixels() if isinstance(picture, Jpeg) else picture


def size_of(picture: Picture) -> Size:
    """Height and width."""
    return (picture.height, picture.width) if isinstance(picture, Jpeg) else (picture.shape[0], picture.shape[1])


def part_of(picture: Picture, box: Box, size: Size) -> tuple[Pixels, FloatBox]:
    """Pixels that hold the box, and where it lies in them, for a box that will be resized to `size`: `Jpeg.part`."""
    return picture.part(box, size) if isinstance(picture, Jpeg) else (picture, box)


def read(path: Path) -> bytes:
    """The bytes of a file; an unreadable one is a broken image, not the end of a run."""
    try:
        with open(path, "rb", buffering=0) as file:  # a buffer would only be copied
            return file.readall()
    except OSError as problem:
        raise BrokenImage(problem.strerror or str(problem), str(path)) from None


def _refuse_bomb(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise BrokenImage(f"{width} x {height} pixels are more than the {MAX_PIXELS:,} allowed")


def _upright(stored: Pixels, orientation: int) -> Pixels:
    """A view of the stored picture, turned."""
    transposed, rows, columns = _TURNS[orientation]
    pixels = stored.transpose(1, 0, 2) if transposed else stored
    return pixels[:: -1 if rows else 1, :: -1 if columns else 1]


def _decode_with_pillow(data: bytes) -> Pixels:
    if data[:2] == b"\xff\xd8" and (reason := refusal(data, MAX_PIXELS)):  # Pillow's decoder is given no other
        raise BrokenImage(reason)
    try:
        if kind_of(data[:HEAD]) == "HEIC":
            return _heic(data)
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return from_pillow(image)  # warnings of metadata and of size: what cannot be decoded raises
    except BrokenImage:
        raise
    except UnidentifiedImageError:
        raise BrokenImage("not an image of a known format") from None
    except Exception as problem:  # decoders raise OSError, SyntaxError, struct.error, ... on damaged files
        raise BrokenImage(f"{problem}" or type(problem).__name__) from None


def from_pillow(image: Image.Image) -> Pixels:
    """The pixels of an open Pillow image, treated as its file would be: upright, RGB, alpha laid on black."""
    _refuse_bomb(*image.size)
    image.load()  # in some formats the orientation comes after the pixels
    if image.getexif().get(_ORIENTATION, 1) != 1:  # turning copies, even where there is nothing to turn
        image = ImageOps.exif_transpose(image)
    return np.asarray(_to_rgb(image))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        return Image.fromarray(_of_floats(np.asarray(image))).convert("RGB")
    if image.mode.startswith("I"):  # Pillow clips 16 bits to 8 instead of scaling
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise BrokenImage(f"whole numbers from {values.min()} to {values.max()}; expected 16 bits, 0 to 65535")
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba).convert("RGB")
    return image.convert("RGB")


def _of_floats(values: np.ndarray) -> np.ndarray:
    """Grey floats from 0 to 1 as uint8; others could mean anything."""
    low, high = float(values.min()), float(values.max())
    if not 0 <= low <= high <= 1:  # false for what is no number
        raise BrokenImage(f"floats from {low:g} to {high:g}; expected 0 to 1: save it with 8 or 16 bits")
    return np.asarray(np.rint(values * 255), dtype=np.uint8)


def to_picture(example_image: bytes | Pixels) -> Picture:
    """A stored image as far as its size is known; raises BrokenImage."""
    return image.look(example_image) if isinstance(example_image, bytes) else example_image


def to_pixels(example_image: bytes | Pixels) -> Pixels:
    """The pixels of a stored image; raises BrokenImage."""
    return image.whole(to_picture(example_image))
