"""Images of many requests share a pass of the model; what an image gets does not depend on its company."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import takewhile
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from vitrail.data.loader.normalise import stack
from vitrail.runtimes.same_bits import best_shape
from vitrail.serve.predictor import Predictor


class Answer(NamedTuple):
    """Of one image: the probabilities of all classes (none where there is no classifier), and the representation."""

    probabilities: Float[Tensor, " c"]
    representation: Float[Tensor, " d"]


View = UInt8[np.ndarray, "h w 3"] | Float32[np.ndarray, "c h w"]  # a picture, or numbers as the model reads them


class _Waiting(NamedTuple):
    view: View
    future: "asyncio.Future[Answer]"
    since: float


class Batcher:
    """A queue of views, and a thread for each predictor that takes as many as make a batch.

    A thread that is idle waits for company up to `wait` seconds, and only while there are images on their way to it
    (`coming`): a single client never waits.

    Args:
        predictors: of the same model, one a device.
        seen: called with the number of images of each pass and its seconds.
    """

    def __init__(
        self, predictors: Sequence[Predictor], wait: float, seen: Callable[[int, float], None] = lambda *_: None
    ):
        self._wait, self._seen = wait, seen
        self._coming = 0
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [threading.Thread(target=self._run, args=(p,), name="model", daemon=True) for p in predictors]
        for thread in self._threads:
            thread.start()

    def submit(self, view: View) -> "asyncio.Future[Answer]":
        """What the model makes of a view, or raises, some time later."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        with self._changed:
            self._waiting.append(_Waiting(view, future, time.monotonic()))
            self._changed.notify()
        return future

    @contextmanager
    def coming(self) -> Iterator[None]:
        """While an image is on its way."""
        with self._changed:
            self._coming += 1
        try:
            yield
        finally:
            with self._changed:
                self._coming -= 1
                self._changed.notify()

    def close(self) -> None:
        """Answers what waits, and ends the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self, predictor: Predictor) -> None:
        while some := self._next(predictor.runtime.shapes):
            start = time.monotonic()
            try:
                probabilities, representation = predictor.judge(_batch([one.view for one in some]))
                results: Sequence[Answer | Exception] = [
                    Answer(*row) for row in zip(probabilities, representation, strict=True)
                ]
            except Exception as problem:  # of this batch; the next may be well
                results = [problem] * len(some)
            self._seen(len(some), time.monotonic() - start)
            _deliver([(one.future, result) for one, result in zip(some, results, strict=True)])

    def _next(self, shapes: tuple[int, ...]) -> list[_Waiting]:
        """The next batch; empty at the end."""
        with self._changed:
            while True:
                self._waiting = deque(one for one in self._waiting if not one.future.cancelled())
                if not self._waiting:
                    if self._closed:
                        return []
                    self._changed.wait()
                    continue
                left = self._waiting[0].since + self._wait - time.monotonic()
                if self._closed or not self._coming or len(self._waiting) >= shapes[-1] or left <= 0:
                    return self._take(shapes)
                self._changed.wait(left)

    def _take(self, shapes: tuple[int, ...]) -> list[_Waiting]:
        """As many as make a good batch, of one kind of view."""
        kind = self._waiting[0].view.dtype
        alike = sum(1 for _ in takewhile(lambda one: one.view.dtype == kind, self._waiting))
        return [self._waiting.popleft() for _ in range(min(alike, best_shape(alike, shapes)))]


def _batch(views: list[View]) -> Tensor:
    return stack(views) if views[0].dtype == np.uint8 else torch.from_numpy(np.stack(views))


def _deliver(results: Sequence[tuple["asyncio.Future[Answer]", Answer | Exception]]) -> None:
    def done() -> None:
        for future, result in results:
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

    with suppress(RuntimeError):  # the loop is closed: nobody waits
        results[0][0].get_loop().call_soon_threadsafe(done)
