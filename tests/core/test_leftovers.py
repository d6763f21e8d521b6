"""What a SIGKILL left half-written is gone when the run goes on, and nothing else is."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vitrail.core.errors import BadInput
from vitrail.core.files import atomic_folder, atomic_path, write_json
from vitrail.core.run import RunFolder
from vitrail.core.temporary import refuse_existing, remove_leftovers, writing_alone
from vitrail.train.schedule import Cosine

KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from vitrail.core.files import atomic_folder, atomic_path
with atomic_folder(Path(sys.argv[1]) / "bundle") as folder, atomic_path(Path(sys.argv[1]) / "config.json") as file:
    (folder / "model.safetensors").write_text("half")
    file.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_while_writing_leaves_nothing_that_counts(tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, str(run)], env=dict(os.environ), timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert len(list(run.glob(".*"))) == 2, "the kill left its temporary files"
    with RunFolder(run, "pretrain", Cosine(warmup=1)) as opened:
        assert opened.state == "new"
    left = sorted(p.name for p in run.rglob("*"))
    assert left == [".lock", "config.json"]


@pytest.mark.parametrize("write", [atomic_path, atomic_folder])
def test_the_next_writer_of_a_name_takes_what_a_kill_left_of_it(tmp_path: Path, write: Callable) -> None:
    """Also where nobody looks for leftovers: beside OUT of a command, in the cache."""
    name = "bundle" if write is atomic_folder else "config.json"
    subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, str(tmp_path)], env=dict(os.environ), timeout=60)
    assert len(list(tmp_path.glob(f".{name.split('.')[0]}.*"))) == 1
    with write(tmp_path / name) as temporary:
        (temporary / "x" if temporary.is_dir() else temporary).write_text("whole")
    assert not list(tmp_path.glob(f".{name.split('.')[0]}.*"))
    assert not (tmp_path / "bundle" / "model.safetensors").exists()


@pytest.mark.parametrize("write", [atomic_path, atomic_folder])
def test_writers_of_one_name_do_not_disturb_each_other(tmp_path: Path, write: Callable) -> None:
    path = tmp_path / "out.json"
    with write(path) as first:
        with write(path) as second:
            assert first != second
            (second / "x" if second.is_dir() else second).write_text("second")
        assert first.exists(), "the other did not take it for a leftover"
        (first / "x" if first.is_dir() else first).write_text("first")
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]
    assert (path / "x" if path.is_dir() else path).read_text() == "first"


def test_one_of_several_writers_that_was_killed_leaves_nothing_for_ever(tmp_path: Path) -> None:
    (tmp_path / ".out.1.tmp.json").write_text("half, of a second writer")
    write_json(tmp_path / "out.json", 1)
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]


@pytest.mark.parametrize("by", ["who claims the folder", "the next writer"])
def test_a_folder_that_was_put_aside_for_another_comes_back(tmp_path: Path, by: str) -> None:
    """A kill between the two renames: the new one never took the name."""
    for name, text in ((".best.0.old", "old"), (".best.0.tmp", "new")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_text(text)
    if by == "the next writer":
        with pytest.raises(RuntimeError), atomic_folder(tmp_path / "best"):
            raise RuntimeError("a full disk")
    else:
        remove_leftovers(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["best"]
    assert (tmp_path / "best" / "weights").read_text() == "old"


def test_who_writes_something_new_writes_it_alone(tmp_path: Path) -> None:
    with writing_alone(tmp_path / "out"):
        with pytest.raises(BadInput, match="out is being written by another process"), writing_alone(tmp_path / "out"):
            pass
        (tmp_path / "out").write_text("whole")
    with pytest.raises(BadInput, match="out exists already"), writing_alone(tmp_path / "out"):
        pass
    (tmp_path / ".out.0.tmp.lock").touch()  # of one that was killed at its end
    with pytest.raises(BadInput, match="out exists already"):
        refuse_existing(tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_where_there_are_no_locks_the_number_is_that_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(descriptor: int, how: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", none)
    with atomic_path(tmp_path / "out.json") as temporary:
        assert temporary.name == f".out.{os.getpid()}.tmp.json"
        temporary.write_text("1")
    write_json(tmp_path / "other.json", 1)
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.endswith(".0.tmp.json")) == [
        "other.json",
        "out.json",
    ]


def test_files_of_other_names_stay(tmp_path: Path) -> None:
    names = [".hidden", "notes.tmp", ".a.tmp", "x.12.tmp", ".gitignore"]
    for name in names:
        (tmp_path / name).write_text("mine")
    remove_leftovers(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names)
