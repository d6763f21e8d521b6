"""Tensors from files, with nothing executed and nothing believed: safetensors and `.npz`; torch_file.py has `.pth`."""

import io
import os
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vitrail.core.errors import BadInput
from vitrail.core.files import atomic_path, read_json

MAX_BYTES = 64 << 30  # of one file's tensors, unpacked: five times the largest ViT published
_MAX_HEADER = 10_000  # bytes of an array's header in an .npz; numpy's own limit
_SPARE, _RATIO = 256 << 20, 8  # bytes that any .npz may unpack to, and times its own size: weights hardly compress


def refuse_stand_ins(path: Path) -> None:
    """Raises BadInput for what came instead of a file: nothing, a pointer of git LFS, a page of a web server."""
    with path.open("rb") as file:
        start = file.read(64).lstrip()
    if not start:
        raise BadInput(f"{path} is empty")
    if start.startswith(b"version https://git-lfs"):
        raise BadInput(f"{path} is a pointer of git LFS, not the file itself: `git lfs pull` fetches it")
    if start[:9].lower().startswith((b"<!doctype", b"<html")):
        raise BadInput(f"{path} is a web page, as of a login or an error: download the file itself")


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file; raises BadInput when it is missing or not one."""
    if not path.is_file():
        raise BadInput(f"{path} is missing")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, ValueError) as problem:
        raise BadInput(f"{path} is not a whole safetensors file: {problem}") from None


def write_safetensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Writes the tensors atomically.

    Raises:
        OSError: they cannot be written; safetensors has an exception of its own for it.
    """
    plain = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        try:
            safetensors.torch.save_file(plain, temporary, metadata)
        except SafetensorError as problem:
            number = re.search(r"\(os error (\d+)\)", str(problem))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None


def read_sharded(index: Path, read: Callable[[Path], dict[str, Tensor]] = read_safetensors) -> dict[str, Tensor]:
    """All tensors of the files that an index names (`model.safetensors.index.json`); they lie beside it."""
    table = read_json(index)
    names = table.get("weight_map") if isinstance(table, dict) else None
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise BadInput(f"{index} has no 'weight_map' from names to files")
    tensors: dict[str, Tensor] = {}
    for file in sorted(set(names.values())):
        if Path(file).name != file:
            raise BadInput(f"{index} names {file!r}, which does not lie beside it")
        tensors |= read(index.parent / file)
    return tensors


def as_tensors(arrays: Mapping[str, np.ndarray], path: Path) -> dict[str, Tensor]:
    """Tensors that share the arrays' memory; two bytes without a type are bfloat16, which numpy does not know."""
    tensors = {}
    for name, array in arrays.items():
        if array.dtype.kind == "V" and array.dtype.itemsize == 2:
            tensors[name] = torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        elif array.dtype.kind in "fiub" and array.dtype.itemsize <= 8:  # longer ones torch does not have
            native = array.astype(array.dtype.newbyteorder("="), copy=False)
            tensors[name] = torch.from_numpy(np.ascontiguousarray(native))
        else:
            raise BadInput(f"{path}: {name!r} holds {array.dtype}, which are no numbers that torch has")
    return tensors


def write_npz(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes the tensors as arrays, atomically."""
    with atomic_path(path) as temporary:
        np.savez(temporary, **{name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()})  # type: ignore[arg-type]


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an `.npz`; what they claim together and each against its header is checked before it is unpacked.

    Raises:
        BadInput: not an `.npz`, an object array (which would be a pickle), or members larger than they say.
    """
    if not path.is_file():
        raise BadInput(f"{path} does not exist")
    try:
        with zipfile.ZipFile(path) as archive:
            claimed = sum(member.file_size for member in archive.infolist())
            allowed = min(MAX_BYTES, _SPARE + _RATIO * path.stat().st_size)
            if claimed > allowed:
                raise BadInput(
                    f"{path} would unpack to {claimed / 2**30:.1f} GiB, more than the {allowed / 2**30:.1f} allowed "
                    "for a file of its size"
                )
            for member in archive.infolist():
                _check_size(archive, member, path)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except BadInput:
        raise
    except Exception as problem:  # zipfile alone raises BadZipFile, zlib.error, NotImplementedError, RuntimeError, ...
        raise BadInput(f"{path} is not a whole .npz file: {problem}") from None


def _check_size(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        first = version == (1, 0)
        size = file.read(2 if first else 4)
        length = int.from_bytes(size, "little")
        if length > _MAX_HEADER:  # numpy would read it three times over before it complains
            raise BadInput(f"{path}: {member.filename} has a header of {length:,} bytes, an array's has a hundred")
        read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(io.BytesIO(size + file.read(length)))
        if dtype.hasobject:
            raise BadInput(
                f"{path}: {member.filename} holds Python objects, which are not weights and are never loaded"
            )
        expected = np.lib.format.MAGIC_LEN + len(size) + length + int(np.prod(shape, dtype=object)) * dtype.itemsize
    if expected != member.file_size:
        raise BadInput(f"{path}: {member.filename} is {member.file_size} bytes, its header says {expected}")


def refuse_not_finite(tensors: dict[str, Tensor], path: Path) -> None:
    """Raises BadInput when a tensor holds NaN or infinity."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        ends = (tensor.float() if tensor.element_size() == 1 else tensor).aminmax()  # in a tenth of isfinite's time
        if not all(bool(end.isfinite()) for end in ends):  # NaN is the smallest and the largest of all
            raise BadInput(f"{path}: the weights {name!r} hold NaN or infinity")
