"""When a process stalls, all of them print where they are, and end: a run of many processes must not hang for hours."""

import faulthandler
import os
import sys
import threading
import time
from types import TracebackType

import torch.distributed as distributed

from vitrail.core import dist

FIRST = 1800.0  # seconds that the first step may take at least: it compiles every layer, in all processes at once
STALLED = 70  # exit code of a process that the watchdog ended
_KEY = "vitrail/stalled"
_watching: "Watchdog | None" = None


def beat() -> None:
    """Says that this process gets on, to the watchdog of its run where there is one: for long tasks between steps."""
    if _watching is not None:
        _watching.beat()


class Watchdog:
    """A thread beside the training of a world of several processes. `beat` after every step and task."""

    def __init__(self, seconds: float, poll: float = 2.0):
        self._seconds, self._limit, self._poll = seconds, max(seconds, FIRST), min(poll, seconds / 4)
        self._last = time.monotonic()
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def beat(self) -> None:
        """Says that this process gets on."""
        self._last, self._limit = time.monotonic(), self._seconds

    def __enter__(self) -> "Watchdog":
        if dist.world().size > 1 and self._seconds > 0:
            global _watching
            _watching = self
            self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        global _watching
        self._done.set()
        if self._thread is not None:
            _watching = None
            self._thread.join()

    def _watch(self) -> None:
        store, rank = distributed.distributed_c10d._get_default_store(), dist.world().rank
        while not self._done.wait(self._poll):
            silent = time.monotonic() - self._last
            try:
                if silent > self._limit:
                    store.set(_KEY, str(rank))
                if store.check([_KEY]):
                    self._report(silent, int(store.get(_KEY)))
            except RuntimeError:  # the store went with the process that kept it: the launcher ends us
                return

    def _report(self, silent: float, first: int) -> None:
        rank = dist.world().rank
        cause = f"no step for {silent:.0f} s" if silent > self._limit else f"process {first} reported a stall"
        print(f"vitrail: process {rank}: {cause}; it is here:", file=sys.stderr, flush=True)
        faulthandler.dump_traceback(sys.stderr)
        print(
            f"vitrail: process {rank} ends; started again, the run goes on from its last checkpoint "
            "(torchrun --max-restarts does so by itself)",
            file=sys.stderr,
            flush=True,
        )
        time.sleep(2 * self._poll)  # until the others have seen it too
        os._exit(STALLED)
