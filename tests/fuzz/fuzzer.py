"""Inputs that reach lines which none before reached are kept and changed further; what is no refusal is a fault."""

import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import vitrail
from tests.fuzz.parsers import REFUSALS, Parser
from vitrail.core.errors import BadInput

HANG = 2.0  # seconds of processor time for one input
KEPT = 500  # inputs that are changed further
_ROOT = str(Path(vitrail.__file__).parent) + os.sep
_BYTES = (b"\x00" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\xff\xff", b"\x80\x00", b"\xff")
_TEXTS = (
    b"-1", b"0", b"1e400", b"99999999999999999999", b"NaN", b"null", b"true", b"[]", b"{}", b'""', b'"', b",", b"\n",
    b"[" * 2000, b"\xff\xfe", b"\xed\xa0\x80", b'"x"', b"0.5", b"../../etc", b"\x00", b";", b"\\u0000", b"\r\n\r\n",
)  # fmt: skip


class Hang(BaseException):
    """An input took longer than HANG."""


class Found(NamedTuple):
    """What a run found: inputs, how many were read and refused, lines reached of those there are, and faults."""

    inputs: int
    read: int
    refused: int
    reached: int
    lines: int
    slowest: float
    faults: list[tuple[str, bytes]]
    corpus: list[bytes]


def mutated(rng: random.Random, data: bytes, others: list[bytes], text: bool) -> bytes:
    """Cut, changed in a few bytes or numbers, with parts doubled, moved or of another input."""
    made = bytearray(data or b"\0")
    for _ in range(rng.randint(1, 4)):
        if not made:
            break
        a, b = sorted((rng.randrange(len(made)), min(len(made), rng.randrange(len(made)) + 1)))
        match rng.randrange(7):
            case 0:
                made[a] ^= 1 << rng.randrange(8)
            case 1:
                del made[a:]
            case 2 | 3:
                new = rng.choice(_TEXTS if text and rng.random() < 0.8 else _BYTES)
                made[a : a + (len(new) if rng.random() < 0.7 else 0)] = new
            case 4:
                made[b:b] = made[a : min(b, a + 4096)]
            case 5:
                del made[a : min(b, a + 64)]
            case _:
                other = rng.choice(others)
                made[a:b] = other[a:b]
    return bytes(made[: 1 << 20])


class Reached:
    """The lines of some files that were run."""

    def __init__(self, files: tuple[str, ...]):
        self.files = {_ROOT + name for name in files}
        self.lines: set[tuple[str, int]] = set()

    def all(self) -> int:
        """How many lines of code there are in functions."""
        return sum(len(_lines(compile(Path(f).read_text(), f, "exec"), top=True)) for f in self.files)

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        return self._line if frame.f_code.co_filename in self.files else None

    def _line(self, frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            self.lines.add((frame.f_code.co_filename, frame.f_lineno))
        return self._line


def _lines(code: CodeType, top: bool = False) -> set[int]:
    found = set() if top or code.co_name.isupper() else {line for _, _, line in code.co_lines() if line}
    found.discard(code.co_firstlineno)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= _lines(constant)
    return found


@contextmanager
def _limited() -> Iterator[None]:
    """Of processor time: how long it takes by the clock depends on who else is at work."""

    def late(*_: Any) -> None:
        raise Hang

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, HANG)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def outcome(parser: Parser, data: bytes, folder: Path) -> str:
    """`read`, `refused`, or what is a fault."""
    try:
        with _limited():
            parser.parse(data, folder)
        return "read"
    except (BadInput, *REFUSALS) as problem:
        return "refused" if str(problem).strip() else "a refusal without a sentence"
    except Hang:
        return f"longer than {HANG:g} s"
    except Exception as problem:
        return f"{type(problem).__name__}: {str(problem)[:200]}"


def fuzz(parser: Parser, folder: Path, seed: int, *, inputs: int | None = None, seconds: float = 1e9) -> Found:
    """So many inputs, or so long. The input at work lies in `folder/input`, should the process die of it."""
    rng, seeds = random.Random(seed), parser.seeds(folder)
    corpus, reached, faults, counts = list(seeds), Reached(parser.files), dict[str, bytes](), {"read": 0, "refused": 0}
    start, done, slowest = time.monotonic(), 0, 0.0
    waiting = list(seeds)
    while (inputs is None or done < inputs) and time.monotonic() - start < seconds:
        data = waiting.pop() if waiting else mutated(rng, rng.choice(corpus), corpus, parser.text)
        (folder / "input").write_bytes(data)
        before, begun = len(reached.lines), time.process_time()
        sys.settrace(reached)
        try:
            what = outcome(parser, data, folder)
        finally:
            sys.settrace(None)
        slowest = max(slowest, time.process_time() - begun)
        done += 1
        if what in counts:
            counts[what] += 1
        else:
            faults.setdefault(what.split(":")[0] + what[-80:], data)
        if len(reached.lines) > before and data not in seeds:
            corpus.append(data)
            del corpus[len(seeds) : max(len(seeds), len(corpus) - KEPT)]
    return Found(
        done,
        counts["read"],
        counts["refused"],
        len(reached.lines),
        reached.all(),
        slowest,
        list(faults.items()),
        corpus,
    )
