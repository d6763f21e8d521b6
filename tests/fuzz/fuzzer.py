"""Inputs that reach lines which none before reached are kept and changed further; what is no refusal is a fault."""

import os
import random
import resource
import signal
import sys
import time
from collections.abc import Iterator, Sequence
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
    seconds: float  # of the processor
    slowest: float
    memory: float  # MiB, at the most, above what the good inputs had needed
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


class Session:
    """Inputs for one parser and what became of them, whoever makes them up.

    The good inputs come before anything is measured: what they import and keep is nobody's fault. The input at work
    lies in `folder/input`, should the process die of it.
    """

    def __init__(self, parser: Parser, folder: Path):
        self.parser, self.folder = parser, folder
        self.seeds = parser.seeds(folder)
        self.reached, self.faults = Reached(parser.files), dict[str, bytes]()
        self.done, self.counts, self.slowest = 0, {"read": 0, "refused": 0}, 0.0
        for seed in self.seeds:
            outcome(parser, seed, folder)
        self._least, self._most, self._begun = _peak_memory(forget=True), 0.0, time.process_time()

    def attempt(self, data: bytes) -> bool:
        """Parses an input; whether it has reached a line that none before has reached."""
        (self.folder / "input").write_bytes(data)
        before, begun = len(self.reached.lines), time.process_time()
        sys.settrace(self.reached)
        try:
            what = outcome(self.parser, data, self.folder)
        finally:
            sys.settrace(None)
        self.slowest = max(self.slowest, time.process_time() - begun)
        self.done += 1
        if what in self.counts:
            self.counts[what] += 1
        else:
            self.faults.setdefault(what.split(":")[0] + what[-80:], data)
        peak = _peak_memory()
        self._most = max(self._most, peak - self._least)
        if self._most > self.parser.memory:  # the first input that needs it is named, and those after it are not
            self.faults.setdefault(f"more than {self.parser.memory} MiB of memory", data)
        return len(self.reached.lines) > before

    def found(self, corpus: list[bytes]) -> Found:
        """All so far."""
        return Found(
            self.done,
            self.counts["read"],
            self.counts["refused"],
            len(self.reached.lines),
            self.reached.all(),
            time.process_time() - self._begun,
            self.slowest,
            self._most,
            list(self.faults.items()),
            corpus,
        )


def _peak_memory(forget: bool = False) -> float:
    """MiB, the most that this process has had since it was told to forget; where nobody can, since its start."""
    try:
        if forget:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except OSError:  # no Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << (20 if sys.platform == "darwin" else 10))


def fuzz(
    parser: Parser,
    folder: Path,
    seed: int,
    *,
    inputs: int | None = None,
    seconds: float = 1e9,
    known: Sequence[bytes] = (),
) -> Found:
    """So many inputs, or so long, from the good inputs and those that are known to reach further."""
    rng, session = random.Random(seed), Session(parser, folder)
    start, first = time.monotonic(), [*session.seeds, *known]
    corpus, waiting = list(first), list(first)
    while (inputs is None or session.done < inputs) and time.monotonic() - start < seconds:
        data = waiting.pop() if waiting else mutated(rng, rng.choice(corpus), corpus, parser.text)
        if session.attempt(data) and data not in first:
            corpus.append(data)
            del corpus[len(first) : max(len(first), len(corpus) - KEPT)]
    return session.found(corpus)
