"""A signal to the whole process group reaches the workers too: they go on, and the main process decides."""

import multiprocessing
import os
import signal
import subprocess
import sys

from tests.train.small import PREPROCESS, training
from vitrail.data.loader.loader import train_loader
from vitrail.data.open.names import open_data


def test_workers_outlive_a_signal_to_the_group() -> None:
    config = training(steps=30)
    source = open_data(config.train)
    loader = train_loader(source, config.augment, PREPROCESS, batch=12, seed=0, start=0, stop=30, workers=1)
    seen = 0
    for batch in loader:
        if seen == 0:
            workers = multiprocessing.active_children()
            assert workers
            for worker in workers:
                assert worker.pid is not None
                os.kill(worker.pid, signal.SIGTERM)
        seen += len(batch.labels)
    assert seen == 30 * 12


HALF_READ = """
from vitrail.data.loader.loader import eval_loader
from vitrail.data.open.names import open_data
from vitrail.data.transforms.pipeline import Preprocess
running = iter(eval_loader(open_data("digits"), Preprocess((8, 8)), batch=16, workers=1))
print(len(next(running).labels))
"""


def test_a_script_that_leaves_a_loader_half_read_ends_at_once() -> None:
    done = subprocess.run([sys.executable, "-c", HALF_READ], capture_output=True, text=True, timeout=45, check=True)
    assert (done.stdout, done.stderr) == ("16\n", "")
