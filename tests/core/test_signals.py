"""A signal is noted, and raised where somebody looks; a second one stops at once."""

import os
import signal

import pytest

from vitrail.core.errors import Interrupted
from vitrail.core.signals import SignalWatch


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_raised_where_somebody_looks(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with SignalWatch() as watch:
        watch.check()
        os.kill(os.getpid(), number)
        with pytest.raises(Interrupted, match=number.name):
            watch.check()
    assert signal.getsignal(number) is before


def test_a_second_signal_stops_at_once() -> None:
    with SignalWatch():
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
