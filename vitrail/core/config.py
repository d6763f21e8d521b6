"""Frozen dataclasses to JSON and back, strictly, and the difference of two of them."""

import dataclasses
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from vitrail.core.errors import BadInput, nearest


def to_json(value: Any) -> Any:
    """A config as plain JSON values. Every dataclass carries its name under "type", so unions can be read back."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": type(value).__name__, **fields}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value


def from_json(kind: Any, value: Any, where: str = "config") -> Any:
    """The inverse of `to_json` for a given dataclass or union of dataclasses.

    Raises:
        BadInput: an unknown or missing key (with the nearest valid name), or a value of the wrong type.
    """
    return _read(kind, value, where)


class Change(NamedTuple):
    """A field in which two configs differ: its path, such as `optimizer.lr`, and both values as JSON."""

    path: str
    old: Any  # ABSENT where the config lacks the field
    new: Any


ABSENT = type("Absent", (), {})()


def changes(old: Any, new: Any, path: str = "", *, whole: bool = False) -> Iterator[Change]:
    """The fields in which two configs, given as JSON, differ. `whole`: a part of another type is one change."""
    if isinstance(old, Mapping) and isinstance(new, Mapping) and not (whole and old.get("type") != new.get("type")):
        for key in dict.fromkeys([*old, *new]):
            inner = f"{path}.{key}" if path else str(key)
            yield from changes(old.get(key, ABSENT), new.get(key, ABSENT), inner, whole=whole)
    elif old != new:
        yield Change(path, old, new)


def difference(old: Any, new: Any) -> list[str]:
    """Lists the changes from one config to another, one line each: `optimizer.lr: 0.001 → 0.003`; None where absent."""
    found = [(path, *(None if v is ABSENT else v for v in pair)) for path, *pair in changes(to_json(old), to_json(new))]
    return [f"{path}: {before!r} → {after!r}" for path, before, after in found if before != after]


@lru_cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _read(kind: Any, value: Any, where: str) -> Any:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _read_union(get_args(kind), value, where)
    if origin is Literal:
        if value not in get_args(kind):
            options = [str(a) for a in get_args(kind)]
            raise BadInput(f"{where} is {value!r}{nearest(str(value), options)}")
        return value
    if origin is tuple:
        return _read_tuple(get_args(kind), value, where)
    if origin is Sequence:
        return _read_tuple((*get_args(kind), ...), value, where)
    if origin is Mapping and isinstance(value, Mapping):
        return {key: _read(get_args(kind)[1], item, f"{where}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(typing.cast(type, kind), value, where)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is Any or (isinstance(value, kind) and not (kind is int and isinstance(value, bool))):
        return value
    raise BadInput(f"{where} is {value!r}, expected {getattr(kind, '__name__', kind)}")


def _read_union(options: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in options:
        return None
    options = tuple(o for o in options if o is not type(None))
    classes: dict[str, Any] = {o.__name__: o for o in options if isinstance(o, type) and dataclasses.is_dataclass(o)}
    if classes and isinstance(value, Mapping):
        name = value.get("type")
        if name is None and len(classes) == 1:
            return _read(next(iter(classes.values())), value, where)
        if not isinstance(name, str) or name not in classes:
            raise BadInput(f"{where}.type is {name!r}{nearest(str(name), classes)}")
        return _read(classes[name], value, where)
    problems = []
    for option in options:
        try:
            return _read(option, value, where)
        except BadInput as problem:
            problems.append(str(problem))
    raise BadInput(problems[0])


def _read_tuple(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise BadInput(f"{where} is {value!r}, expected a list")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(_read(kinds[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if len(value) != len(kinds):
        raise BadInput(f"{where} has {len(value)} values, expected {len(kinds)}")
    return tuple(_read(k, item, f"{where}[{i}]") for i, (k, item) in enumerate(zip(kinds, value, strict=True)))


def _read_dataclass(kind: type, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise BadInput(f"{where} is {value!r}, expected an object with the fields of {kind.__name__}")
    named = value.get("type", kind.__name__)
    if named != kind.__name__:
        raise BadInput(f"{where}.type is {named!r}, expected {kind.__name__!r}")
    fields = {f.name.removesuffix("_"): f for f in dataclasses.fields(kind)}  # `from_` is the key "from"
    for key in value:
        if key not in fields and key != "type" and not getattr(kind, "IGNORES_UNKNOWN_KEYS", False):
            raise BadInput(f"{where} has an unknown key {key!r}{nearest(key, fields)}")
    given = {f.name: _read(_hints(kind)[f.name], value[k], f"{where}.{k}") for k, f in fields.items() if k in value}
    for key, field in fields.items():
        has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if key not in value and not has_default:
            raise BadInput(f"{where} lacks the key {key!r}")
    return kind(**given)


# By type, options that came after version 0.1.0, and the value by which all is as it was before.
_TRAINING = {"keep": "last", "patience": None, "fixed_parts": None}
LATER: dict[str, dict[str, Any]] = {
    "Pretrain": {**_TRAINING, "objective": {"type": "Labels"}, "init": None},
    "EarlyStopping": {"fixed_parts": None, "objective": {"type": "Labels"}, "init": None},
    "Finetune": _TRAINING,
    "SquareResize": {"share": 1.0},
    "ViTConfig": {"mimetic": False, "channels": 3, "axial": False},
    "ResNetConfig": {"axial_heads": 0},
}


def without_later(value: Any) -> Any:
    """A config as JSON, as version 0.1.0 wrote it where it means the same: for digests, names and comparisons."""
    if isinstance(value, Mapping):
        later = LATER.get(value.get("type", ""), {})
        kept = {key: without_later(inner) for key, inner in value.items()}
        return {key: inner for key, inner in kept.items() if key not in later or inner != later[key]}
    return [without_later(inner) for inner in value] if isinstance(value, list) else value


# None of these changes what a run is expected to reach: a resident set draws other views, like another seed.
ASIDE = ("seed", "log_every", "evaluate_every", "save_every", "micro_batch", "fixed_parts", "resident", "init")
DATA = ("train", "validation", "test")


def departures(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """The options by which the second job config (as JSON) is another experiment: `optimizer.lr: 0.001 → 0.003`.

    Data named by a path are compared by their part after the @ alone. A key that only one of the configs has (it was
    written by another version) counts where its value is not "off": None, False, zero, empty.
    """
    return [
        f"{path}: {shown(old)} → {shown(new)}"
        for path, old, new in changes(without_later(first), without_later(second))
        if path.partition(".")[0] not in ASIDE
        and not (ABSENT in (old, new) and _off(new if old is ABSENT else old))
        and not (path in DATA and isinstance(old, str) and isinstance(new, str) and _same_data(old, new))
    ]


def _off(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_off(inner) for key, inner in value.items() if key != "type")
    return not value


def shown(value: Any) -> str:
    """A value of a config for people: an object by its type, a text as it is."""
    if value is ABSENT:
        return "absent"
    if isinstance(value, Mapping):
        given = [f"{key}={shown(inner)}" for key, inner in value.items() if key != "type"]
        return f"{value.get('type', '')}({', '.join(given)})"
    if isinstance(value, list | tuple):
        return "(" + ", ".join(map(shown, value)) + ")"
    return value if isinstance(value, str) and value else repr(value)


def _same_data(first: str, second: str) -> bool:
    (place, part), (other, other_part) = (_cut(name) for name in (first, second))
    return part == other_part and (place == other or _is_path(place) or _is_path(other))


def _cut(name: str) -> tuple[str, str]:
    place, _, part = name.rpartition("@") if "@" in name else (name, "", "")
    return place, part


def _is_path(place: str) -> bool:
    """An empty name is what a recipe holds whose data the user gives."""
    return not place or len(PurePath(place).parts) > 1 or bool(re.search(r"^[.~]|\.\w+$", place))
