"""uvicorn's HTTP protocol with what it leaves out: time limits for those who say nothing, or do not listen."""

import asyncio
import time
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from vitrail.serve.http.limits import KEEP_ALIVE, Limits

SLACK = 5.0  # seconds that an answer may take to be read, after the time of its request


def guarded(limits: Limits) -> type["GuardedProtocol"]:
    """A protocol class with these limits, which knows its connections."""
    return type("Guarded", (GuardedProtocol,), {"limits": limits, "open": set()})


class GuardedProtocol(H11Protocol):  # type: ignore[misc]  # uvicorn is checked only where it is installed
    """A connection that is cut when its time is over: to send headers, to send a body, to take the answer.

    `silent`: it has no request in work.
    """

    limits: Limits
    open: set["GuardedProtocol"]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A new connection; above the limit the one gives way that has been silent for the longest time."""
        super().connection_made(transport)
        self.silent, self.until = True, time.monotonic() + self.limits.header_seconds
        self.open.add(self)
        if len(self.open) > self.limits.connections:
            silent = [one for one in self.open if one.silent]
            min(silent or [self], key=lambda one: one.until).cut()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self.open.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes: from the first request on, its time runs."""
        super().data_received(data)
        self._note()

    def on_response_complete(self) -> None:
        """An answer is out; the next request may have come already."""
        super().on_response_complete()
        self.silent, self.until = True, time.monotonic() + KEEP_ALIVE + self.limits.header_seconds
        self._note()

    def _note(self) -> None:
        if self.silent and self.cycle is not None and not self.cycle.response_complete:
            self.silent, self.until = False, time.monotonic() + self.limits.seconds + SLACK

    def cut(self) -> None:
        """Ends it at once: who does not read would never let it be closed."""
        self.open.discard(self)
        self.transport.abort()


async def cut_the_slow(protocol: type[GuardedProtocol]) -> Any:
    """Looks at all connections twice a second, for ever."""
    while True:
        await asyncio.sleep(0.5)
        now = time.monotonic()
        for connection in [one for one in protocol.open if one.until < now]:
            connection.cut()
