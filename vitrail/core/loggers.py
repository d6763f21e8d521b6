"""Where the rows of metrics.jsonl go besides: TensorBoard wherever it is installed, trackio and wandb when asked for.

A logger lives in a thread of its own: a slow or broken one neither stops nor slows training. The first thing that goes
wrong is said once, and that logger is dropped. Only importing it is done before (TensorBoard: 0.2 s): worker processes
are forked, and a module that another thread is importing just then would stay locked in them for ever.

`trackers.json` holds what trackio and wandb know this folder by, so that a run that goes on goes on there too.
"""

import io
import sys
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from queue import Full, Queue
from types import ModuleType
from typing import Any, Protocol
from uuid import uuid4

from vitrail.core.errors import BadInput, unknown
from vitrail.core.files import read_json, write_json
from vitrail.core.progress import say

KNOWN = ("trackio", "wandb")
PROJECT = "vitrail"
PATIENCE = 10.0  # seconds that the end of a run waits for its loggers, in all
WAITING = 10_000  # rows that may wait for a slow logger


class Logger(Protocol):
    """What takes numbers. All its methods are called in one thread."""

    def log(self, step: int, values: dict[str, float]) -> None: ...

    def rewind(self, step: int) -> None:
        """The steps after `step` will come again."""

    def close(self) -> None: ...


def check_loggers(names: Iterable[str]) -> None:
    """Raises BadInput for a logger that is not known or not installed."""
    for name in names:
        if name not in KNOWN:
            raise unknown("tracker", name, KNOWN)
        if find_spec(name) is None:
            raise BadInput(f"track {name}: {name} is not installed; pip install 'vitrail[logging]'")


class Loggers:
    """All loggers of a run; `log` takes a row of metrics.jsonl and returns at once.

    Args:
        folder: of the run. TensorBoard's files lie in `tensorboard/` below it.
        names: from KNOWN.
        config: of the run, as JSON.
        step: at which the run goes on; what a logger has of later steps will come again.

    Raises:
        BadInput: a logger that is not known or not installed.
    """

    def __init__(self, folder: Path, names: Iterable[str], config: Any, step: int):
        names = tuple(dict.fromkeys(names))
        check_loggers(names)
        opening: dict[str, Callable[[ModuleType], Logger]] = {}
        if find_spec("tensorboard") is not None:
            opening["torch.utils.tensorboard"] = partial(_TensorBoard, folder / "tensorboard", step)
        opening |= {name: partial(_Service, name, folder, _identity(folder, name), config) for name in names}
        self._threads: list[_LoggerThread] = []
        for name, open_ in opening.items():
            short = name.rpartition(".")[2]
            try:
                self._threads.append(_LoggerThread(short, partial(open_, import_module(name))))
            except Exception as problem:  # whatever the packages that it needs may raise
                _say_dropped(short, str(problem) or type(problem).__name__)

    def log(self, row: dict[str, Any]) -> None:
        """The numbers of a row, each named `kind/name`; what could not be measured is left out."""
        named = {name: value for name, value in row.items() if name not in ("kind", "step")}
        values = {f"{row['kind']}/{n}": float(v) for n, v in named.items() if isinstance(v, int | float)}
        for thread in self._threads:
            thread.submit(lambda logger: logger.log(row["step"], values))

    def rewind(self, step: int) -> None:
        """The run has gone back to `step`."""
        for thread in self._threads:
            thread.submit(lambda logger: logger.rewind(step))

    def close(self, patience: float = PATIENCE) -> None:
        """Waits, within `patience` seconds for each, until everything is written."""
        for thread in self._threads:
            thread.submit(None)
        for thread in self._threads:
            thread.join(patience)


def _identity(folder: Path, name: str) -> str:
    """The name by which a service knows the run of this folder, drawn once."""
    path = folder / "trackers.json"
    known = read_json(path) if path.exists() else {}
    if name not in known:
        known[name] = uuid4().hex[:8]
        write_json(path, known)
    return str(known[name])


class _LoggerThread:
    """A logger in its thread, and the queue of what it is to do."""

    def __init__(self, name: str, open_: Callable[[], Logger]):
        self._name, self._open = name, open_
        self._queue: Queue[Callable[[Logger], None] | None] = Queue(WAITING)
        self._dropped = False
        # a daemon: one that hangs does not keep the program from ending
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, task: Callable[[Logger], None] | None) -> None:
        """Leaves something to be done; None: the end."""
        if self._dropped:
            return
        try:
            self._queue.put_nowait(task)
        except Full:
            self._drop(f"it is {WAITING:,} rows behind")

    def join(self, patience: float) -> None:
        self._thread.join(patience)
        if self._thread.is_alive():
            self._drop(f"it has not finished within {patience:g} s")

    def _run(self) -> None:
        with _PrintsToErrors():
            try:
                logger = self._open()
                while (task := self._queue.get()) is not None and not self._dropped:
                    task(logger)
                logger.close()
            except (Exception, SystemExit) as problem:
                self._drop(str(problem) or type(problem).__name__)

    def _drop(self, problem: str) -> None:
        if not self._dropped:
            self._dropped = True
            _say_dropped(self._name, problem)


def _say_dropped(name: str, problem: str) -> None:
    first = problem.strip().split("\n")[0]
    say(f"{name}: {first}; the run goes on without it, its numbers are in metrics.jsonl")


class _PrintsToErrors(io.TextIOBase):
    """Standard output, but that what this thread prints goes to standard error: output is for machines."""

    def __enter__(self) -> "_PrintsToErrors":
        self._thread, self._whole = threading.get_ident(), sys.stdout
        sys.stdout = self
        return self

    def __exit__(self, *_: object) -> None:
        if sys.stdout is self:
            sys.stdout = self._whole

    def write(self, text: str) -> int:
        return (sys.stderr if threading.get_ident() == self._thread else self._whole).write(text)

    def flush(self) -> None:
        self._whole.flush()

    def isatty(self) -> bool:
        return self._whole.isatty()

    def fileno(self) -> int:
        return self._whole.fileno()


def _hear_threads() -> None:
    """What a thread of TensorBoard raises it raises again in ours, where it is said once, without a traceback."""
    before = threading.excepthook

    def heard(about: threading.ExceptHookArgs) -> None:
        if not type(about.thread).__module__.startswith("tensorboard."):
            before(about)

    if not getattr(before, "hears_tensorboard", False):
        heard.hears_tensorboard = True  # type: ignore[attr-defined]
        threading.excepthook = heard


class _TensorBoard:
    """Event files. A new file says from which step on the older ones no longer count."""

    def __init__(self, folder: Path, step: int, package: ModuleType):
        self._folder, self._package = folder, package
        _hear_threads()
        self._begin(step if folder.exists() else None)

    def _begin(self, step: int | None) -> None:
        purge = None if step is None else step + 1
        self._wait_for_another_second()
        self._writer = self._package.SummaryWriter(str(self._folder), purge_step=purge)

    def _wait_for_another_second(self) -> None:
        """Files are read by the order of their names: second, machine, process, a number, of which 10 is before 9."""
        names = [file.name.split(".")[3] for file in self._folder.glob("events.out.tfevents.*.*")]
        seconds = [int(name) for name in names if name.isdigit()]
        left = max(seconds, default=0) + 1 - time.time()
        if 0 < left <= 1:
            time.sleep(left)

    def log(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def rewind(self, step: int) -> None:
        self._writer.close()
        self._begin(step)

    def close(self) -> None:
        self._writer.close()


class _Service:
    """trackio or wandb. Neither takes rows back: steps that are done again are there twice, with the same numbers."""

    def __init__(self, name: str, folder: Path, identity: str, config: Any, package: ModuleType):
        self._is_wandb = name == "wandb"
        known = {"id": identity, "name": folder.name, "dir": str(folder)}
        known = known if self._is_wandb else {"name": f"{folder.name}-{identity}"}
        self._run = package.init(project=PROJECT, config=config, resume="allow", **known)
        if self._is_wandb:  # its own step never goes back, and it would drop the rows of a run that does
            self._run.define_metric("step")
            self._run.define_metric("*", step_metric="step")

    def log(self, step: int, values: dict[str, float]) -> None:
        if self._is_wandb:
            self._run.log({**values, "step": step})
        else:
            self._run.log(values, step=step)

    def rewind(self, step: int) -> None:
        pass

    def close(self) -> None:
        self._run.finish()
