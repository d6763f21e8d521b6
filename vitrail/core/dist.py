"""Rank, world size, and sums over processes; one process is a world of one."""

import os

import torch
import torch.distributed as distributed


def world() -> int:
    """The number of processes of this run."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """The number of this process, 0 to world() - 1."""
    return distributed.get_rank() if world() > 1 else 0


def launched_world() -> int:
    """How many processes the launcher (torchrun) started, whether or not they have met yet."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def sum_over_processes(values: torch.Tensor) -> torch.Tensor:
    """The sum of `values` over all processes, in place; the values themselves in a world of one."""
    if world() > 1:
        distributed.all_reduce(values)
    return values
