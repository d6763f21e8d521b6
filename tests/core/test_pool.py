"""Work in other processes: in order, not far ahead, and over when the parent is."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vitrail.core.errors import BadInput
from vitrail.core.pool import AHEAD, mapping


def tenfold(shared: int, item: int) -> int:
    time.sleep(0.002 * (item % 3))  # they finish in another order than they begin
    return shared + 10 * item


def refusing(_: None, item: int) -> int:
    raise BadInput(f"item {item} is bad")


def dying(_: None, item: int) -> int:
    os._exit(item)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    with mapping(tenfold, 1, workers) as mapped:
        assert list(mapped(range(50))) == [1 + 10 * i for i in range(50)]
        assert list(mapped([7])) == [71]  # and again


def test_items_are_taken_only_as_far_ahead_as_there_is_work() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for i in range(100):
            taken.append(i)
            yield i

    with mapping(tenfold, 0, 2) as mapped:
        results = mapped(items())
        assert next(results) == 0
        assert len(taken) <= 2 * AHEAD + 1
        assert len(list(results)) == 99


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_raised_there_is_raised_here(workers: int) -> None:
    with mapping(refusing, None, workers) as mapped, pytest.raises(BadInput, match="item 3 is bad"):
        list(mapped([3]))


def test_a_worker_that_dies_gets_a_sentence() -> None:
    with mapping(dying, None, 2) as mapped, pytest.raises(BadInput, match="a worker process died"):
        list(mapped([5]))


SCRIPT = """
import time
from tests.core.test_pool import tenfold
from vitrail.core.pool import mapping
if __name__ == "__main__":
    with mapping(tenfold, 0, 2) as mapped:
        for result in mapped(range(10**9)):
            print(result, flush=True)
"""


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(SCRIPT)
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "work.py")],
        stdout=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert process.stdout is not None
    process.stdout.readline()
    assert len(processes_of(process.pid)) >= 3
    process.kill()
    process.wait()
    process.stdout.close()
    end = time.monotonic() + 20
    try:
        while processes_of(process.pid):
            assert time.monotonic() < end, "workers outlive their parent"
            time.sleep(0.01)
    finally:
        for left in processes_of(process.pid):
            os.kill(left, signal.SIGKILL)


def processes_of(group: int) -> list[int]:
    """The living processes of a process group."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state, _, members = (path / "stat").read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(members) == group and state != "Z":
            found.append(int(path.name))
    return found
