"""Errors for a person whose input does not work: one sentence, and the nearest thing that would."""

import signal
from collections.abc import Iterable
from difflib import get_close_matches


class BadInput(ValueError):
    """The input of a person cannot be used; the message says what was wrong and what would work.

    The command line prints the message alone and exits with code 2.
    """


class Unreachable(BadInput, OSError):
    """An address cannot be used now, as its store does not answer or fails; the same command may work at another time.

    Where input is refused it is as any other; the command line exits with code LATER.
    """


LATER = 75  # EX_TEMPFAIL of sysexits.h


class Interrupted(Exception):
    """A signal stopped a run, after it was saved."""

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


def nearest(name: str, known: Iterable[str]) -> str:
    """A half-sentence for an unknown name: `; did you mean 'cifar10'?`, or the list of what is known."""
    names = list(known)
    matches = get_close_matches(name.lower(), [n.lower() for n in names], n=1, cutoff=0.5)
    if matches:
        original = next(n for n in names if n.lower() == matches[0])
        return f"; did you mean {original!r}?"
    shown = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    return f"; known are: {shown}" if names else ""


def unknown(kind: str, name: str, known: Iterable[str]) -> BadInput:
    """The error for a name that is not in a list: `unknown recipe 'cifar'; did you mean 'cifar10'?`."""
    return BadInput(f"unknown {kind} {name!r}{nearest(name, known)}")
