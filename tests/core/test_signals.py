"""A signal is noted, and raised where somebody looks; the same one twice is one; a later Ctrl-C stops at once."""

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


def test_the_same_signal_twice_is_one_and_a_later_ctrl_c_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with SignalWatch() as watch:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert watch.received == signal.SIGTERM
        monkeypatch.setattr(SignalWatch, "patience", 0.0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
