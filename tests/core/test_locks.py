"""A lock is held by one, let go of by who dies, not shared with forks, and not missed where there are none."""

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from vitrail.core.errors import BadInput
from vitrail.core.locks import lock_or_refuse, lock_or_wait, try_lock

HOLD = "\n".join(
    [
        "import sys, time",
        "from pathlib import Path",
        "from vitrail.core.locks import lock_or_wait",
        "with lock_or_wait(Path(sys.argv[1])):",
        "    print('held', flush=True)",
        "    time.sleep(60)",
    ]
)


def test_one_at_a_time_within_a_process_too(tmp_path: Path) -> None:
    first = try_lock(tmp_path / "deep" / "lock")
    assert first is not None
    assert try_lock(tmp_path / "deep" / "lock") is None
    first.release()
    with lock_or_wait(tmp_path / "deep" / "lock"):
        assert try_lock(tmp_path / "deep" / "lock") is None
    assert try_lock(tmp_path / "deep" / "lock") is not None


def test_who_is_refused_reads_what_is_in_use(tmp_path: Path) -> None:
    with lock_or_wait(tmp_path / "lock"), pytest.raises(BadInput, match="runs/a is in use by another process"):
        lock_or_refuse(tmp_path / "lock", Path("runs/a"))


def test_who_waits_gets_it_when_it_is_released(tmp_path: Path) -> None:
    held, release = threading.Event(), threading.Event()

    def other() -> None:
        with lock_or_wait(tmp_path / "lock"):
            held.set()
            release.wait()

    holder = threading.Thread(target=other)
    holder.start()
    held.wait()
    threading.Timer(0.3, release.set).start()
    with lock_or_wait(tmp_path / "lock"):
        assert release.is_set()
    holder.join()


def test_a_killed_process_lets_go_of_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert try_lock(tmp_path / "lock") is None
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        assert try_lock(tmp_path / "lock") is not None


def test_a_fork_does_not_share_it(tmp_path: Path) -> None:
    """The workers of a run that was killed do not keep its folder locked."""
    forks = HOLD.replace("print('held', flush=True)", "os.write(1, b'%d\\n' % os.fork())").replace(
        "import sys", "import os, sys"
    )
    command = [sys.executable, "-c", forks, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        child = max(int(holder.stdout.readline()) for _ in range(2))
        assert try_lock(tmp_path / "lock") is None
        os.kill(holder.pid, signal.SIGKILL)
        try:
            assert try_lock(tmp_path / "lock", wait=2.0) is not None
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_goes_on(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", absent)
    with lock_or_refuse(tmp_path / "lock", tmp_path), lock_or_refuse(tmp_path / "lock", tmp_path):
        pass


def test_what_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises((FileExistsError, NotADirectoryError)):
        try_lock(tmp_path / "file" / "lock")
