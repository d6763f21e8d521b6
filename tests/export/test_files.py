"""Files of all modes, orientations and sizes: what predict.py reads and the graph makes of them is vitrail's view."""

import io
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from tests.data.pictures import encoded
from tests.export.test_preprocessing import photograph
from vitrail.data.decode.image import decode
from vitrail.data.transforms.pipeline import Preprocess, eval_transform
from vitrail.export.card import pixels_text
from vitrail.export.preprocessing import Preprocessing


def reader() -> Callable[[Any], np.ndarray]:
    """`pixels` of predict.py."""
    names: dict[str, Any] = {"np": np, "Image": Image, "ImageOps": ImageOps, "sys": sys}
    exec(pixels_text(), names)
    return names["pixels"]  # type: ignore[no-any-return]


def _alpha(image: Image.Image) -> Image.Image:
    image.putalpha(image.convert("L").rotate(180))
    return image


def _turned(orientation: int) -> dict[str, Any]:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return {"exif": exif}


def _grey16(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L")).astype(np.uint16) * 257


FILES: dict[str, Callable[[Image.Image], bytes]] = {
    "RGB": encoded,
    "grey": lambda image: encoded(image.convert("L")),
    "black and white": lambda image: encoded(image.convert("1")),
    "palette": lambda image: encoded(image.quantize(32)),
    "palette, one colour transparent": lambda image: encoded(image.quantize(32), transparency=3),
    "RGB, one colour transparent": lambda image: encoded(image, transparency=image.getpixel((0, 0))),
    "RGBA": lambda image: encoded(_alpha(image)),
    "grey and alpha": lambda image: encoded(_alpha(image.convert("L"))),
    "16 bits": lambda image: encoded(Image.fromarray(_grey16(image))),
    "32 bits": lambda image: encoded(Image.fromarray(_grey16(image).astype(np.int32)), "TIFF"),
    "floats": lambda image: encoded(Image.fromarray((_grey16(image) / np.float32(65535)).astype(np.float32)), "TIFF"),
    "JPEG": lambda image: encoded(image, "JPEG"),
    "JPEG, grey": lambda image: encoded(image.convert("L"), "JPEG"),
    "JPEG, CMYK": lambda image: encoded(image.convert("CMYK"), "JPEG"),
    "JPEG, progressive": lambda image: encoded(image, "JPEG", progressive=True),
    **{f"JPEG, turned {i}": lambda image, i=i: encoded(image, "JPEG", **_turned(i)) for i in range(2, 9)},
    "PNG, turned": lambda image: encoded(image, **_turned(6)),
    "GIF": lambda image: encoded(image.quantize(64), "GIF"),
    "WebP": lambda image: encoded(_alpha(image), "WEBP"),
    "TIFF, CMYK": lambda image: encoded(image.convert("CMYK"), "TIFF"),
    "BMP": lambda image: encoded(image, "BMP"),
}


def test_a_thousand_files_of_all_modes_and_sizes() -> None:
    preprocess, pixels, rng = Preprocess((24, 32)), reader(), np.random.default_rng(3)
    graph, apart, kinds = Preprocessing(preprocess), list[np.ndarray](), list(FILES.items())
    for i in range(1000):
        name, write = kinds[i % len(kinds)]
        height, width = (int(side) for side in rng.integers(1, 300, 2))
        data = write(Image.fromarray(photograph(height, width, i)))
        read = pixels(io.BytesIO(data))
        assert np.array_equal(read[0], decode(data)), f"{name}, {height} x {width}"
        found = graph.view(torch.from_numpy(read))[0].numpy()
        apart.append(np.abs(found - eval_transform(read[0], preprocess).transpose(2, 0, 1)).ravel())
    together = np.concatenate(apart)
    assert together.max() <= 1
    assert (together > 0).mean() < 0.05  # measured 0.026: 0.003, and 0.1 of images more than twice as high as wide


@pytest.mark.parametrize("values", [np.array([[0, 70_000]], np.int32), np.array([[0.0, 1.5]], np.float32)])
def test_numbers_that_could_mean_anything_are_refused(values: np.ndarray) -> None:
    with pytest.raises(SystemExit, match="expected 0 to"):
        reader()(io.BytesIO(encoded(Image.fromarray(values), "TIFF")))
