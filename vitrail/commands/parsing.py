"""What a sub-command is, the options that all have, and how they are read: tyro from dataclasses."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

if TYPE_CHECKING:
    from vitrail.core.device import Machine

PROOFS = Path(__file__).parent.parent / "recipes/proofs"  # as recipes.proof says; a report is to start without torch


class Command(NamedTuple):
    """A sub-command: its name, what it does in a line, how it is used, and the function that does it."""

    name: str
    about: str
    usage: str
    run: Callable[[list[str]], int]


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
    """tyro from a dataclass; exits with code 2 and the nearest option for one that it does not know."""
    import tyro

    about = f"{command.about}\n\nFor example:\n  {command.usage}"
    config = (tyro.conf.FlagCreatePairsOff, tyro.conf.AvoidSubcommands)
    return tyro.cli(kind, prog=f"vitrail {command.name}", description=about, args=args, default=default, config=config)


def options(kind: type, *, out: bool | None, default: Any, common: type = Common) -> tuple[Any, Any]:
    """A dataclass of `--out`, the config's own options without a prefix, and the common ones; and its default.

    `out`: True: required, None: optional, False: absent.
    """
    from dataclasses import field, make_dataclass

    import tyro

    flat = tyro.conf.arg(name="")
    fields: list[Any] = []
    if out is not None and out:
        fields.append(("out", Annotated[Path, tyro.conf.arg(help="folder to write")]))
    fields.append(("config", Annotated[kind, flat]))
    if out is None:
        fields.append(("out", Annotated[Path | None, tyro.conf.arg(help="folder to write")], field(default=None)))
    fields.append(("common", Annotated[common, flat], field(default_factory=common)))
    made = make_dataclass("Options", fields, frozen=True)
    if default is None:
        return made, None
    return made, made(**{"config": default, **({"out": tyro.MISSING} if out else {})})


def show(result: dict[str, Any], common: Common, text: str) -> None:
    """The result as JSON, or the text for people."""
    print(json.dumps(result) if common.json else text)


def percent(result: dict[str, Any]) -> str:
    """An accuracy with its interval, for people."""
    low, high = result["interval"]
    return f"{result['accuracy']:.1%} (95 % interval {low:.1%} to {high:.1%})"
