"""SIGINT and SIGTERM are noted, and work stops where it is safe to."""

import signal
import time
from types import FrameType, TracebackType

from vitrail.core.errors import Interrupted


class SignalWatch:
    """Remembers SIGINT and SIGTERM until what was begun is saved; a second Ctrl-C, seconds later, stops at once.

    Launchers and batch systems send the same signal to a process twice, by themselves and by its group.
    """

    patience = 2.0  # seconds in which a signal is still the same one

    def __init__(self) -> None:
        self.received: int | None = None
        self._first = 0.0
        self._old: dict[int, object] = {}

    def __enter__(self) -> "SignalWatch":
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._old[number] = signal.signal(number, self._note)
            except ValueError:  # not the main thread: whoever runs us decides about signals
                break
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def check(self) -> None:
        """Raises Interrupted where a signal came."""
        if self.received is not None:
            raise Interrupted(self.received)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.received is None:
            self.received, self._first = number, time.monotonic()
        elif number == signal.SIGINT and time.monotonic() - self._first > self.patience:
            raise KeyboardInterrupt
