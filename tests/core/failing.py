"""Two processes for test_failing_alone.py: the second has an error of its own while the first waits for it."""

import time
from typing import Any

import torch

from vitrail.core import dist
from vitrail.core.errors import BadInput


def waiting(*_: Any) -> None:
    """As leaving a group of NCCL does, until the others' sums are done: never."""
    time.sleep(600)


def main() -> None:
    dist.distributed.destroy_process_group = waiting
    with dist.joined(torch.device("cpu")) as world:
        dist.barrier()
        if world.rank == 1:
            raise BadInput("the disk is full")
        dist.barrier()


if __name__ == "__main__":
    main()
