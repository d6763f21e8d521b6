"""A crash at every operation of the smallest job; the loop sees what is broken on purpose; the model of a power cut."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.compare import contents, difference
from tests.crash.disk import Disk
from tests.crash.interposer import FAULTS, available, build, counted
from tests.crash.jobs import JOBS, Job
from tests.crash.loop import Loop, Outcome, may_mount
from tests.crash.table import END, START, Row, Table, distance, put

pytestmark = pytest.mark.skipif(not available(), reason="needs Linux and a C compiler")


def script(folder: Path, text: str, fault: str, n: int) -> int:
    """Python with only the interposer's help, in `folder/world`; the exit code."""
    library, world = build(folder), folder / "world"
    for name in ("world", "shadow"):
        (folder / name).mkdir(exist_ok=True)
    start = "import ctypes, os, sys\nmake = ctypes.CDLL(None).crash_create\n"
    start += f"assert not make(*(a.encode() for a in sys.argv[1:5]), {FAULTS[fault]}, {n})\n"
    names = [folder / "state", world.resolve(), folder / "journal", folder / "shadow"]
    done = subprocess.run(
        [sys.executable, "-c", start + text, *map(str, names)],
        env={**os.environ, "LD_PRELOAD": str(library)}, cwd=world, capture_output=True, text=True,
        start_new_session=True,
    )  # fmt: skip
    return done.returncode


def test_every_kind_of_operation_is_counted_and_the_nth_fails(tmp_path: Path) -> None:
    text = (
        "os.mkdir('a'); f = open('a/x', 'wb', buffering=0); f.write(b'four'); os.fsync(f.fileno())\n"
        "os.rename('a/x', 'a/y'); os.link('a/y', 'z'); os.unlink('a/y'); os.rmdir('a')\n"
        "open('/dev/null', 'w').write('')"
    )
    assert script(tmp_path, text, "none", 0) == 0
    assert counted(tmp_path / "state").operations == 8
    for n in range(1, 9):
        folder = tmp_path / str(n)
        folder.mkdir()
        assert script(folder, text, "kill", n) == -9, n
        assert counted(folder / "state") == (n, True)
    assert (tmp_path / "3" / "world" / "a" / "x").read_bytes() == b"fo", "a write is torn"


def test_a_full_disk_stays_full_and_an_error_comes_once(tmp_path: Path) -> None:
    text = (
        "failed = []\nfor name in 'abc':\n  try: open(name, 'w').close()\n"
        "  except OSError as e: failed.append(e.errno)\nprint(failed); sys.exit(len(failed))"
    )
    for fault, count in (("enospc", 2), ("eio", 1)):
        folder = tmp_path / fault
        folder.mkdir()
        assert script(folder, text, fault, 2) == count


def test_short_and_interrupted_writes_lose_nothing(tmp_path: Path) -> None:
    text = "f = open('a', 'wb'); f.write(b'0123456789' * 99999); f.close()"
    assert script(tmp_path, text, "short", 1) == 0
    assert counted(tmp_path / "state").operations > 2
    assert (tmp_path / "world" / "a").read_bytes() == b"0123456789" * 99999


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("open('a', 'w').write('x' * 10)", {}),
        ("f = open('a', 'w'); f.write('x' * 10); f.flush(); os.fsync(f)", {}),
        ("f = open('a', 'w'); f.write('x'); f.flush(); os.fsync(f); os.fsync(os.open('.', 0)); f.write('y'); f.flush()",
         {"a": b"x"}),
        ("os.unlink('old')", {"old": b"old"}),
        ("os.rename('old', 'new')", {"old": b"old"}),
        ("os.rename('old', 'new'); os.fsync(os.open('.', 0))", {"new": b"old"}),
        ("open('n', 'w').close(); os.fsync(os.open('.', 0)); os.rename('n', 'old')", {"n": b"", "old": b"old"}),
        ("os.mkdir('d'); open('d/x', 'w').close(); os.fsync(os.open('d', 0))", {}),
        ("open('old', 'w').close()", {"old": b""}),
    ],
)  # fmt: skip
def test_what_a_power_cut_leaves(tmp_path: Path, text: str, left: dict[str, bytes]) -> None:
    (tmp_path / "world").mkdir()
    (tmp_path / "world" / "old").write_bytes(b"old")
    assert script(tmp_path, text + "\nopen('last', 'w')", "unsynced", 99) == 0
    Disk((tmp_path / "world").resolve(), tmp_path / "journal", tmp_path / "shadow").lose()
    found = {p.name: p.read_bytes() for p in (tmp_path / "world").iterdir() if p.name != "last"}
    assert found == {"old": b"old", **left} if "new" not in left else found == left


def test_what_is_left_over_or_missing_is_named() -> None:
    assert difference({"a": "1", "cache": "folder"}, {"b": "1", "cache/x": "1"}) == "missing: b; left over: a, cache"
    assert difference({"a": "1"}, {"a": "2"}) == "other: a"


def survived(job: Job, folder: Path, fault: str, every: int = 1) -> int:
    """All operations of a job; returns how many."""
    with Loop(job, folder) as loop:
        outcomes = list(loop.over(fault, every))
        assert contents(loop.world)
    lost = [f"{o.n} ({o.operation}): {o.problem}" for o in outcomes if o.problem]
    assert not lost, "\n".join(lost)
    return len(outcomes)


def test_the_smallest_job_is_killed_at_every_operation(tmp_path: Path) -> None:
    assert survived(JOBS["convert-bundle"], tmp_path, "kill") > 10


def on_small_disks(job: str, folder: Path, every: int) -> int:
    """Read-only, then with room for so many more files, until there are enough; returns how many were not enough."""
    (folder / "disk").mkdir()
    if not may_mount(folder / "disk"):
        pytest.skip("this user may not mount a disk")
    with Loop(JOBS[job], folder) as loop:
        outcomes = [loop.on_disk(0, "read-only"), *loop.over("inodes", every)]
    assert [o and (o.first, o.problem) for o in outcomes] == [(2, "")] * len(outcomes), "a sentence, a later success"
    return len(outcomes) - 1


def test_a_disk_that_is_read_only_or_has_no_inodes_ends_a_job_with_a_sentence_until_there_is_room(
    tmp_path: Path,
) -> None:
    assert on_small_disks("convert-bundle", tmp_path, 1) >= 3


@pytest.mark.slow
@pytest.mark.parametrize(("job", "every"), [("predict-csv", 1), ("prepare-tar", 2), ("linear", 2), ("pretrain", 3)])
def test_a_small_disk_costs_no_job_its_result(tmp_path: Path, job: str, every: int) -> None:
    assert on_small_disks(job, tmp_path, every) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("fault", [name for name in FAULTS if name != "none"])
@pytest.mark.parametrize("job", JOBS)
def test_every_job_survives(tmp_path: Path, job: str, fault: str) -> None:
    """At about a dozen of its operations; `python -m tests.crash` does them all."""
    with Loop(JOBS[job], tmp_path) as loop:
        lost = [o for o in loop.over(fault, every=max(1, len(loop.operations) // 12)) if o.problem]
    assert not lost


def test_a_lock_makes_its_folder_safe_and_rows_are_safe_before_a_checkpoint(tmp_path: Path) -> None:
    """After a power cut the folder of a run is there, with the rows of the steps that its checkpoint has."""
    text = (
        "import json\nfrom pathlib import Path\nfrom vitrail.core.run import RunFolder\n"
        "from vitrail.train.schedule import Cosine\n"
        "run = RunFolder(Path('out'), 'pretrain', Cosine(warmup=1))\n"
        "run.log({'step': 1}); run.sync_metrics(); run.log({'step': 2})"
    )
    assert script(tmp_path, text, "unsynced", 999) == 0
    Disk((tmp_path / "world").resolve(), tmp_path / "journal", tmp_path / "shadow").lose()
    assert (tmp_path / "world" / "out" / "metrics.jsonl").read_text() == '{"step": 1}\n'


def test_operations_are_as_far_apart_as_the_time_asks_for() -> None:
    row = Row("pretrain", operations=100, seconds=2.0)
    assert distance(row, 800.0) == 1, "four faults"
    assert distance(row, 100.0) == 8
    assert distance(row, -1.0) == 100, "some of each, whatever is left"


def test_the_table_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    said = list[str]()
    first = Table(tmp_path / "kept.jsonl", said.append, ["convert-bundle"])
    assert first.run(minutes=0)
    assert all(len(first.rows["convert-bundle"].of(fault)) >= 1 for fault in FAULTS if fault != "none")
    lines = (tmp_path / "kept.jsonl").read_text().splitlines()
    (tmp_path / "kept.jsonl").write_text("\n".join(lines[:-3]) + "\n")
    stopped = Table(tmp_path / "kept.jsonl", said.append, ["convert-bundle"])
    assert not stopped.rows["convert-bundle"].done
    assert stopped.run(minutes=0)
    assert stopped.markdown().splitlines()[:3] == first.markdown().splitlines()[:3]
    count = len(said)
    assert Table(tmp_path / "kept.jsonl", said.append, ["convert-bundle"]).run(minutes=0)
    assert len(said) == count, "nothing is tried twice"
    (tmp_path / "kept.jsonl").write_text('{"commit": "another"}\n' + "\n".join(lines[1:]))
    assert not Table(tmp_path / "kept.jsonl", said.append).rows, "of other code"


def test_what_was_not_survived_is_named_below_the_table(tmp_path: Path) -> None:
    table = Table(tmp_path / "kept.jsonl", print, ["predict-csv"])
    row = table.rows["predict-csv"] = Row("predict-csv", 34, 1.0, each=8)
    row.outcomes["eio", 9] = Outcome("eio", 9, "write out.csv", 0, "left over:\n a")
    row.outcomes["eio", 1] = Outcome("eio", 1, "write out.csv", 0, "")
    page = tmp_path / "page.md"
    page.write_text(f"before {START} old {END} after")
    put(page, table.markdown())
    found = page.read_text()
    assert "| predict-csv | 34 | 8 | – | – | 1 of 2 | – | – |" in found
    assert "- `predict-csv`, eio 9 (write out.csv): left over: a" in found
    assert "2 faults, 1 survived" in found
    assert "old" not in found
    assert found.startswith("before")
    assert found.endswith("after")
