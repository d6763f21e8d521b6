"""Tensors that are spread over processes, in files: each process writes its rows, and any number of them reads them.

A tensor that is sharded (FSDP2) is cut along its first dimension; one that every process has is written by the first
alone. Files are safetensors, whose header says where the rows belong. Why this is not torch.distributed.checkpoint:
docs/architecture.md, measured by benchmarks/checkpoint.py.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.distributed.tensor import DTensor

from vitrail.core.dist import World
from vitrail.core.errors import BadInput
from vitrail.weights.tensors import write_safetensors


class Rows(NamedTuple):
    """The part of a tensor of `shape` that a process holds: `number` rows of its first dimension, from `start` on."""

    start: int
    number: int
    shape: tuple[int, ...]


def local(tensor: Tensor) -> Tensor:
    """The part of the tensor that this process holds, as a view."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def rows_of(tensor: Tensor) -> Rows:
    """Which rows of the tensor this process holds; of a tensor that is not sharded, all."""
    shape = tuple(tensor.shape)
    if not isinstance(tensor, DTensor):
        return Rows(0, shape[0] if shape else 1, shape)
    sharded = [i for i, placement in enumerate(tensor.placements) if placement.is_shard()]
    if not sharded:
        return Rows(0, shape[0] if shape else 1, shape)
    (dimension,) = sharded
    if not tensor.placements[dimension].is_shard(0):
        raise ValueError(f"sharded by another dimension than the first: {tensor.placements}")
    parts, mine = tensor.device_mesh.size(dimension), tensor.device_mesh.get_local_rank(dimension)
    each = -(-shape[0] // parts)  # as torch.chunk divides
    start = min(shape[0], each * mine)
    return Rows(start, min(each, shape[0] - start), shape)


def written_here(tensor: Tensor, world: World) -> bool:
    """Whether this process writes its rows: rows that several processes hold are written by one of them."""
    if not isinstance(tensor, DTensor):
        return world.first
    copies = [i for i, placement in enumerate(tensor.placements) if placement.is_replicate()]
    return rows_of(tensor).number > 0 and all(tensor.device_mesh.get_local_rank(i) == 0 for i in copies)


def snapshot(tensors: Mapping[str, Tensor], world: World) -> tuple[dict[str, Tensor], dict[str, Rows]]:
    """Copies what this process writes to the CPU, and says where it belongs; training may go on at once."""
    mine = {name: tensor for name, tensor in tensors.items() if written_here(tensor, world)}
    copies = {name: local(tensor).detach().to("cpu", copy=True).contiguous() for name, tensor in mine.items()}
    return copies, {name: rows_of(tensor) for name, tensor in mine.items()}


def write_shard(path: Path, copies: dict[str, Tensor], rows: Mapping[str, Rows]) -> None:
    """One process's file, atomically; the same bytes in whatever order an optimiser has its states."""
    pieces = {name: list(r) for name, r in sorted(rows.items())}
    write_safetensors(path, copies, {"pieces": json.dumps(pieces)})


class ShardFiles:
    """The tensors in the files of a checkpoint; rows are read only when they are asked for."""

    def __init__(self, files: list[Path]):
        self._files = files
        self._found: dict[str, list[tuple[Path, Rows]]] = {}
        for path in files:
            try:
                with safe_open(path, framework="pt") as file:
                    for name, (start, number, shape) in json.loads((file.metadata() or {})["pieces"]).items():
                        self._found.setdefault(name, []).append((path, Rows(start, number, tuple(shape))))
            except (SafetensorError, OSError, KeyError, ValueError, TypeError, AttributeError) as problem:
                raise BadInput(f"{path} is not a whole file of a checkpoint: {problem}") from None

    def __contains__(self, name: str) -> bool:
        return name in self._found

    def names(self) -> set[str]:
        """All tensors."""
        return set(self._found)

    def read_into(self, name: str, target: Tensor) -> None:
        """Fills the part of `target` that this process holds.

        Raises:
            BadInput: no such tensor, another shape, or rows that no file has.
        """
        wanted, here = rows_of(target), local(target)
        filled = 0
        for path, piece in self._found.get(name, []):
            if piece.shape != wanted.shape:
                raise BadInput(f"{path}: {name!r} is {piece.shape}, expected {wanted.shape}")
            first = max(piece.start, wanted.start)
            last = min(piece.start + piece.number, wanted.start + wanted.number)
            if first >= last:
                continue
            try:
                with safe_open(path, framework="pt") as file:
                    whole = not wanted.shape
                    stored = (
                        file.get_tensor(name)
                        if whole
                        else file.get_slice(name)[first - piece.start : last - piece.start]
                    )
            except (SafetensorError, OSError, ValueError) as problem:
                raise BadInput(f"{path} is not a whole file of a checkpoint: {problem}") from None
            with torch.no_grad():
                (here if whole else here[first - wanted.start : last - wanted.start]).copy_(stored)
            filled += last - first
        if filled != wanted.number:
            raise BadInput(f"the checkpoint has {filled} of {wanted.number} rows of {name!r}")
