"""What a SIGKILL left half-written is gone when the run goes on, and nothing else is."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from vitrail.core.files import remove_leftovers
from vitrail.core.run import RunFolder
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


def test_files_of_other_names_stay(tmp_path: Path) -> None:
    names = [".hidden", "notes.tmp", ".a.tmp", "x.12.tmp", ".gitignore"]
    for name in names:
        (tmp_path / name).write_text("mine")
    remove_leftovers(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names)
