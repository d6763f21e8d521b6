"""Arrays to pictures: PNGs inside the page, tiles of filters and positions, attention laid over an image."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from PIL import Image, ImageFilter

from vitrail.core.numbers import Number
from vitrail.report.blocks import Picture
from vitrail.report.charts import svg
from vitrail.report.charts.svg import element, text

GAP = 2  # pixels between tiles
LARGEST = 320  # pixels a side; larger images are reduced, so that a page of photographs stays small

# Nine colours of matplotlib's viridis, as in the paper's figure 7: even steps to the eye, readable when colour-blind.
_VIRIDIS = np.array(
    [
        [68, 1, 84],
        [71, 44, 122],
        [59, 81, 139],
        [44, 113, 142],
        [33, 144, 141],
        [39, 173, 129],
        [92, 200, 99],
        [170, 220, 50],
        [253, 231, 37],
    ]
)


def picture(pixels: np.ndarray, alt: str, *, width: int) -> Picture:
    """A picture `width` CSS pixels wide, of uint8 [H, W] or [H, W, 1 | 3 | 4]; a small one is shown with its pixels."""
    image = as_image(pixels)
    height = max(1, round(width * image.height / image.width))
    small = image.width < width
    if max(image.size) > LARGEST and not small:
        image.thumbnail((max(LARGEST, width), max(LARGEST, height)), Image.Resampling.LANCZOS)
    return Picture(_png(image), alt, width, height, small)


def photograph(pixels: np.ndarray, alt: str, *, width: int) -> Picture:
    """As `picture`, of uint8 [H, W, 3]; one with more pixels than can be seen is reduced, and kept as a JPEG."""
    image = as_image(pixels)
    if image.width <= 2 * width:
        return picture(pixels, alt, width=width)
    height = max(1, round(width * image.height / image.width))
    buffer = io.BytesIO()
    image.resize((2 * width, 2 * height), Image.Resampling.LANCZOS).save(buffer, format="JPEG", quality=88)
    uri = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return Picture(uri, alt, width, height)


def fitted(pixels: np.ndarray, alt: str, side: int) -> Picture:
    """As `picture`, with a longer side of `side` CSS pixels."""
    height, width = pixels.shape[:2]
    return picture(pixels, alt, width=max(16, round(side * width / max(height, width))))


def data_uri(pixels: np.ndarray) -> str:
    """Pixels as a PNG inside the page."""
    return _png(as_image(pixels))


def _png(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def as_image(pixels: np.ndarray) -> Image.Image:
    """An image of uint8 values, or of floats from 0 to 1."""
    if pixels.dtype != np.uint8:
        pixels = np.rint(np.clip(np.nan_to_num(pixels), 0, 1) * 255).astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)


def viridis(values: np.ndarray, low: Number, high: Number) -> np.ndarray:
    """uint8 [..., 3]: the colour of each value between `low` and `high`."""
    place = np.clip((np.nan_to_num(values, nan=low) - low) / max(high - low, 1e-12), 0, 1) * (len(_VIRIDIS) - 1)
    anchors = np.arange(len(_VIRIDIS))
    channels = [np.interp(place, anchors, _VIRIDIS[:, channel]) for channel in range(3)]
    colours: np.ndarray = np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
    return colours


def tiled(tiles: np.ndarray, *, gap: int) -> np.ndarray:
    """uint8 [Y, X, H, W, 3] to one RGBA image; the gaps are transparent, so that they suit a light and a dark page."""
    rows, columns, height, width = tiles.shape[:4]
    sheet = np.zeros((rows * (height + gap) - gap, columns * (width + gap) - gap, 4), np.uint8)
    for y in range(rows):
        for x in range(columns):
            top, left = y * (height + gap), x * (width + gap)
            sheet[top : top + height, left : left + width] = np.dstack(
                [tiles[y, x], np.full((height, width), 255, np.uint8)]
            )
    return sheet


def filter_tiles(filters: np.ndarray, *, columns: int) -> np.ndarray:
    """The principal components of the patch embedding, float [K, P, P, 3] from 0 to 1, as a sheet of tiles, RGBA."""
    count, empty = len(filters), -len(filters) % columns
    pixels = np.rint(np.clip(np.nan_to_num(filters), 0, 1) * 255).astype(np.uint8)
    tiles = _enlarged(np.concatenate([pixels, np.zeros((empty, *pixels.shape[1:]), np.uint8)]))
    _, height, width, _ = tiles.shape
    rows = (count + empty) // columns
    sheet = tiled(tiles.reshape(rows, columns, height, width, 3), gap=GAP)
    if empty:  # the places after the last filter are transparent, not black
        sheet[(rows - 1) * (height + GAP) :, (columns - empty) * (width + GAP) - GAP :] = 0
    return sheet


def position_tiles(similarity: np.ndarray, grid: tuple[int, int], low: Number = -1.0) -> tuple[np.ndarray, int]:
    """Figure 7, centre: for each patch, the similarity of its position to all others; RGBA pixels, and the stride.

    Colours go from `low` to 1. A grid finer than 20 a side is sampled: every stride-th patch gets a tile.
    """
    h, w = grid
    stride = -(-max(h, w) // 20)
    colours = viridis(similarity.reshape(h, w, h, w)[::stride, ::stride], low, 1.0)
    rows, columns = colours.shape[:2]
    tiles = _enlarged(colours.reshape(rows * columns, h, w, 3))
    return tiled(tiles.reshape(rows, columns, *tiles.shape[1:]), gap=GAP), stride


def head_tiles(maps: np.ndarray) -> np.ndarray:
    """What single heads attend to, float [L, H, h, w], each scaled by its own maximum, as a sheet of tiles, RGBA."""
    rows, columns, h, w = maps.shape
    tiles = _enlarged(map_colours(maps).reshape(rows * columns, h, w, 3))
    return tiled(tiles.reshape(rows, columns, *tiles.shape[1:]), gap=GAP)


def map_colours(maps: np.ndarray) -> np.ndarray:
    """uint8 [..., h, w, 3]: each map from 0 to its own maximum."""
    values = np.nan_to_num(maps.astype(np.float64))
    return viridis(values / np.maximum(values.max(axis=(-2, -1), keepdims=True), 1e-12), 0.0, 1.0)


def _enlarged(tiles: np.ndarray) -> np.ndarray:
    """Tiles [K, H, W, 3] of at least 12 pixels a side, so that the gap between them stays small beside them."""
    zoom = -(-12 // min(tiles.shape[1:3]))
    return tiles.repeat(zoom, axis=1).repeat(zoom, axis=2)


def cut_into_patches(image: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """An image, uint8 [H, W, 3], with a transparent gap between the patches that the transformer reads."""
    h, w = grid
    height, width = image.shape[0] // h * h, image.shape[1] // w * w
    tiles = image[:height, :width].reshape(h, height // h, w, width // w, 3).swapaxes(1, 2)
    return tiled(tiles, gap=max(1, width // w // 4))


def attention_overlay(image: np.ndarray, rollout: np.ndarray) -> np.ndarray:
    """The image, uint8 [H, W, 3], lit where the output looks: its attention on the patches [h, w] as a mask.

    As the authors drew figures 6 and 14 (google-research/vision_transformer, issue 27): weights over their maximum,
    resized to the image with Lanczos, blurred by one patch, stretched to 0...1.
    """
    height, width = image.shape[:2]
    weights = np.nan_to_num(rollout.astype(np.float64))
    mask = as_image(weights / max(weights.max(), 1e-12)).resize((width, height), Image.Resampling.LANCZOS)
    blurred = np.asarray(mask.filter(ImageFilter.GaussianBlur(radius=width / rollout.shape[1])), np.float64)
    spread = blurred.max() - blurred.min()
    shares = (blurred - blurred.min()) / spread if spread > 0 else np.ones_like(blurred)
    return np.rint(image * shares[..., None]).astype(np.uint8)


def sheet_chart(
    sheet: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    row_name: str,
    column_name: str,
    title: str,
    widest: Number = svg.WIDE,
    tile: Number = 60,
) -> Markup:
    """A sheet of tiles (`pictures.tiled`, RGBA), a label for each row and column of tiles, and the axes' names.

    Tiles are `tile` CSS pixels wide, less where the chart would be wider than `widest`.
    """
    height, width = sheet.shape[:2]
    left = 22 + max((svg.text_width(label, 12) for label in rows), default=0) + 6
    top, below = 2.0, 40.0 if column_name else 22.0
    scale = min(tile * len(columns), widest - left) / width
    across, down = (width + GAP) / len(columns) * scale, (height + GAP) / len(rows) * scale
    right, bottom = left + width * scale, top + height * scale
    parts = [
        element(
            "image",
            href=data_uri(sheet),
            x=float(left),
            y=top,
            width=float(width * scale),
            height=float(height * scale),
            preserveAspectRatio="none",
        )
    ]
    widths = [svg.text_width(label, 12) + 4 for label in columns]
    every = _every(across, max(widths, default=0))
    for i in range(0, len(columns), every):
        parts.append(text(left + (i + 0.5) * across - GAP / 2, bottom + 12, columns[i], "tick", anchor="middle"))
    every = _every(down, 14)
    for i in range(0, len(rows), every):
        parts.append(text(left - 6, top + (i + 0.5) * down - GAP / 2, rows[i], "tick", anchor="end"))
    if column_name:
        parts.append(text((left + right) / 2, bottom + 30, column_name, "name", anchor="middle"))
    aside = f"translate(8 {(top + bottom) / 2:.0f}) rotate(-90)"
    parts.append(element("text", row_name, class_="name", text_anchor="middle", transform=aside))
    return svg.svg(parts, width=right + 2, height=bottom + below, title=title)


def _every(room: Number, needed: Number) -> int:
    """Every how manieth label is written, so that they do not touch."""
    return next(step for step in (1, 2, 5, 10, 20, 50, 1000) if step * room >= needed or step == 1000)
