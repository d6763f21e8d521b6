"""Work in other processes: results in order, a bounded number ahead, and no process that outlives its parent."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from vitrail.core.errors import BadInput

Item = TypeVar("Item")
Result = TypeVar("Result")
Shared = TypeVar("Shared")

AHEAD = 2  # items that wait for each worker
LOST = "a worker process died (killed for want of memory, or a decoder crashed); give fewer workers"


def usable_cores() -> int:
    """The cores that this process may use (respects affinity masks)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def mapping(
    function: Callable[[Shared, Item], Result], shared: Shared, workers: int
) -> Iterator[Callable[[Iterable[Item]], Iterator[Result]]]:
    """Yields a map: `function(shared, item)` of each item, in the order of the items, by `workers` processes.

    Items are taken only so far ahead that all workers have work, so a long iterable needs no memory. `shared` is sent
    to each process once. With one worker, or none, all is done here.

    Raises:
        BadInput: a process died; what `function` raises is raised here.
    """
    if workers <= 1:
        yield lambda items: (function(shared, item) for item in items)
        return
    # spawned, not forked: a fork copies the locks of threads, and every worker would hold its sisters' pipes open
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(function, shared))
    try:
        yield partial(_in_order, pool, AHEAD * workers)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _in_order(pool: ProcessPoolExecutor, ahead: int, items: Iterable[Any]) -> Iterator[Any]:
    pending: deque[Future[Any]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(_work, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool:
        raise BadInput(LOST) from None


def is_lost_worker(problem: RuntimeError) -> bool:
    """Whether that is what PyTorch's loader raises, wherever the program is then, when one of its workers died."""
    return str(problem).startswith("DataLoader worker")


_task: Callable[[Any], Any]


def _begin(function: Callable[[Any, Any], Any], shared: Any) -> None:
    global _task
    _task = partial(function, shared)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what happens
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _work(item: Any) -> Any:
    return _task(item)


def _end_with_parent() -> None:
    """A parent that was killed cannot stop its workers, which would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
