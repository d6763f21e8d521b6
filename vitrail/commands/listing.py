"""The options of a dataclass as rows: name, values, the comment at the field, default."""

import ast
import dataclasses
import inspect
import io
import textwrap
import tokenize
import types
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from vitrail.core.choices import members, name_of
from vitrail.core.config import shown


class Option(NamedTuple):
    """One option; a positional argument has no dashes."""

    name: str  # "--optimizer.lr", "NAME"
    values: str  # what it takes: "N", "adam|sgd"; empty for a flag
    about: str  # the comment at the field
    default: str | None  # None: it must be given


def listed(kind: type, default: Any = None, prefix: str = "") -> list[Option]:
    """The options that tyro makes of a dataclass, in its order; `default`: an instance, where there is one."""
    found: list[Option] = []
    hints = get_type_hints(kind, include_extras=True)
    said = _comments(kind)
    for field in dataclasses.fields(kind):
        hint, marks = _plain(hints[field.name])
        named = next((mark.name for mark in marks if getattr(mark, "name", None) is not None), field.name)
        help_text = next((mark.help for mark in marks if getattr(mark, "help", None)), said.get(field.name, ""))
        value = _default(field) if default is None else getattr(default, field.name)
        path = f"{prefix}{named}".replace("_", "-")
        inner = f"{path}." if named else prefix
        if there := members(hint):
            found.append(Option(f"--{path}", "|".join(there), help_text, name_of(value)))
            found += listed(type(value), value, inner) if dataclasses.is_dataclass(value) else []
        elif dataclasses.is_dataclass(hint):
            known = value if dataclasses.is_dataclass(value) else None
            found += listed(hint, known, inner)  # type: ignore[arg-type]
        else:
            name = field.name.upper() if "Positional" in str(marks) else f"--{path}"
            absent = value is dataclasses.MISSING or "MISSING" in type(value).__name__.upper()
            values = "True|False" if hint is bool and value is None else _values(hint)
            values = values if name.startswith("--") or get_origin(hint) is Literal else ""
            off = f"on; off with --{prefix}no-{named}".replace("_", "-")
            given = off if value is True and hint is bool else _shown(value)
            found.append(Option(name, values, help_text, None if absent else given))
    return found


def _plain(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type without None and what tyro is told of it, and that."""
    marks: tuple[Any, ...] = ()
    if get_origin(hint) is Annotated:
        hint, *rest = get_args(hint)
        marks = tuple(rest)
    if get_origin(hint) in (Union, types.UnionType) and not members(hint):
        kept = [part for part in get_args(hint) if part is not type(None)]
        hint = kept[0] if len(kept) == 1 else hint
    return hint, marks


def _values(hint: Any) -> str:
    origin, args = get_origin(hint), get_args(hint)
    if hint is bool:
        return ""
    if origin is Literal:
        return "|".join(map(str, args))
    if origin in (Union, types.UnionType):
        return "|".join(filter(None, map(_values, args)))
    if origin is tuple:
        inner = [_values(arg) for arg in args if arg is not Ellipsis]
        return f"{inner[0]} ..." if Ellipsis in args else " ".join(inner)
    return {int: "N", float: "X", str: "TEXT", Path: "PATH"}.get(hint, "VALUE")


def _default(field: Any) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _shown(value: Any) -> str:
    if value is None or value is False or value in ((), ""):
        return ""
    return " ".join(map(str, value)) if isinstance(value, tuple) else shown(str(value))


@cache
def _comments(kind: type) -> dict[str, str]:
    """The comment of each field: beside it, or else in the lines above it."""
    said: dict[str, str] = {}
    for owner in reversed(kind.__mro__[:-1]):
        try:
            source = textwrap.dedent(inspect.getsource(owner))
        except (OSError, TypeError):  # made by make_dataclass
            continue
        comments = {
            token.start[0]: token.string.lstrip("# ")
            for token in tokenize.generate_tokens(io.StringIO(source).readline)
            if token.type == tokenize.COMMENT
        }
        lines = source.splitlines()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                beside = [comments[n] for n in range(node.lineno, (node.end_lineno or 0) + 1) if n in comments]
                above = node.lineno - 1
                while not beside and above in comments and lines[above - 1].lstrip().startswith("#"):
                    above -= 1
                text = " ".join(beside or [comments[n] for n in range(above + 1, node.lineno)])
                said[node.target.id] = text or said.get(node.target.id, "")
    return said
