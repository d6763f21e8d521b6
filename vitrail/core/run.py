"""The run folder: one folder a run, everything later reads it. docs/files.md lists what lies in it."""

import json
import os
import platform
import shlex
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from vitrail.core import dist
from vitrail.core.columns import columns_given
from vitrail.core.config import to_json
from vitrail.core.errors import BadInput
from vitrail.core.files import make_folder, read_json, sync_folder, write_json, write_text_atomic
from vitrail.core.locks import Lock
from vitrail.core.loggers import Loggers
from vitrail.core.mirror import saved
from vitrail.core.progress import say
from vitrail.core.resumable import claim_folder, refuse_another

SEEN = 60.0  # seconds in which other machines see what the first process has written
PATIENCE = 8.0  # seconds that a folder in use is waited for: a run that was told to stop saves first

PLANNED_FILES = (
    "plan.json",
    "pilot",
)  # what may lie in the folder before the run: what it was planned by (records/auto.py)

State = Literal["new", "unfinished", "finished"]


class RunFolder:
    """A folder that belongs to one config of one job.

    Opening it for an unfinished run of the same config continues that run; a finished one is to be shown, not
    repeated; another config is refused with the difference. While open, no other run can open it. Of several
    processes of one run the first writes, and the others wait for it here.
    """

    def __init__(self, path: Path, job: str, config: Any, recipe: str | None = None):
        self.path = Path(path)
        self.writes = dist.world().first
        self._metrics = self.path / "metrics.jsonl"
        self._lock: Lock | None = None
        self._config = config
        self._asked = asked_for(job, recipe, config)
        self._loggers: Loggers | None = None
        if not self.writes:
            heard = dist.gathered_json(None)[0]
            if "problem" in heard:
                raise BadInput(heard["problem"])
            self.state: State = heard["state"]
            self._see()
            return
        try:
            self.state = self._open(job, config, recipe)
        except BadInput as problem:
            dist.gathered_json({"problem": str(problem)})
            raise
        dist.gathered_json({"state": self.state})

    def _open(self, job: str, config: Any, recipe: str | None) -> State:
        existing = self.path / "config.json"
        there = list(self.path.iterdir()) if self.path.is_dir() else []
        others = [p for p in there if not p.name.startswith(".") and p.name not in PLANNED_FILES]
        if others and not existing.exists():
            raise BadInput(f"{self.path} holds other files and no run; give a new or an empty folder")
        self._lock = claim_folder(self.path, PATIENCE)
        if existing.exists():
            try:
                self._check_same(read_json(existing), job, config)
            except BadInput:
                self.close()
                raise
            return "finished" if (self.path / "result.json").exists() else "unfinished"
        write_json(existing, self._asked)
        return "new"

    def _see(self) -> None:
        """What the first process has written must be there for the others, soon after it is on a network's disk."""
        end = time.monotonic() + SEEN
        while not (self.path / "config.json").exists():
            if time.monotonic() > end:
                raise BadInput(
                    f"process {dist.world().rank} on {platform.node()} does not see {self.path}, which the first one "
                    "writes: all need the same folder, on several machines one that they share; where --out is an "
                    "address it lies in the cache, which VITRAIL_CACHE names"
                )
            time.sleep(0.1)

    def _check_same(self, stored: dict[str, Any], job: str, config: Any) -> None:
        advice = "give another folder, or the options of that run to continue it"
        if stored.get("job") != job:
            raise BadInput(f"{self.path} holds a {stored.get('job')!r} run, not a {job!r} run; {advice}")
        refuse_another(self.path, stored["config"], config, f"{self.path} holds a run of another config", advice)
        columns = stored.get("columns") or {}
        refuse_another(self.path, columns, columns_given(), f"{self.path} holds a run by other --columns", advice)

    def close(self) -> None:
        """Ends what tracks the run, and lets other processes open the folder."""
        if self._loggers is not None:
            self._loggers.close()
            self._loggers = None
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def log(self, row: dict[str, Any]) -> None:
        """Appends one row to metrics.jsonl, and shows it to what tracks the run."""
        if not self.writes:
            return
        self._stay()
        if self._loggers is not None:
            self._loggers.log(row)
        with open(self._metrics, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def sync_metrics(self) -> None:
        """Makes the rows so far survive a power cut: before a checkpoint says that their steps are done."""
        self._stay()
        if self.writes and self._metrics.exists():
            with open(self._metrics, "rb") as file:
                os.fsync(file.fileno())
            sync_folder(self.path)

    def truncate_metrics(self, step: int) -> None:
        """Drops the rows after `step`, and a torn last line: what was logged but not saved will be done again."""
        if self.writes and self._metrics.exists():
            kept = [json.dumps(row) for row in read_metrics(self._metrics) if row["step"] <= step]
            write_text_atomic(self._metrics, "".join(line + "\n" for line in kept))
        if self._loggers is not None:
            self._loggers.rewind(step)

    def track(self, names: tuple[str, ...], step: int) -> None:
        """From here on, where the run goes on from `step`, rows go to TensorBoard's files and to these trackers too.

        Raises:
            BadInput: a tracker that is not known or not installed.
        """
        if self.writes and self._loggers is None:
            self._loggers = Loggers(self.path, names, to_json(self._config), step)

    def metrics(self) -> list[dict[str, Any]]:
        """All rows so far."""
        return read_metrics(self._metrics)

    def saved(self) -> None:
        """Says to what mirrors the folder that a checkpoint is whole; raises BadInput where another run writes it."""
        saved(self.path)

    def finish(self, result: dict[str, Any]) -> None:
        """Writes result.json, the last file of a run."""
        self._stay()
        write_json(self.path / "result.json", result)

    def _stay(self) -> None:
        """A folder that somebody removed is made anew, so that what the run still finds is not lost, too."""
        file = self.path / "config.json"
        if self.writes and not file.exists():
            make_folder(self.path)
            write_json(file, self._asked)
            say(f"{self.path} was removed or moved while the run wrote to it: it is made anew, without what was there")


def asked_for(job: str, recipe: str | None, config: Any) -> dict[str, Any]:
    """The content of config.json."""
    columns = {"columns": given} if (given := columns_given()) else {}
    return {"format": 1, "job": job, "recipe": recipe, "config": to_json(config), **columns}


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl; a last line that a kill tore in two is left out."""
    rows = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
    return rows


def environment(**device: Any) -> dict[str, Any]:
    """Returns the content of environment.json: versions, machine, command. `device` adds what only the caller knows."""
    program = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"
    program = "python -m vitrail" if program == "__main__.py" else program
    return {
        "vitrail": version("vitrail"),
        "python": platform.python_version(),
        "torch": version("torch"),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "command": [*shlex.split(program), *sys.argv[1:]],
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        **device,
    }
