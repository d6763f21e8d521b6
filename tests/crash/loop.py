"""The loop: a run that fails at its Nth operation, the same command again, and what is then there; for every N."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from tests.crash.compare import contents, difference
from tests.crash.disk import Disk
from tests.crash.interposer import FAULTS, Counted, build, counted, operations
from tests.crash.jobs import Job

PATIENCE = 900.0  # seconds for a run; nobody knows how long the machine stands still meanwhile
MEASURED = "cache/*.json"  # which kernel is the fastest: it decides how numbers are rounded
NEVER = 1 << 40  # no run has so many operations
FATAL = ("kill", "unsynced")


class Ended(NamedTuple):
    """How a run ended."""

    code: int | None
    stderr: str
    counted: Counted

    @property
    def problem(self) -> str:
        """What nobody should see, or an empty text: a traceback, an exit code without a sentence, no end."""
        if self.code is None:
            return "it does not end"
        if "Traceback" in self.stderr:
            return f"a traceback: {self.stderr.strip().splitlines()[-1]}"
        if self.code not in (0, 2):
            return f"exit code {self.code}: {self.stderr.strip()[-300:]}"
        if self.code == 2 and "vitrail: " not in self.stderr:
            return f"exit code 2 without a sentence: {self.stderr.strip()[-300:]}"
        return ""


class Outcome(NamedTuple):
    """What became of one fault: at which operation of which file it came; `problem` is empty where it was survived."""

    fault: str
    n: int
    operation: str
    first: int | None
    problem: str


def _only_left_over(problem: str) -> bool:
    return problem.startswith("left over: ") and ";" not in problem


def may_mount(folder: Path) -> bool:
    """Whether this process can make a small disk, with few inodes: on Linux, as root, where it is not forbidden."""
    try:
        _mount(folder, "size=1m")
    except (OSError, subprocess.CalledProcessError):
        return False
    subprocess.run(["umount", folder], check=True)
    return True


def _mount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True, capture_output=True)


class Loop:
    """A job, its world, and the server that runs it."""

    def __init__(self, job: Job, folder: Path):
        self.job, self.folder = job, folder.resolve()
        self.world, self.template = self.folder / "world", self.folder / "template"
        for place in (self.template, self.folder / "tmp"):
            place.mkdir(parents=True)
        job.make(self.template)
        library = build(self.folder)
        environment = {**os.environ, "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        environment |= {"TMPDIR": str(self.folder / "tmp"), "VITRAIL_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
        environment.pop("CRASH_STATE", None)
        self.server = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.server"],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip
        self.modules: Path | None = self.folder / "modules.json"
        self.undisturbed = self._undisturbed()
        self.modules = None
        self.operations = operations(self.folder / "journal")

    def __enter__(self) -> "Loop":
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.close()
        self.server.stdout.close()
        self.server.wait()

    def _undisturbed(self) -> dict[str, str]:
        """Two runs that end, and leave the same. What a first one measured of this machine is kept for all."""
        found = []
        for measured in (False, True, True):
            self._reset()
            ended = self._run("none", 0)
            assert ended.code == 0, ended
            if measured:
                found.append(contents(self.world))
            for file in self.world.glob(MEASURED):
                (self.template / file.relative_to(self.world)).parent.mkdir(exist_ok=True)
                shutil.copy2(file, self.template / file.relative_to(self.world))
        assert not (said := difference(*found)), f"two undisturbed runs differ, {said}"
        return found[0]

    def _reset(self) -> None:
        shutil.rmtree(self.world, ignore_errors=True)
        shutil.copytree(self.template, self.world)

    def _run(self, fault: str, n: int) -> Ended:
        state, journal, shadow = (self.folder / name for name in ("state", "journal", "shadow"))
        shutil.rmtree(shadow, ignore_errors=True)
        shadow.mkdir()
        journal.unlink(missing_ok=True)
        asked: dict[str, Any] = {
            "arguments": self.job.arguments, "root": str(self.world), "state": str(state), "journal": str(journal),
            "shadow": str(shadow), "fault": FAULTS[fault], "n": n, "seconds": PATIENCE,
            "stdout": str(self.folder / "stdout"), "stderr": str(self.folder / "stderr"),
            "environment": {"VITRAIL_CACHE": str(self.world / "cache")},
            "before": None if self.job.before is None else self.job.before.__name__,
            "modules": None if self.modules is None else str(self.modules),
        }  # fmt: skip
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        print(json.dumps(asked), file=self.server.stdin, flush=True)
        answer = json.loads(self.server.stdout.readline())
        said = (self.folder / "stderr").read_text(errors="replace")
        return Ended(answer["code"], said, counted(state))

    def at(self, fault: str, n: int) -> Outcome | None:
        """What becomes of a fault at the Nth operation; None where the run is over before it."""
        self._reset()
        first = self._run(fault, n)
        if not first.counted.fired:
            return None
        did = operations(self.folder / "journal")
        what = " ".join(did[n - 1]).replace(f"{self.world}/", "") if len(did) >= n else "?"
        problem = self._after(fault, first)
        if fault == "eio" and did[n - 1][0] in ("unlink", "rmdir") and first.code == 0 and _only_left_over(problem):
            problem = ""  # what a disk refuses to remove stays there
        return Outcome(fault, n, what, first.code, problem)

    def _after(self, fault: str, first: Ended) -> str:
        if fault in FATAL:
            if first.code != -9:
                return f"it was to be killed, and ended with {first.code}"
        elif said := first.problem:
            return said
        elif fault == "short" and first.code != 0:
            return f"an interrupted or short write ended it: {first.stderr.strip()[-300:]}"
        if fault == "unsynced":
            Disk(self.world, self.folder / "journal", self.folder / "shadow").lose()
        again = self._run("none", 0) if first.code != 0 else first
        if again.problem:
            return f"the same command again: {again.problem}"
        try:
            said = difference(contents(self.world), self.undisturbed)
        except (ValueError, OSError) as problem:
            said = f"what is there cannot be read: {problem}"
        # where all is there, a command that writes nothing over refuses to do it again
        return f"{said}; the same command again: {again.stderr.strip()[-300:]}" if said and again.code else said

    def on_disk(self, n: int, fault: str = "inodes") -> Outcome | None:
        """A disk with room for n more files and folders alone, or one that is read-only; later for all of them.

        None: they were enough. The disk is a tmpfs, so whoever calls this may mount one (`may_mount`).
        """
        shutil.rmtree(self.world, ignore_errors=True)
        self.world.mkdir()
        _mount(self.world, "size=64m")
        try:
            shutil.copytree(self.template, self.world, dirs_exist_ok=True)
            there = 1 + sum(1 for _ in self.template.rglob("*"))
            _mount(self.world, "remount,ro" if fault == "read-only" else f"remount,nr_inodes={there + n}")
            first = self._run("none", 0)
            _mount(self.world, "remount,rw,nr_inodes=0")
            problem = self._after(fault, first)
            return None if first.code == 0 and not problem else Outcome(fault, n, "", first.code, problem)
        finally:
            subprocess.run(["umount", "--lazy", self.world], check=True)

    def after_its_end(self) -> Outcome:
        """What a power cut takes of a run that has said that it is done: nothing, but what is made again in passing."""
        self._reset()
        ended = self._run("unsynced", NEVER)
        assert ended.code == 0, ended
        Disk(self.world, self.folder / "journal", self.folder / "shadow").lose()
        try:
            said = difference(contents(self.world), self.undisturbed)
        except (ValueError, OSError) as problem:
            said = f"what is there cannot be read: {problem}"
        # a name whose removal was not synced is removed by what writes there next
        return Outcome("unsynced", 0, "after its end", ended.code, "" if _only_left_over(said) else said)

    def over(self, fault: str, every: int = 1, start: int = 1) -> Iterator[Outcome]:
        """Every `every`th operation, until the run is over before it; a power cut after its end, too.

        Short writes come all at once, from N on.
        """
        n = start
        if fault == "unsynced":
            yield self.after_its_end()
        while (outcome := self.on_disk(n) if fault == "inodes" else self.at(fault, n)) is not None:
            yield outcome
            if fault == "short":
                return
            n += every
