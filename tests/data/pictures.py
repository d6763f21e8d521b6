"""Small pictures and sources that the tests of `data` and of what reads it share."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from PIL import Image

from vitrail.data.sources.base import Example, Source


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Random pixels: no two places are alike."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    """Soft gradients, different in every direction and channel: what JPEG keeps well."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return np.round(np.stack([255 * y, 255 * x, 127 * (1 - y) + 60 * x], axis=-1)).astype(np.uint8)


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Soft gradients, edges and a little noise: about as hard for JPEG as a photograph."""
    y, x = np.mgrid[0:height, 0:width]
    edges = 60 * (((x // 19 + y // 31) % 3) == 0)[..., None]
    grain = np.random.default_rng(seed).normal(0, 6, (height, width, 3))
    return (0.7 * smooth(height, width) + edges + grain).clip(0, 255).astype(np.uint8)


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


def write_tar(path: Path, images: list[bytes], labels: list[str], suffix: str = "png") -> Path:
    """One shard in WebDataset's layout: `000000.png` and `000000.cls` for each image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for i, (data, label) in enumerate(zip(images, labels, strict=True)):
            for name, content in ((f"{i:06d}.{suffix}", data), (f"{i:06d}.cls", label.encode())):
                add_member(tar, name, content)
    return path


def add_member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """A regular file in a tar."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def write_arrow(path: Path, images: list[bytes], labels: list[int], classes: list[str], rows: int = 3) -> Path:
    """One shard as `vitrail data prepare` writes it, `rows` a record batch."""
    metadata = {b"vitrail": json.dumps({"format": 1, "classes": classes}).encode()}
    schema = pa.schema([("image", pa.large_binary()), ("label", pa.int32()), ("key", pa.string())], metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.ipc.new_file(str(path), schema) as writer:
        for start in range(0, len(images), rows):
            part = slice(start, start + rows)
            keys = [f"{path.stem}/{start + i}" for i in range(len(images[part]))]
            writer.write_batch(pa.record_batch([images[part], labels[part], keys], schema=schema))
    return path
