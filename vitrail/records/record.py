"""What every record is: a frozen dataclass whose fields are the keys of a JSON object, in their order on disk.

A comment behind a field says what it means and in which unit; docs/files.md is printed from them. Reading is patient:
unknown keys are ignored, and a key that an older version did not write has a default.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from vitrail.core.config import from_json, to_json
from vitrail.core.errors import BadInput
from vitrail.core.files import read_json, write_json

T = TypeVar("T", bound="Record")
Files = Mapping[str, "type[Record] | tuple[type[Record], ...] | str"]  # name of a file -> what it holds


@dataclass(frozen=True)
class Record:
    """The base of all records. Lists become tuples, so that what was read equals what was written."""

    IGNORES_UNKNOWN_KEYS: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, list):
                object.__setattr__(self, name, _frozen(value))


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


@dataclass(frozen=True)
class Problem:
    """Why a file could not be read as a record."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return self.reason


def optional() -> Any:
    """The default of a field whose key is written only where there is something to write."""
    return field(default=None, metadata={"optional": True})


def as_json(record: Any) -> Any:
    """A record as plain JSON values: a field `from_` is the key "from", an `optional` one that is None is left out."""
    if isinstance(record, Record):
        values = [(f, getattr(record, f.name)) for f in fields(record)]
        written = [(f.name, value) for f, value in values if value is not None or not f.metadata.get("optional")]
        return {name.removesuffix("_"): as_json(value) for name, value in written}
    if isinstance(record, Mapping):
        return {key: as_json(value) for key, value in record.items()}
    if isinstance(record, list | tuple):
        return [as_json(value) for value in record]
    return to_json(record)


def write_record(path: Path, record: Record) -> None:
    """Writes a record as JSON, whole or not at all."""
    write_json(path, as_json(record))


def parse_record(kind: type[T], content: Any, where: object = "record") -> T:
    """A record from the values of its JSON.

    Raises:
        BadInput: a key is missing that every version wrote, or has a value of another type; `where` is in the message.
    """
    record: T = from_json(kind, content, str(where))
    return record


def load_record(kind: type[T], path: Path) -> T:
    """Reads a record.

    Raises:
        BadInput: no such file, no JSON, or not the record.
    """
    return parse_record(kind, read_json(path), path)


def read(kind: type[T], path: Path) -> T | Problem:
    """Reads a record with patience: a file that is absent or damaged is a Problem, not an exception."""
    try:
        return load_record(kind, path)
    except (BadInput, OSError) as problem:
        return Problem(path, str(problem))
