"""What processes tell each other in a step and in a save: all stop after the same step, whoever was signalled."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scenarios.many import environment
from vitrail.train.checkpoint import checkpoint_steps

SCRIPT = Path(__file__).with_name("hearing.py")


def both(*given: str) -> list[str]:
    """What two processes print."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    where["PYTHONPATH"] = str(SCRIPT.parents[2])
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), *given],
            env=environment(**where, RANK=str(rank), LOCAL_RANK=str(rank)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        said = [process.communicate(timeout=100) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], said
    return [out for out, _ in said]


@pytest.mark.parametrize(("when", "step"), [pytest.param("at once", 7, marks=pytest.mark.slow), ("late", 8)])
def test_a_signal_of_one_stops_both_after_the_same_step(tmp_path: Path, when: str, step: int) -> None:
    """Late, as on CUDA, it travels with the loss of its step and is heard after the next."""
    said = both(str(tmp_path), when)
    assert [re.findall(r"stopped after (\d+) by (\d+)", one) for one in said] == [
        [(str(step), "2")],
        [(str(step), "15")],
    ]
    assert checkpoint_steps(tmp_path) == [5, step]
    assert not list(tmp_path.glob(".step-*"))
    # the second writes for a third of a second, in which the first does not ask the disk for its mark
    assert [int(re.findall(r"(\d+) marks", one)[0]) for one in said] == [4, 0]
