"""docs/files.md, printed from the records: `python -m vitrail.records.document > docs/files.md`."""

import ast
import inspect
import json
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib import import_module
from types import ModuleType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from vitrail.records.record import Files, Record

CHAPTERS = (
    "run", "auto", "bundle", "finetune", "comparison", "evaluation", "multi_label", "predictions", "linear", "features",
    "suite", "study", "speedrun",
    "inspection", "reference_run", "data_check", "duplicates", "filtered", "prepared", "demo",
    "export", "benchmark",
)  # fmt: skip
START = """# What lies in the folders that vitrail writes

Training writes numbers, reports read them; this page is the contract between the two. It is printed from
`vitrail/records/` (`python -m vitrail.records.document > docs/files.md`). Everything is JSON (UTF-8), JSON lines,
`.npz` without pickle, parquet, Arrow, or safetensors. Every file is written to a temporary name, synced, and renamed;
only `metrics.jsonl` is appended to. Accuracies are shares from 0 to 1, times are seconds, intervals are 95 % `[low,
high]`; a number that could not be measured is `null`. DATA and MODEL are as on the command line. An optional key is
written only where it says something; readers ignore keys that they do not know. `rows[].mean` is the key `mean` of
each object in the list `rows`, `values.*.mean` that of each value of the object `values`. `pictures.npz` holds uint8
[H, W, 3] each, at most 128 pixels a side, named by the numbers that `pictures` gives. In Python
`vitrail.read_run(folder)` reads a run.
"""
END = """## Indices and caches

`FILE.tar.index`, beside a tar file (or in the cache folder): an Arrow IPC file, a row for each image: `key` (the
member's name), `offset` and `size` (int64, bytes in the tar), `label` (text or null); the schema's metadata has
`vitrail`: `{"format": 1, "bytes", "mtime_ns"` (of the tar: another one makes the index anew)`, "refused": [{reason:
count}, {reason: [names]}]}`.

The cache folder (`VITRAIL_CACHE`, else `~/.cache/vitrail`) holds `folders/` (listings), `tars/` (indices), `features/`,
`objects/` (copies of remote files), `graphs/` (models converted for other runtimes, the last used of 4 GiB),
`runtimes.json` (which of these was the fastest) and `data/` (named sets, without `VITRAIL_DATA`). All of it can be
removed at any time.
"""
PLAIN = {str: "text", int: "integer", float: "number", bool: "true or false", Any: "any", type(None): "null"}


def document() -> str:
    """The text of docs/files.md."""
    modules = [import_module(f"vitrail.records.{name}") for name in CHAPTERS]
    written: dict[type, str] = {}  # records, and where their keys are to be read
    return "\n".join([START, *(_chapter(module, written) for module in modules), END])


def _chapter(module: ModuleType, written: dict[type, str]) -> str:
    title, _, rest = _text(module).partition("\n\n")
    title, _, more = title.partition(". ")
    files: Files = module.FILES
    lines = [f"## {title.rstrip('.')}", "", *(f"{text}\n" for text in (more, rest) if text)]
    lines += ["| file | content |", "|---|---|"]
    lines += [f"| `{name}` | {_content(content)} |" for name, content in files.items()]
    for name, content in files.items():
        for kind in content if isinstance(content, tuple) else (content,):
            if isinstance(kind, type):
                lines += ["", f"**`{name}`** (`{kind.__name__}`)", "", "| key | value | meaning |", "|---|---|---|"]
                lines += ["| " + " | ".join(row) + " |" for row in _rows(kind, name, "", written)]
                written[kind] = name
    return "\n".join([*lines, ""])


def _text(documented: object) -> str:
    return inspect.cleandoc(getattr(documented, "__doc__", None) or "")


def _content(content: type[Record] | tuple[type[Record], ...] | str) -> str:
    if isinstance(content, str):
        return content
    return " ".join(f"{_sentence(kind)}." for kind in (content if isinstance(content, tuple) else (content,)))


def _sentence(kind: type) -> str:
    return _text(kind).replace("\n", " ").rstrip(".")


def _rows(kind: type, file: str, path: str, written: dict[type, str]) -> Iterator[tuple[str, str, str]]:
    """Key, type and meaning of each field. The keys of a nested record follow, or it is said where they are."""
    hints = get_type_hints(kind)
    if not issubclass(kind, Record):
        yield f"`{path}type`", f'`"{kind.__name__}"`', ""
    optional = {field.name for field in fields(kind) if field.metadata.get("optional")}
    for name, comment in comments(kind).items():
        key, value = f"{path}{name.removesuffix('_')}", _value(hints[name])
        if name in optional:
            value = f"optional: {value.removesuffix(' or null')}"
        nested = list(_nested(hints[name]))
        meaning = comment or " or ".join(_sentence(inner) for inner, _ in nested)
        known = [f"as {written[inner]}" for inner, _ in nested if inner in written]
        yield f"`{key}`", value, "; ".join(part for part in (meaning, *known) if part)
        for inner, steps in nested:
            if inner not in written:
                written[inner] = f"`{key}{steps}` of {file}"
                yield from _rows(inner, file, f"{key}{steps}.", written)


def _nested(hint: Any, steps: str = "") -> Iterator[tuple[type, str]]:
    """The records within a type, and how their keys are reached from there: `[]` in a list, `.*` in an object."""
    origin, inner = get_origin(hint), get_args(hint)
    if is_dataclass(hint) and isinstance(hint, type):
        yield hint, steps
    if origin is Mapping:
        yield from _nested(inner[1], f"{steps}.*")
    if origin in (Union, types.UnionType) or origin is Sequence:
        for option in inner:
            yield from _nested(option, f"{steps}[]" if origin is Sequence else steps)


def comments(kind: type) -> dict[str, str]:
    """The comment behind each field of a dataclass, those of the class that it extends first; empty where none is."""
    behind: dict[str, str] = {}
    for part in reversed(kind.__mro__):
        if is_dataclass(part) and part is not Record:
            source = inspect.getsource(part)
            (node,) = ast.parse(source).body
            for field in [field for field in getattr(node, "body", []) if isinstance(field, ast.AnnAssign)]:
                rest = source.splitlines()[(field.end_lineno or 1) - 1].encode()[field.end_col_offset or 0 :].decode()
                behind[ast.unparse(field.target)] = rest.strip().removeprefix("#").strip()
    return behind


def _value(hint: Any) -> str:
    """A type as JSON has it, for people."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        values = dict.fromkeys(_value(option) for option in inner)
        return " or ".join(value for value in values if value != "integer" or "number" not in values)
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
    return f"{value}s" if value in PLAIN.values() or value == "object" else value


if __name__ == "__main__":
    print(document(), end="")
