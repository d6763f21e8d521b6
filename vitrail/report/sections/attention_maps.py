"""Where a model looks (figures 6 and 14): attention rollout over images, and the maps of single heads."""

import numpy as np
from markupsafe import Markup
from PIL import Image

from vitrail.core import numbers
from vitrail.findings import inspection
from vitrail.report.blocks import Block, Chart, Images, Part, Text, Tile
from vitrail.report.charts.images import (
    GAP,
    as_image,
    attention_overlay,
    head_tiles,
    map_colours,
    photograph,
    picture,
    sheet_chart,
    tiled,
)
from vitrail.report.folder import Json, texts

ROWS = 8  # images drawn large: image, overlay, map
LARGE, SMALL = 112, 64  # CSS pixels
NOTE = (
    "Attention followed through all layers from the output back to the patches. Left the image as the model sees it; "
    "then the same image, lit where the answer comes from; right the attention on each patch, from none (dark) to the "
    "most (bright)."
)


def rollout_part(images: np.ndarray | None, maps: np.ndarray | None, rows: list[Json], content: Json) -> Part | None:
    """Figure 6 of the first images, figure 14 of all where there are more; of `images` and `rollout` in arrays.npz."""
    if images is None or maps is None or images.ndim != 4 or maps.ndim != 3 or not len(images):
        return None
    shown = [
        _seen(i, image, weights, rows) for i, (image, weights) in enumerate(zip(images[:ROWS], maps, strict=False))
    ]
    many = []
    if len(images) > ROWS:
        for i, (image, weights) in enumerate(zip(images, maps, strict=False)):
            before = photograph(image, f"Image {i + 1}", width=SMALL)
            after = photograph(attention_overlay(image, weights), f"Image {i + 1}, lit where it looks", width=SMALL)
            many.append(Tile((before, after), str(i + 1)))
    drawn = f"All {len(many)} images that were drawn by lot, none chosen by hand."
    return Part(
        "Where it looks", [Text(inspection.rollout(content)), Images([shown], NOTE), Images([many], drawn, "dense")]
    )


def _seen(i: int, image: np.ndarray, weights: np.ndarray, rows: list[Json]) -> Tile:
    """An image, the same lit where the model looks, and the map itself."""
    row = rows[i] if i < len(rows) else {}
    label, predicted = row.get("label"), row.get("predicted")
    name = f"image {i + 1}" if label is None else str(label)
    caption = "" if label is None else str(label)
    if predicted is not None:
        answer = f"answer {predicted}, {numbers.percent(row.get('confidence'), 0)} sure"
        caption = answer if label is None else f"{label}: {answer}"
    before = photograph(image, f"Example of {name}", width=LARGE)
    after = photograph(attention_overlay(image, weights), f"The same {name}, lit where the model looks", width=LARGE)
    colours = picture(map_colours(weights), f"Attention on each patch of {name}", width=LARGE)
    return Tile((before, after, colours), f"{i + 1} · {caption}" if caption else str(i + 1))


def heads_part(maps: np.ndarray | None, images: np.ndarray | None, content: Json) -> Part | None:
    """Maps of single heads, `head_maps` in arrays.npz: a grid of layers and heads for an image, or a few for many."""
    asked = content.get("head_maps")
    if maps is None or maps.ndim != 5 or not maps.size or not isinstance(asked, dict) or images is None:
        return None
    layers, names = texts(asked.get("layers")), texts(asked.get("heads"))
    if maps.shape[1:3] != (len(layers), len(names)) or images.ndim != 4 or len(images) < len(maps):
        return None
    title, said = "What single heads look at", f"{_who_looks(asked, content)} {_sharpest(maps, layers, names)}"
    if len(layers) * len(names) <= ROWS:
        return Part(title, [Text(said), Chart(_few(maps, images, layers, names))])
    drawn: list[Block] = []
    for i, of_image in enumerate(maps):
        alt = f"Attention of each of {len(names)} heads in each of {len(layers)} layers for image {i + 1}."
        drawing = sheet_chart(
            head_tiles(of_image), layers, names, row_name="layer", column_name="head", title=alt, widest=600
        )
        drawn.append(Chart(drawing, beside=photograph(images[i], f"Image {i + 1}", width=SMALL)))
    return Part(title, [Text(said), *drawn])


def _few(maps: np.ndarray, images: np.ndarray, layers: list[str], names: list[str]) -> Markup:
    """A row for each image: the image, then a tile for each of the chosen heads."""
    side = 96
    height = max(1, round(side * images.shape[1] / images.shape[2]))
    flat = map_colours(maps.reshape(len(maps), -1, *maps.shape[3:]))
    tiles = np.stack(
        [
            np.stack([_fitted(image, side, height), *(_fitted(one, side, height, smooth=False) for one in row)])
            for image, row in zip(images, flat, strict=False)
        ]
    )
    labels = ["image", *(f"layer {layer} head {name}" for layer in layers for name in names)]
    return sheet_chart(
        tiled(tiles, gap=GAP),
        [str(i + 1) for i in range(len(tiles))],
        labels,
        row_name="image",
        column_name="",
        title="Attention of the chosen heads for each image.",
        tile=110,
    )


def _fitted(pixels: np.ndarray, width: int, height: int, smooth: bool = True) -> np.ndarray:
    how = Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST
    fitted: np.ndarray = np.asarray(as_image(pixels).resize((width, height), how))
    return fitted


def _who_looks(asked: Json, content: Json) -> str:
    query = asked.get("query")
    if isinstance(query, list) and len(query) == 2:
        who = f"the patch in row {query[0]} and column {query[1]}"
    elif content.get("class_token"):
        who = "the class token"
    else:
        return "Each tile is one head: how much all patches together attend to each, scaled to the tile's own maximum."
    return f"Each tile is one head: how much {who} attends to each patch, scaled to the tile's own maximum."


def _sharpest(maps: np.ndarray, layers: list[str], names: list[str]) -> str:
    """Which head attends to the fewest patches and which to the most, over the images drawn."""
    flat = np.sort(maps.astype(np.float64).reshape(*maps.shape[:3], -1), axis=-1)[..., ::-1]
    held = flat.cumsum(axis=-1)
    shares = ((held < held[..., -1:] / 2).sum(axis=-1) + 1).mean(axis=0) / flat.shape[-1]
    if shares.size < 2:
        return f"Half of its attention lies on {numbers.percent(float(shares.mean()), 0)} of the patches."
    few, most = (np.unravel_index(i, shares.shape) for i in (shares.argmin(), shares.argmax()))
    name = [f"layer {layers[layer]}, head {names[head]}" for layer, head in (few, most)]
    return (
        f"Half of the attention lies on {numbers.percent(float(shares[few]), 0)} of the patches in {name[0]},"
        f" and on {numbers.percent(float(shares[most]), 0)} in {name[1]}."
    )
