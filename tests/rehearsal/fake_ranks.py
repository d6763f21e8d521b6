"""Processes without processes: this one is any rank of any number of them, in PyTorch's group that sends nothing.

Sums and gathers have the right shapes and arbitrary numbers. What is noted is which of them a process takes part in:
the same in all processes, in the same order, or they would wait for each other for ever. (Sums within PyTorch's sharded
tensors, as for the gradient's norm, are not seen.)
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
import torch.distributed as distributed
from torch.distributed.tensor.debug import _clear_sharding_prop_cache
from torch.nn.parallel import DistributedDataParallel
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode

A_MACHINE = 8  # processes of one


class Seen(TorchDispatchMode):
    """Notes each collective: its name and the shapes that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.collectives: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace in ("c10d", "_c10d_functional"):
            self.collectives.append(f"{func.__name__} {sorted(set(shapes(args)))}")
        return func(*args, **(kwargs or {}))


def shapes(given: Any) -> list[Any]:
    """Of all tensors in it."""
    if isinstance(given, torch.Tensor):
        return [tuple(given.shape)]
    return [one for inner in given for one in shapes(inner)] if isinstance(given, list | tuple) else []


@contextmanager
def fake_rank(rank: int, size: int) -> Iterator[Seen]:
    """Inside, this process is `rank` of `size`, eight on a machine."""
    variables = {
        "RANK": rank,
        "WORLD_SIZE": size,
        "LOCAL_RANK": rank % A_MACHINE,
        "LOCAL_WORLD_SIZE": min(size, A_MACHINE),
    }
    seen, plain = Seen(), DistributedDataParallel.__init__

    def noted(_: Any, bucket: distributed.GradBucket) -> torch.futures.Future[torch.Tensor]:
        seen.collectives.append(f"a bucket of gradients {shapes(bucket.buffer())}")
        done = torch.futures.Future[torch.Tensor]()
        done.set_result(bucket.buffer())
        return done

    def made(wrapped: Any, *given: Any, **options: Any) -> None:
        plain(wrapped, *given, **options)
        wrapped.register_comm_hook(None, noted)  # what it does otherwise asks the group for a sum that never comes

    with (
        mock.patch.dict(os.environ, {name: str(value) for name, value in variables.items()}),
        mock.patch.object(DistributedDataParallel, "__init__", made),
    ):
        distributed.init_process_group("fake", store=FakeStore(), rank=rank, world_size=size)
        try:
            with seen:
                yield seen
        finally:
            distributed.destroy_process_group()
            _clear_sharding_prop_cache()  # it remembers groups, by names that the next ones have, too
