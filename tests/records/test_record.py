"""Writing a record, and reading it with patience."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vitrail.core.errors import BadInput
from vitrail.core.estimate import Interval
from vitrail.records.record import Problem, Record, as_json, load_record, optional, parse_record, read, write_record


@dataclass(frozen=True, kw_only=True)
class Inner(Record):
    name: str
    from_: int = 0


@dataclass(frozen=True, kw_only=True)
class Outer(Record):
    count: int
    share: float
    interval: Interval | None = None
    inner: Sequence[Inner] = ()
    by_name: Mapping[str, Inner] | None = optional()
    config: Mapping[str, Any] | None = None


OUTER = Outer(count=3, share=0.5, interval=(0.1, 0.9), inner=(Inner(name="a"), Inner(name="b", from_=2)))
CONTENT = {
    "count": 3,
    "share": 0.5,
    "interval": [0.1, 0.9],
    "inner": [{"name": "a", "from": 0}, {"name": "b", "from": 2}],
    "config": None,
}


def test_as_json() -> None:
    assert as_json(OUTER) == CONTENT
    assert list(as_json(OUTER)) == list(CONTENT)


def test_an_optional_key_is_written_where_it_says_something() -> None:
    record = Outer(count=1, share=0.0, by_name={"x": Inner(name="x")})
    assert as_json(record)["by_name"] == {"x": {"name": "x", "from": 0}}
    assert parse_record(Outer, as_json(record)) == record


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_record(tmp_path / "a.json", OUTER)
    assert json.loads((tmp_path / "a.json").read_text()) == CONTENT
    assert load_record(Outer, tmp_path / "a.json") == OUTER
    assert read(Outer, tmp_path / "a.json") == OUTER


def test_keys_of_other_versions() -> None:
    later = {**CONTENT, "new": 1, "inner": [{"name": "a", "other": True}]}
    assert parse_record(Outer, later).inner == (Inner(name="a"),)
    assert parse_record(Outer, {"count": 3, "share": 1}) == Outer(count=3, share=1.0)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"count": 3}', "lacks the key 'share'"),
        ('{"count": "3", "share": 1}', "count is '3', expected int"),
        ('{"count": 3, "share": 1, "inner": [{}]}', r"inner\[0\] lacks the key 'name'"),
        ('{"count": 3, "share": 1, "inner": "ab"}', "expected a list"),
        ('{"count": 3, "share": 1, "interval": [1]}', "has 1 values, expected 2"),
        ("[1]", "expected an object with the fields of Outer"),
        ('{"count": ', "is not valid JSON"),
    ],
)
def test_what_is_damaged_is_named(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(BadInput, match=said):
        load_record(Outer, path)
    problem = read(Outer, path)
    assert isinstance(problem, Problem)
    assert problem.path == path
    assert str(path) in str(problem)


def test_what_is_absent_is_a_problem(tmp_path: Path) -> None:
    problem = read(Outer, tmp_path / "a.json")
    assert isinstance(problem, Problem)
    assert "does not exist" in str(problem)
