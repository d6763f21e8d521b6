"""The processes of a run: rank, size, sums, and what one tells the others. One process is a world of one.

Nothing here is pickled: numbers travel as tensors, everything else as bytes.
"""

import gc
import json
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed as distributed
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from vitrail.core.errors import BadInput, Interrupted


@dataclass(frozen=True)
class World:
    """The rank of this process and their number. `local_rank` counts within one machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """True in the one process that writes files."""
        return self.rank == 0


def launched() -> World:
    """Reads the launcher's (torchrun's) environment, met or not yet; raises BadInput where it makes no sense."""
    try:
        size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
        local = int(os.environ.get("LOCAL_RANK", "0"))
    except ValueError as problem:
        raise BadInput(f"the launcher's RANK, WORLD_SIZE or LOCAL_RANK is no number: {problem}") from None
    if not 0 <= rank < size:
        raise BadInput(f"the launcher says rank {rank} of {size} processes")
    return World(rank, size, local)


def world() -> World:
    """The processes that have joined; a world of one before `joined`, and without a launcher."""
    if not distributed.is_available() or not distributed.is_initialized():
        return World()
    return World(distributed.get_rank(), distributed.get_world_size(), launched().local_rank)


_store: PrefixStore | None = None  # what the processes of `joined` met by; any thread may use it


@contextmanager
def joined(device: torch.device, patience: float = 1800.0) -> Iterator[World]:
    """Meets the other processes that torchrun started, for the length of the block. Without a launcher: a world of one.

    Numbers on the CPU travel by gloo, on CUDA by NCCL. `patience`: seconds that a collective may take. An exception
    that only this process may have ends it here: the others wait for it, and the launcher must see that it is gone.
    """
    said = launched()
    if said.size == 1 or distributed.is_initialized():
        yield world()
        return
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    limit = timedelta(seconds=patience)
    store, rank, size = next(rendezvous("env://", timeout=limit))
    attempt = PrefixStore(_attempt(), store)
    distributed.init_process_group(backend, store=attempt, rank=rank, world_size=size, timeout=limit)
    global _store
    _store = attempt
    try:
        yield world()
    except Interrupted:  # all of them stop after the same step
        _leave()
        raise
    except BaseException as problem:
        _end(problem)
    _leave()


def _attempt() -> str:
    """What the keys of this start begin with in the store by which processes meet.

    Where torchrun's agents keep one store over restarts, processes would find the addresses of dead ones without it.
    Where the first process makes one for each start it must be the same on all machines, and the restarts that they
    count are not: one that joins later has counted none, and all would wait for each other.
    """
    shared = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}" if shared else "attempt"


def _leave() -> None:
    global _store
    _store = None
    distributed.destroy_process_group()
    # what still holds the groups (FSDP2's cycles) must let go of them here: a gloo thread that gives back a tensor
    # while the interpreter ends is killed by it, and the process aborts
    gc.collect()


def _end(problem: BaseException) -> NoReturn:
    """Says the problem, and ends this process at once.

    To leave the group would wait, with NCCL, for sums that the others are in; the end of the interpreter would wait for
    a checkpoint that needs the others' parts.
    """
    expected = isinstance(problem, BadInput | OSError)
    if expected:
        print(f"vitrail: process {world().rank}: {problem}", file=sys.stderr)
    else:
        traceback.print_exception(problem)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(2 if expected else 130 if isinstance(problem, KeyboardInterrupt) else 1)


def local_size() -> int:
    """The number of processes on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def barrier() -> None:
    """Waits for all processes."""
    if world().size > 1:
        distributed.all_reduce(torch.zeros(1))  # on the CPU: also right where the work is on CUDA


def arrive(place: str) -> None:
    """Says to all that this process has come to a place, from any thread and without waiting; `arrived` counts."""
    if _store is not None:
        _store.add(place, 1)


def arrived(place: str) -> int | None:
    """How many processes have said so; None where they have nothing to say it by. A message to the first machine."""
    return None if _store is None else _store.add(place, 0)


def summed(tensor: Tensor) -> Tensor:
    """The sum over all processes, of a copy on the tensor's own device."""
    total = tensor.detach().clone()
    if world().size > 1:
        distributed.all_reduce(total)
    return total


def any_of(flag: bool) -> bool:
    """True in all processes where it is true in at least one."""
    return bool(summed(torch.tensor(float(flag))) > 0)


def gathered(data: bytes) -> list[bytes]:
    """Gathers a value of each process, in the order of ranks, for all of them."""
    size = world().size
    if size == 1:
        return [data]
    lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(size)]
    distributed.all_gather(lengths, torch.tensor([len(data)]))
    longest = max(1, max(int(n) for n in lengths))
    padded = torch.frombuffer(bytearray(data.ljust(longest, b"\0")), dtype=torch.uint8)
    parts = [torch.zeros(longest, dtype=torch.uint8) for _ in range(size)]
    distributed.all_gather(parts, padded)
    return [part.numpy().tobytes()[: int(n)] for part, n in zip(parts, lengths, strict=True)]


def gathered_json(value: Any) -> list[Any]:
    """`gathered` for JSON values."""
    return [json.loads(part) for part in gathered(json.dumps(value).encode())]
