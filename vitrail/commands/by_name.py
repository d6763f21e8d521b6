"""Alternatives of a config by name, taken from the arguments before tyro reads the rest.

tyro has sub-commands for unions (`optimizer:momentum`), which cannot be followed by options of the whole config. Here a
choice is an option (`--optimizer sgd`), and tyro reads the options of the alternative that was chosen.
"""

from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_type_hints

from vitrail.core.choices import choices, choose, kept, members, name_of, part, with_part
from vitrail.core.config import shown
from vitrail.core.errors import BadInput


def with_choices(config: Any, args: list[str]) -> tuple[Any, list[str]]:
    """The config with the alternatives that `args` name (`--optimizer sgd`, `--model S/16`), and the other `args`.

    What an alternative takes over from the one before is said in a line, but for what `args` give themselves.
    """
    kind: Any = type(config)
    known, given, rest, words = _paths(kind), [], [], iter(args)
    options = {arg.split("=", 1)[0].lstrip("-").replace("_", "-") for arg in args}
    for word in words:
        name, equals, value = word.partition("=")
        path = name.removeprefix("--").replace("-", "_")
        if not name.startswith("--") or path not in known:
            rest.append(word)
            continue
        value = value if equals else next(words, "")
        given.append((path, value))
    for path, value in sorted(given, key=lambda pair: pair[0].count(".")):
        config = _chosen(config, path, value, options)
    return config, rest


def _chosen(config: Any, path: str, name: str, options: set[str]) -> Any:
    from vitrail.core.progress import say

    if path not in choices(config):
        owner = path.rpartition(".")[0]
        raise BadInput(f"--{path} is of another kind of {owner} than {name_of(part(config, owner))}")
    old = part(config, path)
    if path == "model" and name not in choices(config)[path]:
        from vitrail.models.variants import variant_like

        return with_part(config, path, variant_like(name, old))
    changed = choose(config, path, name)
    new = part(changed, path)
    if new is not None and type(new) is not type(old):
        taken = {key: value for key, value in kept(old, type(new)).items() if value != getattr(type(new)(), key)}
        said = [f"{k} {shown(v)}" for k, v in taken.items() if f"{path}.{k}".replace("_", "-") not in options]
        if said:
            say(f"{path} {name}, with what it was before: {', '.join(said)}")
    return changed


@cache
def _paths(kind: Any) -> set[str]:
    """Where a config can have alternatives, whichever are chosen."""
    found = set()
    for name, hint in get_type_hints(kind).items():
        inner: list[Any] = [kind for kind in members(hint).values() if kind]
        if inner:
            found.add(name)
        for owner in inner or ([hint] if is_dataclass(hint) else []):
            found |= {f"{name}.{path}" for path in _paths(owner)}
    return found


def alternatives(named: dict[str, dict[str, type | None]]) -> list[str]:
    """A line an alternative: how it is chosen, and its own options."""
    lines = []
    for path, there in named.items():
        for name, kind in there.items():
            own = [f"--{path}.{field.name}" for field in fields(kind)] if kind is not None and path != "model" else []
            lines.append(f"  --{path} {name}  {' '.join(own)}".replace("_", "-").rstrip())
    return lines
