"""One of two processes is stopped (SIGSTOP), as by a machine that swaps: for longer than --stall, or not."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.scenarios.many import command, environment, last_step, run, workers_of

STEPS = ("--steps", "60", "--save-every", "5")


def stopped(folder: Path, which: int, stall: float, seconds: float | None) -> str:
    """A run of two processes of which one is stopped for so long, or for ever, after its seventh step; its stderr."""
    asked = command(folder, 2, "replicated", 5, *STEPS, "--stall", str(stall))
    said = folder.with_suffix(".log")
    with open(said, "w") as log:
        process = subprocess.Popen(asked, env=environment(), stdout=subprocess.DEVNULL, stderr=log)
    end = time.monotonic() + 300
    while last_step(folder) < 7:
        assert process.poll() is None, said.read_text()[-3000:]
        assert time.monotonic() < end, "the run does not get on"
        time.sleep(0.005)
    worker = workers_of(folder)[which]
    os.kill(worker, signal.SIGSTOP)
    if seconds is not None:
        before = last_step(folder)
        time.sleep(seconds)
        assert last_step(folder) <= before + 1, "it was not stopped"
        os.kill(worker, signal.SIGCONT)
    process.wait(timeout=300)
    assert process.returncode == 0, said.read_text()[-3000:]
    return said.read_text()


@pytest.mark.slow  # torchrun waits for half a minute before it kills a process that stands still
@pytest.mark.parametrize("which", [0, 1])
def test_for_longer_than_stall_the_run_says_where_it_is_ends_and_goes_on(tmp_path: Path, which: int) -> None:
    said = stopped(tmp_path / "stopped", which, stall=5, seconds=None)
    whole = run(tmp_path / "whole", 2, "replicated", *STEPS)
    result = json.loads((tmp_path / "stopped" / "result.json").read_text())
    assert "no step for" in said
    assert 'File "' in said, "the stacks"
    assert "started again, the run goes on from its last checkpoint" in said
    assert result["restarts"] >= 1
    assert result["weights_sha256"] == whole["weights_sha256"]


@pytest.mark.slow
def test_for_less_than_stall_nothing_happens(tmp_path: Path) -> None:
    said = stopped(tmp_path / "stopped", 1, stall=60, seconds=4)
    whole = run(tmp_path / "whole", 2, "replicated", *STEPS)
    result = json.loads((tmp_path / "stopped" / "result.json").read_text())
    assert "no step for" not in said
    assert result["restarts"] == 0
    assert result["weights_sha256"] == whole["weights_sha256"]
