"""Inputs that are kept, as they reach lines which the good ones do not: `corpus/PARSER/DIGEST`, small and few."""

import hashlib
from pathlib import Path

from tests.fuzz.fuzzer import Session
from tests.fuzz.parsers import Parser

FOLDER = Path(__file__).parent / "corpus"
LARGEST = 4096  # bytes of an input that is kept
MOST = 16_000  # bytes of a parser's inputs together


def known(name: str) -> list[bytes]:
    """What is kept for a parser."""
    return [path.read_bytes() for path in sorted((FOLDER / name).glob("*"))]


def keep(name: str, parser: Parser, corpus: list[bytes], scratch: Path) -> int:
    """Keeps of these and of what was kept the smallest that together reach as much; returns how many."""
    session, chosen = Session(parser, scratch), list[bytes]()
    for seed in session.seeds:
        session.attempt(seed)
    for data in sorted({*corpus, *known(name)}, key=lambda one: (len(one), one)):
        small = len(data) <= LARGEST and sum(map(len, chosen)) + len(data) <= MOST
        if small and data not in session.seeds and session.attempt(data):
            chosen.append(data)
    for old in (FOLDER / name).glob("*"):
        old.unlink()
    for data in chosen:
        path = FOLDER / name / hashlib.sha256(data).hexdigest()[:12]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return len(chosen)
