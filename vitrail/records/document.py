"""docs/files.md, printed from the records: `python -m vitrail.records.document > docs/files.md`."""

import ast
import inspect
import json
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from importlib import import_module
from types import ModuleType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from vitrail.records.record import Files, Record

ORDER = (
    "run", "bundle", "finetune", "evaluation", "comparison", "predictions", "linear", "features", "suite", "study",
    "inspection", "reference_run", "data_check", "duplicates", "filtered", "prepared", "demo",
)  # fmt: skip
START = """# What lies in the folders that vitrail writes

Training writes numbers, reports read them; this page is the contract between the two. It is printed from `vitrail/records/`
(`python -m vitrail.records.document > docs/files.md`). Everything is JSON (UTF-8), JSON lines, `.npz` without pickle, parquet,
Arrow, or safetensors. Every file is written to a temporary name, synced, and renamed; only `metrics.jsonl` is appended to.
Accuracies are shares from 0 to 1, times are seconds, intervals are 95 % `[low, high]`; a number that could not be measured is
`null`. DATA and MODEL are as on the command line. A key marked "optional" is written only where it says something; readers
ignore keys that they do not know. In Python `vitrail.read_run(folder)` reads a run.
"""
END = """## Indices and caches

`FILE.tar.index`, beside a tar file (or in the cache folder): an Arrow IPC file, a row for each image: `key` (the member's
name), `offset` and `size` (int64, bytes in the tar), `label` (text or null); the schema's metadata has `vitrail`: `{"format": 1,
"bytes", "mtime_ns"` (of the tar: another one makes the index anew)`, "refused": [{reason: count}, {reason: [names]}]}`.

The cache folder (`VITRAIL_CACHE`, else `~/.cache/vitrail`) holds `folders/` (listings), `tars/` (indices), `features/`, `objects/` (copies
of remote files) and `data/` (named sets, without `VITRAIL_DATA`). All of it can be removed at any time.
"""
PLAIN = {str: "text", int: "integer", float: "number", bool: "true or false", Any: "any", type(None): "null"}


def document() -> str:
    """The text of docs/files.md."""
    modules = [import_module(f"vitrail.records.{name}") for name in ORDER]
    return "\n".join([START, *(_chapter(module) for module in modules), END])


def _chapter(module: ModuleType) -> str:
    title, _, rest = _text(module).partition("\n\n")
    title, _, more = title.partition(". ")
    files: Files = module.FILES
    lines = [_heading(module), "", *(f"{text}\n" for text in (more, rest) if text), "| file | content |", "|---|---|"]
    lines += [f"| `{name}` | {_content(content)} |" for name, content in files.items()]
    known: dict[type, str] = {}
    for name, content in files.items():
        for kind in content if isinstance(content, tuple) else (content,):
            if isinstance(kind, type):
                lines += ["", f"**`{name}`** (`{kind.__name__}`)", "", "| key | value | meaning |", "|---|---|---|"]
                lines += [f"| `{key}` | {value} | {meaning} |" for key, value, meaning in _rows(kind, "", known)]
    return "\n".join([*lines, ""])


def _text(documented: object) -> str:
    return inspect.cleandoc(getattr(documented, "__doc__", None) or "")


def _heading(module: ModuleType) -> str:
    return f"## {_text(module).partition('. ')[0].splitlines()[0].rstrip('.')}"


def _content(content: type[Record] | tuple[type[Record], ...] | str) -> str:
    if isinstance(content, str):
        return content.replace("|", "\\|")
    kinds = content if isinstance(content, tuple) else (content,)
    return " ".join(_text(kind).replace("\n", " ") for kind in kinds)


def _rows(kind: type, path: str, known: dict[type, str]) -> Iterator[tuple[str, str, str]]:
    """Key, type and meaning of every field, those of nested records below them; the second time only where they are."""
    hints = get_type_hints(kind)
    for name, meaning in comments(kind).items():
        left_out = kind.__dataclass_fields__[name].metadata.get("optional")
        key, value = path + name.removesuffix("_"), _value(hints[name])
        value = f"optional: {value.removesuffix(' or null')}" if left_out else value
        inner, steps = _nested(hints[name])
        if inner is None:
            yield key, value, meaning
            continue
        meaning = meaning or _text(inner).replace("\n", " ")
        if inner in known:
            yield key, value, f"{meaning}; keys as of `{known[inner]}`".removeprefix("; ")
        else:
            yield key, value, meaning
            if inner.__module__ != "vitrail.records.images":
                known[inner] = key + steps
            yield from _rows(inner, f"{key}{steps}.", known)


def _nested(hint: Any, steps: str = "") -> tuple[type | None, str]:
    """The record within a type, and how its keys are reached from there: `[]` in a list, `.*` in an object."""
    origin, inner = get_origin(hint), get_args(hint)
    if is_dataclass(hint) and isinstance(hint, type):
        return hint, steps
    if origin in (Union, types.UnionType) or origin is Sequence:
        more = "[]" if origin is Sequence else ""
        found = [_nested(option, steps + more) for option in inner]
        return next((pair for pair in found if pair[0] is not None), (None, ""))
    return _nested(inner[1], f"{steps}.*") if origin is Mapping else (None, "")


def comments(kind: type) -> dict[str, str]:
    """The comment behind each field of a dataclass, those of the class that it extends first; empty where none is."""
    found: dict[str, str] = {}
    for part in reversed(kind.__mro__):
        if is_dataclass(part) and part is not Record:
            source = inspect.getsource(part)
            (node,) = ast.parse(source).body
            lines = source.splitlines()
            for field in [f for f in getattr(node, "body", []) if isinstance(f, ast.AnnAssign)]:
                behind = lines[(field.end_lineno or 1) - 1].encode()[field.end_col_offset or 0 :].decode()
                found[ast.unparse(field.target)] = behind.strip().removeprefix("#").strip()
    return found


def _value(hint: Any) -> str:
    """A type as JSON has it, for people."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_value(option) for option in inner))
    if origin is Literal:
        return " or ".join(f"`{json.dumps(option)}`" for option in inner)
    if origin is Mapping:
        return "object" if inner[1] is Any else f"object of {_several(inner[1])}"
    if origin is Sequence or (origin is tuple and inner[-1] is Ellipsis):
        return f"list of {_several(inner[0])}"
    if origin is tuple:
        return "[low, high]" if inner == (float, float) else f"[{', '.join(_value(item) for item in inner)}]"
    return PLAIN.get(hint, "object")


def _several(hint: Any) -> str:
    value = _value(hint)
    return f"{value}s" if value in ("text", "integer", "number", "object") else value


if __name__ == "__main__":
    print(document(), end="")
