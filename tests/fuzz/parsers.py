"""The parsers that read what others wrote: some good inputs of each, and what is done with one."""

import asyncio
import contextlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import torch
from PIL import Image
from starlette.requests import Request

from tests.crash.jobs import model, painter
from tests.data.pictures import encoded, photograph
from vitrail.core.errors import BadInput
from vitrail.data.decode.image import BrokenImage, decode
from vitrail.data.decode.jpeg_header import read_head, refusal, some_rows
from vitrail.data.sources import tar_index
from vitrail.data.sources.base import Source
from vitrail.data.sources.manifest import Manifest
from vitrail.data.sources.parquet import ParquetSource
from vitrail.data.sources.webdataset import TarSource
from vitrail.serve.http.limits import Limits, Refused
from vitrail.serve.http.request import read_request
from vitrail.weights.bundle import read_bundle
from vitrail.weights.convert import convert
from vitrail.weights.load import read_silently
from vitrail.weights.tensors import read_npz, read_safetensors, write_safetensors


class Parser(NamedTuple):
    """Good inputs, what is done with any input in an empty folder, and whose lines tell how far it got."""

    seeds: Callable[[Path], list[bytes]]
    parse: Callable[[bytes, Path], object]
    files: tuple[str, ...]  # of vitrail/
    text: bool = False
    memory: int = 256  # MiB by which this process may grow, whatever it is given


def _jpegs(_: Path) -> list[bytes]:
    pixels = photograph(40, 56)
    exif = Image.Exif()
    exif[0x0112] = 6
    return [
        encoded(pixels, "JPEG", exif=exif),
        encoded(pixels, "JPEG", restart_marker_rows=1, subsampling=2),
        encoded(pixels, "JPEG", progressive=True),
        encoded(Image.fromarray(pixels).convert("L"), "JPEG", restart_marker_rows=2),
    ]


def _jpeg(data: bytes, _: Path) -> None:
    """Whoever decodes the whole file must find the size that the head says; rows are cut from whatever it is."""
    head = read_head(data)
    refusal(data, 1 << 24)
    if head is None or head.height * head.width > 1 << 22:
        return
    rows = some_rows(data, head, head.height // 3, head.height // 3 + 8)
    assert rows.first >= 0
    assert rows.first + rows.height <= head.height
    turned = head.orientation > 4
    pixels = decode(data)
    assert pixels.shape[:2] == ((head.width, head.height) if turned else (head.height, head.width))


def _tars(_: Path) -> list[bytes]:
    found = []
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w", format=form) as tar:
            for name, data in (
                ("a.jpg", b"1234"),
                ("a.cls", b"1"),
                ("é" * 60 + "/b.png", b"x" * 600),
                ("b.json", b"{}"),
            ):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        found.append(made.getvalue()[:6144])
    return found


def _all(source: Source) -> None:
    for i in range(min(20, len(source))):
        with contextlib.suppress(BrokenImage):
            source[i]


def _tar(data: bytes, folder: Path) -> None:
    file = folder / "x.tar"
    file.write_bytes(data)
    (folder / "x.tar.index").unlink(missing_ok=True)
    _all(TarSource([str(file)]))


def _tar_index_seeds(folder: Path) -> list[bytes]:
    (folder / "x.tar").write_bytes(_tars(folder)[0])
    tar_index.index(folder / "x.tar")
    return [(folder / "x.tar.index").read_bytes()]


def _tar_index(data: bytes, folder: Path) -> None:
    """Whatever lies beside a tar, its samples are those that are in it."""
    if not (folder / "x.tar").exists():
        (folder / "x.tar").write_bytes(_tars(folder)[0])
    (folder / "x.tar.index").unlink(missing_ok=True)
    wanted = tar_index.index(folder / "x.tar")
    (folder / "x.tar.index").write_bytes(data)
    found = tar_index.index(folder / "x.tar")
    assert [a.to_pylist() for a in found[:4]] == [a.to_pylist() for a in wanted[:4]]


def _parquets(folder: Path) -> list[bytes]:
    found = []
    for compression in ("none", "snappy"):
        images = pa.array([{"bytes": b"abc", "path": "a.png"}, {"bytes": None, "path": None}] * 3)
        table = pa.table({"image": images, "label": pa.array([0, 1] * 3)})
        parquet.write_table(table, folder / "x.parquet", compression=compression, row_group_size=3)
        found.append((folder / "x.parquet").read_bytes())
    return found


def _parquet(data: bytes, folder: Path) -> None:
    (folder / "x.parquet").write_bytes(data)
    _all(ParquetSource([folder / "x.parquet"]))


def _csvs(_: Path) -> list[bytes]:
    return [
        b"path,label,split\na.jpg,cat,train\nb.jpg,dog,test\n",
        b"file_name\tlabel\n'a b.png'\t1\nc.png\t2\n",
        b'image;class\n"x;y.jpg";"a ""b"""\nz.jpg;c\n',
        'path,label\né.jpg,["a", "b"]\nü.jpg,[]\n'.encode("utf-16"),
    ]


def _csv(data: bytes, folder: Path) -> None:
    (folder / "x.csv").write_bytes(data)
    found = Manifest(str(folder / "x.csv"))
    for split in (None, *found.splits):
        found.open(split)


def _bundle(folder: Path) -> Path:
    if not (folder / "model").exists():
        model(folder)
    return folder / "model"


def _bundle_configs(folder: Path) -> list[bytes]:
    return [(_bundle(folder) / "config.json").read_bytes()]


def _bundle_config(data: bytes, folder: Path) -> None:
    (_bundle(folder) / "config.json").write_bytes(data)
    read_bundle(folder / "model")


def _transformers(folder: Path) -> Path:
    if not (folder / "hf").exists():
        convert(_bundle(folder), folder / "hf", "huggingface")
    return folder / "hf"


def _transformers_configs(folder: Path) -> list[bytes]:
    return [(_transformers(folder) / "config.json").read_bytes()]


def _transformers_config(data: bytes, folder: Path) -> None:
    (_transformers(folder) / "config.json").write_bytes(data)
    read_silently(folder / "hf")


def _painter(folder: Path, theirs: bool) -> Path:
    """The bundle of a model that MAE has trained, or the same in transformers' layout; each with its decoder."""
    if not (folder / "painter").exists():
        painter(folder)
        convert(folder / "painter", folder / "painter-hf", "huggingface")
    return folder / ("painter-hf" if theirs else "painter")


def _painter_configs(folder: Path) -> list[bytes]:
    return [(_painter(folder, theirs) / "config.json").read_bytes() for theirs in (False, True)]


def _painter_config(data: bytes, folder: Path) -> None:
    """As the config of both, since a mutation of one is soon refused by the other."""
    refused = 0
    for theirs in (False, True):
        place = _painter(folder, theirs)
        (place / "config.json").write_bytes(data)
        try:
            read_silently(place)
        except BadInput:
            refused += 1
    if refused == 2:
        raise BadInput("neither")


def _npzs(folder: Path) -> list[bytes]:
    np.savez(folder / "a.npz", x=np.arange(6.0), y=np.zeros((2, 3), "<f4"))
    np.savez_compressed(folder / "b.npz", x=np.arange(60))
    return [(folder / name).read_bytes() for name in ("a.npz", "b.npz")]


def _npz(data: bytes, folder: Path) -> None:
    (folder / "x.npz").write_bytes(data)
    read_npz(folder / "x.npz")


def _safetensors_seeds(folder: Path) -> list[bytes]:
    write_safetensors(folder / "a.safetensors", {"a": torch.zeros(3), "b.c": torch.ones(2, 2).half()}, {"format": "pt"})
    return [(folder / "a.safetensors").read_bytes()]


def _safetensors(data: bytes, folder: Path) -> None:
    (folder / "x.safetensors").write_bytes(data)
    read_safetensors(folder / "x.safetensors")


def _names_seeds(folder: Path) -> list[bytes]:
    """The names and shapes of a state dict, as JSON."""
    tensors = read_safetensors(_bundle(folder) / "model.safetensors")
    plain = {name: list(t.shape) for name, t in tensors.items()}
    wrapped = {f"module.backbone.{name}": shape for name, shape in plain.items()}
    theirs = {n: list(t.shape) for n, t in read_safetensors(_transformers(folder) / "model.safetensors").items()}
    return [json.dumps(one).encode() for one in (plain, wrapped, theirs)]


def _names(data: bytes, folder: Path) -> None:
    """A state dict of these names: of some other training code, without a word of what it is."""
    try:
        shapes = json.loads(data)
        tensors = {n: torch.zeros([min(int(d), 64) for d in shape]) for n, shape in shapes.items()}
        write_safetensors(folder / "x.safetensors", tensors)
    except Exception:  # no names and shapes: not what is asked here
        return
    read_silently(folder / "x.safetensors")


_EDGE = b"edge"


def _forms(_: Path) -> list[bytes]:
    part = b'--edge\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    form = part % (b"file", b'; filename="a.png"\r\nContent-Type: image/png', b"bytes") + part % (b"top", b"", b"3")
    return [b"multipart/form-data; boundary=edge\n" + form + b"--edge--\r\n",
            b'application/json\n{"images": ["aGVsbG8=", "data:image/png;base64,aGVsbG8="], "attention": 1}',
            b"image/png\nbytes"]  # fmt: skip


def _form(data: bytes, _: Path) -> None:
    """A request whose first line is its content type, and the rest its body."""
    kind, _, body = data.partition(b"\n")

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "query_string": b"top=2",
        "headers": [(b"content-type", kind)],
    }
    asyncio.run(read_request(Request(scope, receive), body, Limits()))


REFUSALS = (BrokenImage, Refused)

TARS = tuple(f"data/sources/{name}.py" for name in ("tar_members", "tar_samples", "webdataset"))
PARSERS = {
    "jpeg": Parser(_jpegs, _jpeg, ("data/decode/jpeg_header.py",)),
    "tar": Parser(_tars, _tar, TARS),
    "tar-index": Parser(_tar_index_seeds, _tar_index, ("data/sources/tar_index.py",)),
    "parquet": Parser(_parquets, _parquet, ("data/sources/parquet.py",)),
    "csv": Parser(_csvs, _csv, ("data/sources/manifest.py", "data/sources/columns.py"), text=True),
    "bundle": Parser(_bundle_configs, _bundle_config, ("weights/bundle.py", "core/config.py"), text=True),
    "transformers": Parser(
        _transformers_configs, _transformers_config, ("weights/huggingface.py", "weights/load.py"), text=True
    ),
    "trained-with": Parser(
        _painter_configs, _painter_config, ("weights/mae.py", "weights/bundle.py", "models/mae.py"), text=True
    ),
    "npz": Parser(_npzs, _npz, ("weights/tensors.py",)),
    "safetensors": Parser(_safetensors_seeds, _safetensors, ("weights/tensors.py",)),
    "names": Parser(
        _names_seeds, _names, ("weights/state_dict.py", "weights/load.py", "weights/timm.py", "weights/torchvision.py"),
        text=True,
    ),
    "form": Parser(_forms, _form, ("serve/http/request.py",), text=True),
}  # fmt: skip
