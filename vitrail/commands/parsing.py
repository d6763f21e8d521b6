"""What a sub-command is, the options that all have, and how they are read: tyro from dataclasses."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, get_type_hints

from vitrail.commands.foreign import check_known
from vitrail.commands.listing import Option, help_text, listed
from vitrail.core.choices import choices, choose, kept, members, name_of, part, with_part
from vitrail.core.config import shown
from vitrail.core.errors import BadInput

if TYPE_CHECKING:
    from vitrail.core.device import Machine

PROOFS = Path(__file__).parent.parent / "recipes/proofs"  # as recipes.proof says; a report is to start without torch


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
    json: bool = False  # one JSON object on standard output, alone

    def machine(self) -> "Machine":
        """Where to run; also tells the named data sets where they lie."""
        from vitrail.core.device import Machine

        self.find_data()
        return Machine(self.device, self.workers)

    def find_data(self) -> None:
        """Tells the named data sets where they lie."""
        if self.data_root is not None:
            os.environ["VITRAIL_DATA"] = str(self.data_root)


def parse(command: Command, kind: Any, args: list[str], default: Any = None) -> Any:
    """An instance of the dataclass `kind` from `args`; exits after --help and --help-all.

    Raises:
        BadInput: an option that the command does not have, or an alternative that a config does not have.
    """
    config = getattr(default, "config", None)
    if config is not None:
        config, args = with_choices(config, args)
        default = replace(default, config=config)
    rows = listed(kind, default)
    if wanted := {"-h", "--help", "--help-all"} & set(args):
        print(_help(command, rows, config, "--help-all" in wanted))
        raise SystemExit(0)
    check_known(args, {row.name for row in rows})
    return _tyro(kind, f"vitrail {command.name}", args, default)


def with_options(config: Any, args: list[str], title: str) -> Any:
    """A config with the options `args` put in, alternatives by name included; raises BadInput as `parse` does."""
    config, rest = with_choices(config, args)
    check_known(rest, {row.name for row in listed(type(config), config)})
    return _tyro(type(config), title, rest, config)


def _tyro(kind: Any, title: str, args: list[str], default: Any) -> Any:
    import tyro

    return tyro.cli(kind, prog=title, args=args, default=default, config=(tyro.conf.AvoidSubcommands,))


def with_choices(config: Any, args: list[str]) -> tuple[Any, list[str]]:
    """The config with the alternatives that `args` name (`--optimizer sgd`, `--model S/16`), and the other `args`.

    What an alternative takes over from the one before is said in a line, but for what `args` give themselves.
    """
    given, rest, words = [], [], iter(args)
    options = {arg.split("=", 1)[0].lstrip("-").replace("_", "-") for arg in args}
    for word in words:
        name, equals, value = word.partition("=")
        path = name.removeprefix("--").replace("-", "_")
        if not name.startswith("--") or path not in _paths(type(config)):
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
def _paths(kind: type) -> set[str]:
    """Where a config can have alternatives, whichever are chosen."""
    found = set()
    for name, hint in get_type_hints(kind).items():
        inner = list(filter(None, members(hint).values()))
        if inner:
            found.add(name)
        for owner in inner or ([hint] if is_dataclass(hint) else []):
            found |= {f"{name}.{path}" for path in _paths(owner)}  # type: ignore[arg-type]
    return found


def _help(command: Command, rows: list[Option], config: Any, full: bool) -> str:
    named = choices(config) if config is not None else {}
    options = {f"--{path}".replace("_", "-") for path in named}
    alternatives: list[str] = []
    if "model" in named:
        from vitrail.models.variants import NAMES

        rows = [
            row._replace(values="NAME", about=f"its sizes: {', '.join(NAMES)}", default="as the recipe says")
            if row.name == "--model"
            else row
            for row in rows
        ]
    if full:
        alternatives = _alternatives(named)
    return help_text(f"vitrail {command.name}", command, rows, options, alternatives, full)


def _alternatives(named: dict[str, dict[str, type | None]]) -> list[str]:
    """A line an alternative: how it is chosen, and its own options."""
    lines = []
    for path, there in named.items():
        for name, kind in there.items():
            own = [f"--{path}.{field.name}" for field in fields(kind)] if kind is not None and path != "model" else []
            lines.append(f"  --{path} {name}  {' '.join(own)}".replace("_", "-").rstrip())
    return lines


def options(kind: type, *, default: Any, common: type = Common) -> tuple[Any, Any]:
    """A dataclass of `--out`, the config's own options without a prefix, and the common ones; and its default."""
    from dataclasses import field, make_dataclass

    import tyro

    flat = tyro.conf.arg(name="")
    made = make_dataclass(
        "Options",
        [
            ("config", Annotated[kind, flat]),
            ("out", Annotated[Path | None, tyro.conf.arg(help="folder to write")], field(default=None)),
            ("common", Annotated[common, flat], field(default_factory=common)),
        ],
        frozen=True,
    )
    return made, None if default is None else made(default)  # type: ignore[call-arg]


def show(result: dict[str, Any], common: Common, text: str) -> None:
    """The result as JSON, or the text for people."""
    print(json.dumps(result) if common.json else text)


def percent(result: dict[str, Any]) -> str:
    """An accuracy with its interval, for people."""
    low, high = result["interval"]
    return f"{result['accuracy']:.1%} (95 % interval {low:.1%} to {high:.1%})"
