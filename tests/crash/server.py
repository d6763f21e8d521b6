"""A process that has imported what a job imports, and forks a child for each run of it: no run pays for its imports.

Each line of standard input is a JSON object (see `Request`), each line of standard output the answer. A child is alone
in its session, has one thread, and attaches itself to a new state of the interposer; its own children inherit that.
Imports are done once, in here, by the names that the first child tells: no thread is started by them (checked).
"""

import atexit
import contextlib
import ctypes
import importlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: children of killed children are ours, so that all can be waited for


def serve() -> None:
    """Until standard input ends."""
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    for line in sys.stdin:
        asked = json.loads(line)
        start = time.monotonic()
        code = _run(asked)
        imported = _import(Path(asked["modules"])) if asked.get("modules") else 0
        answer = {"code": code, "seconds": time.monotonic() - start, "imported": imported}
        print(json.dumps(answer), flush=True)


def _run(asked: dict[str, Any]) -> int | None:
    """The exit code, the negative number of the signal that ended it, or None: it did not end."""
    child = os.fork()
    if child == 0:
        _become(asked)
    end = time.monotonic() + asked["seconds"]
    status: int | None = None
    while status is None and time.monotonic() < end:
        done, how = os.waitpid(child, os.WNOHANG)
        if done:
            status = os.waitstatus_to_exitcode(how)
        else:
            time.sleep(0.002)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)  # whoever is left of its session
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return status


def _become(asked: dict[str, Any]) -> NoReturn:
    os.setsid()
    for number, name in ((0, os.devnull), (1, asked["stdout"]), (2, asked["stderr"])):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        opened = os.open(name, flags, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.update(asked["environment"])
    os.chdir(asked["root"])
    texts = [str(asked[name]).encode() for name in ("state", "root", "journal", "shadow")]
    numbers = [ctypes.c_long(asked[name]) for name in ("fault", "n")]
    if ctypes.CDLL(None).crash_create(*texts, *numbers):
        os._exit(99)
    from vitrail.cli import main

    sys.argv = ["vitrail", *asked["arguments"]]
    code = 1
    try:
        if asked["before"]:
            getattr(importlib.import_module("tests.crash.jobs"), asked["before"])()
        main(asked["arguments"])
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        if asked.get("modules"):
            Path(asked["modules"]).write_text(json.dumps(sorted(sys.modules)))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _import(told: Path) -> int:
    """Imports what a child had imported, so that the next need not; returns how many modules that were."""
    before = len(sys.modules)
    for name in json.loads(told.read_text()) if told.exists() else []:
        if name not in sys.modules and "__main__" not in name:
            try:
                importlib.import_module(name)
            except Exception:  # a name that is no module by itself
                continue
    assert threading.active_count() == 1, "a thread does not survive a fork"
    return len(sys.modules) - before


if __name__ == "__main__":
    serve()
