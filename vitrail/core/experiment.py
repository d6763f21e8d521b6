"""Whether two configs are the same experiment: where files lie, the seed and how often one looks do not count."""

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

# None of these changes what a run is expected to reach: a resident set draws other views, like another seed.
ASIDE = ("seed", "log_every", "evaluate_every", "save_every", "micro_batch", "resident", "init")
DATA = ("train", "validation", "test")


def departures(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """The options by which the second job config (as JSON) is another experiment: `optimizer.lr: 0.001 → 0.003`.

    Data named by a path are compared by their part after the @ alone. A key that only one of the configs has (it was
    written by another version) counts where its value is not "off": None, False, zero, empty.
    """
    return _departures(_without_aside(first), _without_aside(second), "")


def _without_aside(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in ASIDE}


def _departures(first: Any, second: Any, where: str) -> list[str]:
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        lines = []
        for key in dict.fromkeys([*first, *second]):
            if key in first and key in second:
                lines += _departures(first[key], second[key], f"{where}.{key}" if where else str(key))
            elif not _off(value := first.get(key, second.get(key))):
                absent = f"{shown(value)} → absent" if key in first else f"absent → {shown(value)}"
                lines.append(f"{where}.{key}: {absent}" if where else f"{key}: {absent}")
        return lines
    if where in DATA and isinstance(first, str) and isinstance(second, str) and _same_data(first, second):
        return []
    return [] if first == second else [f"{where}: {shown(first)} → {shown(second)}"]


def _off(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_off(inner) for key, inner in value.items() if key != "type")
    return not value


def shown(value: Any) -> str:
    """A value of a config for people: an object by its type, a text as it is."""
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
