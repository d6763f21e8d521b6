"""What a server does with images, whatever protocol they came by: decode, wait for company, answer."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import numpy as np

from vitrail.core.errors import nearest
from vitrail.data.decode.image import BrokenImage, Pixels
from vitrail.serve.http.batcher import Answer, View
from vitrail.serve.http.decoders import Decoders
from vitrail.serve.http.feedback import Feedback
from vitrail.serve.http.limits import Limits, Refused
from vitrail.serve.http.metrics import Metrics
from vitrail.serve.http.request import Held, Upload
from vitrail.serve.http.served import Served

OVER = 10.0  # seconds over which the rate is counted


class Labelled(NamedTuple):
    """An image that was answered: its view, and what the model makes of it."""

    view: View
    answer: Answer


class Service:
    """The models by their names, the decoders, the queue, and the numbers that tell how it goes."""

    def __init__(self, limits: Limits, decoders: int, feedback: Feedback | None = None):
        self.limits, self.metrics, self.feedback = limits, Metrics(), feedback
        self.models: dict[str, Served] = {}
        self.decoders = Decoders(
            decoders, limits, lambda why: self.metrics.add("vitrail_decoders_lost_total", reason=why)
        )
        self.held = Held(limits)
        self.pending = 0
        self.draining = False
        self._answered: deque[tuple[float, int]] = deque()
        self.metrics.gauge("vitrail_queue_images", lambda: {"": self.pending})
        self.metrics.gauge("vitrail_images_per_second", lambda: {"": self.rate()})
        self.metrics.gauge("vitrail_ready", lambda: dict.fromkeys(self.models, float(self.ready)) or {"": 0.0})

    @property
    def ready(self) -> bool:
        """Whether requests are answered."""
        return bool(self.models) and not self.draining

    def model(self, name: str | None) -> Served:
        """The model of that name, or the first one; raises Refused."""
        if not self.models:
            raise Refused(503, "the model is being loaded", "not ready", {"retry-after": "1"})
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            raise Refused(404, f"unknown model {name!r}{nearest(name, self.models)}", "no model")
        return self.models[name]

    async def label(self, served: Served, uploads: Sequence[Upload]) -> list[Labelled | BrokenImage]:
        """One after another as they were given; raises Refused where the queue is full."""
        return await self._together([partial(self._encoded, served, upload) for upload in uploads])

    async def label_views(self, served: Served, views: Sequence[View]) -> list[Labelled | BrokenImage]:
        """The same of what the model can read at once."""

        async def one(view: View) -> Labelled:
            return Labelled(view, await served.batcher.submit(view))

        return await self._together([partial(one, view) for view in views])

    async def _together(self, made: Sequence[Callable[[], Awaitable[Labelled]]]) -> list[Labelled | BrokenImage]:
        with self._places(len(made)):
            results = await asyncio.gather(*(one() for one in made), return_exceptions=True)
        found: list[Labelled | BrokenImage] = []
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, BrokenImage):
                raise result
            if isinstance(result, BrokenImage):
                self.metrics.add("vitrail_errors_total", kind="broken image")
            found.append(result)
        self._answered.append((time.monotonic(), len(found)))
        return found

    @contextmanager
    def _places(self, count: int) -> Iterator[None]:
        """In the queue."""
        if self.pending + count > self.limits.queue:
            seconds = min(60, max(1, math.ceil(self.pending / max(self.rate(), 1.0))))
            raise Refused(
                429,
                f"{self.pending} images wait already; try again in {seconds} s",
                "busy",
                {"retry-after": str(seconds)},
            )
        self.pending += count
        try:
            yield
        finally:
            self.pending -= count

    async def _encoded(self, served: Served, upload: Upload) -> Labelled:
        if len(upload.data) > self.limits.image_bytes:
            raise BrokenImage(f"larger than the {self.limits.image_mb:g} MiB allowed")
        with served.batcher.coming():
            view: Pixels = await self.decoders.view(upload.data, served.model.preprocess)
            answer = served.batcher.submit(view)
        return Labelled(view, await answer)

    def rate(self) -> float:
        """Images answered a second."""
        now = time.monotonic()
        while self._answered and self._answered[0][0] < now - OVER:
            self._answered.popleft()
        return sum(count for _, count in self._answered) / OVER

    def seen(self, images: int, seconds: float) -> None:
        """A pass of a model."""
        self.metrics.observe("vitrail_batch_images", images)
        self.metrics.observe("vitrail_batch_seconds", seconds)


def as_ppm(pixels: np.ndarray) -> bytes:
    """Pixels [H, W, 3] as a file, for the decoders."""
    return b"P6 %d %d 255\n" % (pixels.shape[1], pixels.shape[0]) + np.ascontiguousarray(pixels).tobytes()
