"""A process that stalls ends the run of all, with every stack printed; one that gets on is left alone."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from torch.distributed import HashStore

from tests.scenarios.many import environment
from vitrail.core import watchdog
from vitrail.core.dist import World
from vitrail.core.watchdog import STALLED, Watchdog

SCRIPT = Path(__file__).with_name("stalling.py")


def test_when_one_of_two_stalls_both_print_their_stacks_and_end() -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    root = str(SCRIPT.parents[2])
    began = time.monotonic()
    done = subprocess.run(
        [*launcher, str(SCRIPT), "3"], env=environment(PYTHONPATH=root), capture_output=True, text=True, timeout=120
    )
    assert done.returncode != 0
    assert time.monotonic() - began < 60
    said = done.stderr
    assert f"exitcode  : {STALLED}" in said or f"exitcode: {STALLED}" in said
    for rank in (0, 1):
        assert f"vitrail: process {rank}: " in said
        assert f"vitrail: process {rank} ends; started again, the run goes on from its last checkpoint" in said
    assert "where_it_hangs" in said  # the second's stack
    assert "in barrier" in said  # the first's


def test_a_world_of_one_is_not_watched() -> None:
    with Watchdog(0.01, poll=0.01):
        time.sleep(0.1)  # no beat: it would have ended this process


def test_the_first_step_may_compile_for_longer_than_a_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[float] = []
    monkeypatch.setattr(watchdog.dist, "world", lambda: World(0, 2))
    monkeypatch.setattr(watchdog.distributed.distributed_c10d, "_get_default_store", lambda: HashStore())
    monkeypatch.setattr(Watchdog, "_report", lambda self, silent, first: reported.append(silent))
    with Watchdog(0.05, poll=0.01) as dog:
        time.sleep(0.3)
        assert not reported
        dog.beat()
        time.sleep(0.3)
    assert reported


def test_the_first_step_has_a_limit_too() -> None:
    assert Watchdog(2 * watchdog.FIRST)._limit == 2 * watchdog.FIRST
    assert Watchdog(10.0)._limit == watchdog.FIRST
