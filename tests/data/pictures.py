"""Small pictures and sources that the tests of `data` and of what reads it share."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from PIL import Image

from vitrail.data.sources import Example, Source


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Random pixels: no two places are alike."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    """Soft gradients, different in every direction and channel: what JPEG keeps well."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return np.round(np.stack([255 * y, 255 * x, 127 * (1 - y) + 60 * x], axis=-1)).astype(np.uint8)


def encoded(pixels: np.ndarray | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of an image file."""
    image = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


class BytesSource(Source):
    """Encoded images in memory."""

    def __init__(self, images: list[bytes], labels: list[int], classes: tuple[str, ...]):
        self.images, self.labels, self.classes = images, np.array(labels, dtype=np.int64), classes

    def __getitem__(self, index: int) -> Example:
        return Example(self.images[index], int(self.labels[index]), f"image-{index}")


def folder_of_images(root: Path, classes: dict[str, int], size: int = 6) -> Path:
    """`root/class/number.png`, so many of each class."""
    for c, (name, count) in enumerate(classes.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            (root / name / f"{i}.png").write_bytes(encoded(noise(size, size, 100 * c + i)))
    return root


def write_parquet(
    path: Path, images: list[bytes], labels: list[int], names: list[str] | None = None, rows: int = 3
) -> None:
    """One file in Hugging Face's image layout, `rows` a row group."""
    features: dict[str, Any] = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()} if names else None
    schema = pa.schema(
        [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())], metadata
    )
    column = [{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(images)]
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table({"image": column, "label": labels}, schema=schema), path, row_group_size=rows)
