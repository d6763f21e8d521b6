"""What a sub-command is, the options that all have, and how they are read: tyro from dataclasses."""

import io
import json
import os
import re
import textwrap
from collections.abc import Callable, Collection, Sequence
from contextlib import redirect_stderr
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from vitrail.commands.by_name import alternatives, with_choices
from vitrail.commands.foreign import check_known
from vitrail.commands.listing import Option, listed
from vitrail.commands.values import check_values
from vitrail.core.address import refuse_address
from vitrail.core.choices import choices
from vitrail.core.columns import give_columns, read_columns
from vitrail.core.errors import BadInput

if TYPE_CHECKING:
    from vitrail.core.device import Machine
    from vitrail.core.estimate import Interval

Runtime = Literal["auto", "torch", "onnx", "openvino"]  # as core.device says; a report is to start without torch
PROOFS = Path(__file__).parent.parent / "recipes/proofs"  # as recipes.proof says, for the same reason


class Command(NamedTuple):
    """A sub-command: its name, what it does in a line, how it is used, and the function that does it."""

    name: str
    about: str
    usage: str
    run: Callable[[list[str]], int]
    first: tuple[str, ...] = ()  # the options that most people need, the others are under --help-all; none: all


@dataclass(frozen=True)
class Common:
    """Options that every command has."""

    device: str = "auto"  # auto, cpu, cuda, cuda:N
    workers: int | None = None  # processes that decode images; None: one fewer than there are cores
    data_root: Path | None = None  # folder of the named data sets; otherwise the environment variable VITRAIL_DATA
    columns: tuple[str, ...] = ()  # of tables, where their names do not say it: image=NAME label=NAME split=NAME
    json: bool = False  # one JSON object on standard output, alone

    def machine(self) -> "Machine":
        """Where to run; also tells the named data sets where they lie."""
        from vitrail.core.device import Machine

        self.find_data()
        return Machine(self.device, self.workers)

    def find_data(self) -> None:
        """Tells the named data sets where they lie, and tables which column is which; raises BadInput."""
        if self.columns:
            give_columns(read_columns(self.columns))
        if self.data_root is not None:
            os.environ["VITRAIL_DATA"] = str(self.data_root)


@dataclass(frozen=True)
class CommonInference(Common):
    """The same, of commands that use a model."""

    runtime: Runtime = "auto"  # what computes the model; auto: of many images the fastest that agrees with PyTorch

    def machine(self) -> "Machine":
        """Where to run, and by what."""
        return replace(super().machine(), runtime=self.runtime)


def parse(command: Command, kind: Any, args: list[str], default: Any = None) -> Any:
    """An instance of the dataclass `kind` from `args`; exits after --help and --help-all.

    Raises:
        BadInput: an option that the command does not have, or an alternative that a config does not have.
    """
    config = getattr(default, "config", None)
    if config is not None:
        config, args = with_choices(config, args)
        default = replace(default, config=config)
    rows = _rows_or_help(command, kind, args, default)
    check_known(args, {row.name for row in rows})
    check_values(args, rows, f"vitrail {command.name}")
    return _tyro(kind, f"vitrail {command.name}", args, default)


def parse_known(command: Command, kind: Any, args: list[str]) -> tuple[Any, list[str]]:
    """The same, and the arguments that are none of `kind`."""
    title = f"vitrail {command.name}"
    check_values(args, _rows_or_help(command, kind, args), title)
    found: tuple[Any, list[str]] = _tyro(kind, title, args, return_unknown_args=True)
    return found


def _rows_or_help(command: Command, kind: Any, args: list[str], default: Any = None) -> list[Option]:
    rows, config = listed(kind, default), getattr(default, "config", None)
    if wanted := {"-h", "--help", "--help-all"} & set(args):
        print(_help(command, rows, config, "--help-all" in wanted))
        raise SystemExit(0)
    return rows


def with_options(config: Any, args: list[str], title: str) -> Any:
    """A config with the options `args` put in, alternatives by name included; raises BadInput as `parse` does."""
    config, rest = with_choices(config, args)
    rows = listed(type(config), config)
    check_known(rest, {row.name for row in rows})
    check_values(rest, rows, title)
    return _tyro(type(config), title, rest, config)


def _tyro(kind: Any, title: str, args: list[str], default: Any = None, **more: Any) -> Any:
    """What tyro reads; what it refuses besides `check_known` and `check_values` is a BadInput in its words."""
    import tyro

    said = io.StringIO()
    try:
        with redirect_stderr(said):
            read = tyro.cli(kind, prog=title, args=args, default=default, config=(tyro.conf.AvoidSubcommands,), **more)
    except SystemExit:
        text = said.getvalue().partition("For full helptext")[0]
        words = [
            line.strip("│| ") for line in text.splitlines()[1:] if re.search(r"\w", line)
        ]  # in a box with a heading
        raise BadInput(f"{title}: {' '.join(words)}") from None
    _refuse_addresses(read[0] if more else read)
    return read


def _refuse_addresses(options: Any) -> None:
    """Raises BadInput for a path that was an address: it would be a folder `s3:` here."""
    for field in fields(options) if is_dataclass(options) else ():
        value = getattr(options, field.name)
        positional = field.default is MISSING
        for path in value if isinstance(value, tuple) else (value,):
            if isinstance(path, Path):
                refuse_address(path, field.name.upper() if positional else f"--{field.name.replace('_', '-')}")
        _refuse_addresses(value)


def _help(command: Command, rows: list[Option], config: Any, full: bool) -> str:
    named = choices(config) if config is not None else {}
    options = {f"--{path}".replace("_", "-") for path in named}
    if "model" in named:
        from vitrail.models.variants import list_models

        rows = [
            row._replace(values="NAME", about=f"its sizes: {', '.join(list_models())}", default="as the recipe says")
            if row.name == "--model"
            else row
            for row in rows
        ]
    more = alternatives(named) if full else []
    return _help_text(f"vitrail {command.name}", command, rows, options, more, full)


def _help_text(
    title: str, command: Command, rows: Sequence[Option], choices: Collection[str], more: Sequence[str], full: bool
) -> str:
    """What --help prints, or --help-all where `full`.

    Args:
        choices: the options that choose an alternative by its name.
        more: a line for each alternative, with its own options.
    """
    chosen = [row for name in command.first for row in rows if row.name in (name, f"--{name}")]
    named = [row for row in rows if row.name in choices and row not in chosen]
    rest = [row for row in rows if row not in chosen and row not in named]
    groups = {"The options that most people need": chosen} if chosen else {}
    groups |= {"Alternatives by name, each with options of its own": named} if named else {}
    if full or not chosen:
        groups |= _groups(rest)
    positional = "".join(f" {row.name}" for row in rows if not row.name.startswith("--"))
    lines = [f"usage: {title}{positional} [options]", "", command.about]
    for name, there in groups.items():
        lines += ["", f"{name}:", *_rows(there)]
    if chosen and not full:
        lines += ["", f"{len(rest)} more options: {title} --help-all"]
    return "\n".join(
        [*lines, *(["", "All alternatives:", *more] if more else []), "", "For example:", f"  {command.usage}"]
    )


def _groups(options: Sequence[Option]) -> dict[str, list[Option]]:
    """By what comes before the last dot."""
    groups: dict[str, list[Option]] = {}
    for option in options:
        owner = option.name.removeprefix("--").rpartition(".")[0]
        groups.setdefault(f"Options of {owner}" if owner else "Options", []).append(option)
    return groups


def _rows(options: Sequence[Option]) -> list[str]:
    lines = []
    for option in options:
        head = f"  {option.name} {option.values}".rstrip()
        default = "required" if option.default is None else f"default: {option.default}" if option.default else ""
        text = f"{option.about} ({default})" if option.about and default else option.about or default
        told = textwrap.wrap(text, 84, break_on_hyphens=False, break_long_words=False) or [""]
        start = [f"{head:<33} {told[0]}".rstrip()] if len(head) <= 33 else [head, f"{'':<33} {told[0]}".rstrip()]
        lines += [*start, *(f"{'':<33} {line}" for line in told[1:])]
    return lines


def options(kind: type, *, default: Any, common: type = Common, out: str = "folder to write") -> tuple[Any, Any]:
    """A dataclass of `--out`, the config's own options without a prefix, and the common ones; and its default.

    Args:
        out: what --help says of `--out`; empty where there is none.
    """
    from dataclasses import field, make_dataclass

    import tyro

    flat = tyro.conf.arg(name="")
    made = make_dataclass(
        "Options",
        [
            ("config", Annotated[kind, flat]),
            *([("out", Annotated[Path | None, tyro.conf.arg(help=out)], field(default=None))] if out else []),
            ("common", Annotated[common, flat], field(default_factory=common)),
        ],
        frozen=True,
    )
    return made, None if default is None else made(default)


def show(result: Any, common: Common, text: str, **more: Any) -> None:
    """Prints the result, a record, as JSON with `more` keys, or the text for people."""
    from vitrail.records.record import as_json

    print(json.dumps({**as_json(result), **as_json(more)}) if common.json else text)


def percent(accuracy: float, interval: "Interval | None") -> str:
    """An accuracy with its interval, for people."""
    return f"{accuracy:.1%}" + (f" (95 % interval {interval[0]:.1%} to {interval[1]:.1%})" if interval else "")
