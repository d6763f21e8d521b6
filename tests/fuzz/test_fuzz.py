"""A short run of hostile bytes through each parser; python -m tests.fuzz goes on for hours. The fuzzer finds faults."""

import random
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.pictures import encoded, photograph
from tests.fuzz import kept
from tests.fuzz.by_atheris import fuzz_by_atheris
from tests.fuzz.fuzzer import Reached, Session, fuzz, mutated, outcome
from tests.fuzz.parsers import PARSERS, Parser
from vitrail.core.errors import BadInput
from vitrail.data.decode.image import decode
from vitrail.data.decode.jpeg_header import read_head, some_rows

INPUTS = {"bundle": 25, "transformers": 25, "names": 25, "trained-with": 25}  # where one takes long, and 100 of others


@pytest.mark.parametrize("name", PARSERS)
def test_hostile_bytes_are_read_or_refused(name: str, tmp_path: Path) -> None:
    found = fuzz(PARSERS[name], tmp_path, seed=1, inputs=INPUTS.get(name, 100), known=kept.known(name))
    assert not found.faults, [what for what, _ in found.faults]
    assert found.read >= 1, "the good inputs"
    assert found.reached


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(8, 90), st.integers(8, 90)),
    rows=st.tuples(st.integers(0, 89), st.integers(1, 90)),
    restart=st.integers(0, 3),
    subsampling=st.integers(0, 2),
    quality=st.integers(20, 95),
)
def test_rows_that_are_cut_are_those_of_the_whole_file(
    size: tuple[int, int], rows: tuple[int, int], restart: int, subsampling: int, quality: int
) -> None:
    """But the outermost ones, into which colours of their neighbours come."""
    data = encoded(photograph(*size), "JPEG", quality=quality, subsampling=subsampling, restart_marker_rows=restart)
    head = read_head(data)
    assert head is not None
    top = min(rows[0], size[0] - 1)
    bottom = min(size[0], top + rows[1])
    cut = some_rows(data, head, top, bottom)
    assert cut.first <= top
    assert cut.first + cut.height >= bottom
    whole, part = decode(data), decode(cut.data)
    inner = range(top + 2, bottom - 2)
    assert all((whole[row] == part[row - cut.first]).all() for row in inner)


def refuses(data: bytes, _: Path) -> None:
    if data[:1] == b"x":
        raise ValueError("a hole")
    if data[:1] == b"y":
        raise BadInput("")
    if data[:1] == b"z":
        end = time.process_time() + 9
        while time.process_time() < end:
            pass
    raise BadInput("no")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"a", "refused"),
        (b"x", "ValueError: a hole"),
        (b"y", "a refusal without a sentence"),
        (b"z", "longer than 2 s"),
    ],
)
def test_what_is_a_fault(data: bytes, what: str, tmp_path: Path) -> None:
    assert outcome(Parser(lambda _: [], refuses, ()), data, tmp_path) == what


def test_inputs_that_reach_further_are_kept(tmp_path: Path) -> None:
    found = fuzz(PARSERS["jpeg"], tmp_path, seed=2, inputs=60)
    assert len(found.corpus) > len(PARSERS["jpeg"].seeds(tmp_path))
    assert 0 < found.reached <= found.lines
    assert Reached(PARSERS["jpeg"].files).all() == found.lines


def grows(data: bytes, _: Path) -> None:
    if data[:1] == b"m":
        assert bytearray(b"x") * (40 << 20)
    raise BadInput("no")


def test_memory_above_the_bound_is_a_fault(tmp_path: Path) -> None:
    for bound, faults in ((20, ["more than 20 MiB of memory"]), (60, [])):
        session = Session(Parser(lambda _: [b"a"], grows, (), memory=bound), tmp_path)
        for data in (b"a", b"m", b"a"):
            session.attempt(data)
        found = session.found([])
        assert [what for what, _ in found.faults] == faults
        assert 30 < found.memory < 60


def test_what_is_kept_reaches_as_much_and_is_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "FOLDER", tmp_path / "corpus")
    found = fuzz(PARSERS["form"], tmp_path, seed=2, inputs=200)
    assert kept.keep("form", PARSERS["form"], [*found.corpus, b"x" * 9999], tmp_path) >= 1
    small = kept.known("form")
    again = Session(PARSERS["form"], tmp_path)
    for data in [*again.seeds, *small]:
        again.attempt(data)
    assert len(again.reached.lines) == found.reached
    assert max(map(len, small)) <= kept.LARGEST
    kept.keep("form", PARSERS["form"], [], tmp_path)
    assert kept.known("form") == small, "what was kept stays"


def test_the_corpus_of_the_repository_is_small() -> None:
    assert sum(path.stat().st_size for path in kept.FOLDER.rglob("*") if path.is_file()) < 200_000


@pytest.mark.skipif(find_spec("atheris") is None, reason="needs atheris: pip install '.[fuzz]'")
def test_the_same_targets_run_under_atheris(tmp_path: Path) -> None:
    found = fuzz_by_atheris("csv", tmp_path, seed=1, seconds=5)
    assert found.inputs > 10
    assert found.reached > 100
    assert not found.faults


def test_the_same_seed_gives_the_same_bytes() -> None:
    made = [[mutated(random.Random(3), b"some bytes", [b"others"], True) for _ in range(5)] for _ in range(2)]
    assert made[0] == made[1]
