"""Two processes for test_watchdog.py: the second stops getting on after its third step, the first waits for it."""

import sys
import time

import torch

from vitrail.core import dist
from vitrail.core.watchdog import Watchdog


def where_it_hangs() -> None:
    time.sleep(600)


def main() -> None:
    with dist.joined(torch.device("cpu")) as world, Watchdog(float(sys.argv[1]), poll=0.2) as dog:
        for step in range(10):
            if step == 3 and world.rank == 1:
                where_it_hangs()
            dist.barrier()
            dog.beat()


if __name__ == "__main__":
    main()
