"""The decoders of a server: processes that turn bytes into views, and are replaced when they die or take too long.

They come from a process that has imported what they need (multiprocessing's "forkserver"), so that a new one takes
milliseconds. An image on which a decoder died is tried again, so a process that is killed from outside loses nothing;
one on which ATTEMPTS died is broken.
"""

import asyncio
import multiprocessing
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

from vitrail.data.decode.image import BrokenImage, Pixels
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.serve.http.decoding import BROKEN, decode_until_told
from vitrail.serve.http.limits import Limits

ATTEMPTS = 3


class _Job(NamedTuple):
    data: bytes
    preprocess: Preprocess
    future: "asyncio.Future[Pixels]"


class Decoders:
    """So many processes, each with a thread that talks to it.

    Args:
        lost: called with "died" or "slow" when a decoder is replaced.
    """

    def __init__(self, count: int, limits: Limits, lost: Callable[[str], None] = lambda _: None):
        self.limits, self.lost = limits, lost
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["vitrail.serve.http.decoding"])
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._starting = threading.Lock()
        self._closed = False
        self._processes: dict[int, Any] = {}  # by the thread that talks to it
        self._threads = [threading.Thread(target=self._talk, name=f"decoder {i}", daemon=True) for i in range(count)]
        for thread in self._threads:
            thread.start()

    async def view(self, data: bytes, preprocess: Preprocess) -> Pixels:
        """The image as a model is meant to see it; raises BrokenImage."""
        future: asyncio.Future[Pixels] = asyncio.get_running_loop().create_future()
        self._jobs.put(_Job(data, preprocess, future))
        return await future

    @property
    def pids(self) -> list[int]:
        """Of the processes that are there now."""
        return [process.pid for process in list(self._processes.values()) if process.is_alive()]

    def close(self) -> None:
        """Ends all processes; what is in work is not answered."""
        self._closed = True
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(self.limits.decode_seconds + 5)

    def _talk(self) -> None:
        connection = self._start()
        while (job := self._jobs.get()) is not None:
            if job.future.cancelled():
                continue
            if connection.poll():  # nothing was asked: it is gone
                connection = self._replace(connection)
            result: Pixels | BrokenImage = BrokenImage("the decoder crashes on it")
            for _ in range(ATTEMPTS):
                try:
                    result = self._ask(connection, job)
                    break
                except TimeoutError:
                    self.lost("slow")
                    connection = self._replace(connection)
                    result = BrokenImage(f"decoding takes longer than the {self.limits.decode_seconds:g} s allowed")
                    break
                except (EOFError, OSError):
                    self.lost("died")
                    connection = self._replace(connection)
            _deliver(job.future, result)
        connection.close()

    def _ask(self, connection: Connection, job: _Job) -> Pixels | BrokenImage:
        connection.send(job.preprocess)
        connection.send_bytes(job.data)
        if not connection.poll(self.limits.decode_seconds):
            raise TimeoutError
        answer = connection.recv_bytes()
        if answer[:1] == BROKEN:
            return BrokenImage(answer[1:].decode())
        return np.frombuffer(answer, np.uint8, offset=1).reshape(*job.preprocess.resolution, 3)

    def _replace(self, connection: Connection) -> Connection:
        connection.close()
        return self._start()

    def _start(self) -> Connection:
        ours, theirs = self._context.Pipe()
        mine, limits = threading.get_ident(), self.limits
        with self._starting:
            old = self._processes.pop(mine, None)
            if old is not None:
                old.kill()
                old.join()
            while mine not in self._processes and not self._closed:
                process = self._context.Process(
                    target=decode_until_told, args=(theirs, limits.megapixels, limits.decode_gib), daemon=True
                )
                try:
                    process.start()
                    self._processes[mine] = process
                except (EOFError, OSError):  # the process that they come from was killed: there will be another
                    time.sleep(0.1)
        theirs.close()
        return ours


def _deliver(future: "asyncio.Future[Pixels]", result: Pixels | BrokenImage) -> None:
    def done() -> None:
        if future.done():
            return
        if isinstance(result, BrokenImage):
            future.set_exception(result)
        else:
            future.set_result(result)

    with suppress(RuntimeError):  # the loop is closed: nobody waits
        future.get_loop().call_soon_threadsafe(done)
