"""Two processes for test_hearing.py: one of them is signalled in a step, and both must stop after the same one."""

import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from tests.train.small import PREPROCESS, fresh, training
from vitrail.core import dist
from vitrail.core.device import Machine
from vitrail.core.errors import Interrupted
from vitrail.data.loader.batch import Batch
from vitrail.train import checkpoint, loop
from vitrail.train.callbacks import Save
from vitrail.train.checkpoint import Saver
from vitrail.train.loop import fit
from vitrail.train.parallel import parallelize
from vitrail.train.step import Metrics, TrainState, train_step

CPU = torch.device("cpu")
CONFIG = training(steps=20, batch=4)
SIGNALLED, PLACE = 1, 6  # the process, and the step in which it is


def main(folder: Path, late: bool) -> None:
    """Prints the steps that were done and how often each process asked for the others' marks."""
    asked = [0]
    exists = Path.exists

    def counting(path: Path, **options: bool) -> bool:
        asked[0] += path.suffix == ".done"
        return exists(path, **options)

    Path.exists = counting  # type: ignore[method-assign, assignment]
    loop.checks_late = lambda device: late
    with dist.joined(CPU) as world:
        state = fresh(CONFIG)
        state.wrapped = parallelize(state.model, Machine("cpu", compile=False), CPU, torch.float32)
        if not world.first:  # its part is there later
            write = checkpoint.write_shard

            def slowly(*given: Any) -> None:
                time.sleep(0.3)
                write(*given)

            checkpoint.write_shard = slowly

        def update(state: TrainState, batch: Batch) -> Metrics:
            if state.step == PLACE and world.rank == SIGNALLED:
                signal.raise_signal(signal.SIGTERM)
            return train_step(state, batch, config=CONFIG, preprocess=PREPROCESS, dtype=torch.float32)

        class Given(list[Batch]):
            steps, waited = range(20), 0.0

        images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
        given = Given(Batch.of(images, torch.arange(2)) for _ in range(20))
        saver = Saver(folder)
        try:
            fit(state, given, update, steps=20, callbacks=[Save(5, saver.save)], save=saver.save_now)
        except Interrupted as stopped:
            print(f"stopped after {state.step} by {stopped.number}, {asked[0]} marks looked at", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] == "late")
