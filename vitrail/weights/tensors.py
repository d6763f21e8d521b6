"""Tensors from files, with nothing executed and nothing believed: safetensors and `.npz` without pickle."""

import zipfile
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vitrail.core.errors import BadInput
from vitrail.core.files import atomic_path

MAX_BYTES = 64 << 30  # of one file's tensors, unpacked: five times the largest ViT published


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
    """Writes the tensors atomically."""
    with atomic_path(path) as temporary:
        safetensors.torch.save_file({k: v.detach().contiguous().cpu() for k, v in tensors.items()}, temporary, metadata)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an `.npz`; the size of each is checked against its header before it is unpacked.

    Raises:
        BadInput: not an `.npz`, an object array (which would be a pickle), or members larger than they say.
    """
    if not path.is_file():
        raise BadInput(f"{path} does not exist")
    try:
        with zipfile.ZipFile(path) as archive:
            total = 0
            for member in archive.infolist():
                total += _checked_size(archive, member, path)
            if total > MAX_BYTES:
                raise BadInput(
                    f"{path} would unpack to {total / 2**30:.0f} GiB, more than the {MAX_BYTES >> 30} allowed"
                )
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except BadInput:
        raise
    except Exception as problem:  # zipfile alone raises BadZipFile, zlib.error, NotImplementedError, RuntimeError, ...
        raise BadInput(f"{path} is not a whole .npz file: {problem}") from None


def _checked_size(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> int:
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        if dtype.hasobject:
            raise BadInput(
                f"{path}: {member.filename} holds Python objects, which are not weights and are never loaded"
            )
        expected = file.tell() + int(np.prod(shape, dtype=object)) * dtype.itemsize
    if expected != member.file_size:
        raise BadInput(f"{path}: {member.filename} is {member.file_size} bytes, its header says {expected}")
    return member.file_size


def refuse_not_finite(tensors: dict[str, Tensor], path: Path) -> None:
    """Raises BadInput when a tensor holds NaN or infinity."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise BadInput(f"{path}: the weights {name!r} hold NaN or infinity")
