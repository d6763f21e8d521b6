"""A process that fails alone ends at once, whatever the others do: the launcher must see it."""

import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.scenarios.many import environment

SCRIPT = Path(__file__).with_name("failing.py")


def test_an_error_in_one_of_two_ends_both_without_leaving_the_group() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    where["PYTHONPATH"] = str(SCRIPT.parents[2])
    began = time.monotonic()
    both = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT)],
            env=environment(**where, RANK=str(rank), LOCAL_RANK=str(rank)),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        said = [process.communicate(timeout=100)[1] for process in both]
    finally:
        for process in both:
            process.kill()
    assert time.monotonic() - began < 100
    assert both[1].returncode == 2
    assert "vitrail: process 1: the disk is full" in said[1]
    assert both[0].returncode == 1  # gloo tells it that the other is gone
