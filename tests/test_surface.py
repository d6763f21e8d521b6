"""The frozen surface: commands, options, public names and keys of --json, as tests/surface.txt holds them.

To change it on purpose: `python -m tests.test_surface`, and a line in CHANGELOG.md.
"""

import contextlib
import io
import json
import re
from collections.abc import Iterator
from difflib import unified_diff
from pathlib import Path
from typing import Any

import vitrail
from vitrail.cli import COMMANDS, main
from vitrail.commands.data import COMMANDS as DATA_COMMANDS

FILE = Path(__file__).parent / "surface.txt"
HELP = [[name] for name in COMMANDS if name not in ("pretrain", "finetune", "data")]
HELP += [["pretrain", "digits"], ["finetune", "digits"], *(["data", name] for name in DATA_COMMANDS)]
CHEAP = (
    ["models", "Ti/16"],
    ["recipes", "pretrain", "digits"],
    ["study", "--list"],
    ["study", "--paper", "table1"],
    ["suite"],
    ["pretrain", "digits", "--print-config"],
    ["finetune", "digits", "--print-config"],
)


def printed(*words: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main(list(words))
    return out.getvalue()


def options(words: list[str]) -> Iterator[str]:
    """What --help-all lists: options with the values they take, and the alternatives with their own."""
    for line in printed(*words, "--help-all").splitlines():
        if match := re.match(r"  (--\S+(?: \S+)?|[A-Z]+)", line):
            alternative = re.fullmatch(r"  (--[a-z.-]+ [a-z0-9-]+)((?:  | --).*)?", line)
            yield (line if "  --" in line[2:] and alternative else match[1]).strip()


def keys(value: Any, prefix: str = "") -> Iterator[str]:
    """model.pool.type, tables[].name, ..."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{prefix}{key}"
            yield from keys(inner, f"{prefix}{key}.")
    elif isinstance(value, list) and value:
        yield from keys(value[0], f"{prefix.removesuffix('.')}[].")


def surface() -> str:
    lines = ["commands:", *(f"  {name}" for name in COMMANDS), *(f"  data {name}" for name in DATA_COMMANDS)]
    lines += ["", "names of vitrail:", *(f"  {name}" for name in vitrail.__all__)]
    for words in HELP:
        lines += ["", f"options of {' '.join(words)}:", *(f"  {line}" for line in dict.fromkeys(options(words)))]
    for words in CHEAP:
        shown = json.loads(printed(*words, "--json"))
        lines += ["", f"keys of {' '.join(words)} --json:", *(f"  {key}" for key in dict.fromkeys(keys(shown)))]
    return "\n".join(lines) + "\n"


def test_the_surface_is_what_the_file_says() -> None:
    now, then = surface(), FILE.read_text(encoding="utf-8")
    changed = "\n".join(unified_diff(then.splitlines(), now.splitlines(), "surface.txt", "now", lineterm="", n=1))
    assert now == then, (
        f"the public surface has changed:\n{changed}\nIf that is meant: `python -m tests.test_surface` writes "
        "tests/surface.txt, and say it in CHANGELOG.md in the same commit."
    )


def test_a_listed_option_is_one_that_the_parser_reads() -> None:
    import tyro

    from vitrail.commands.listing import listed
    from vitrail.commands.parsing import options as options_of
    from vitrail.commands.training import CommonTraining
    from vitrail.jobs.pretrain import Pretrain
    from vitrail.recipes import pretraining

    kind, default = options_of(Pretrain, default=pretraining("jft-b16"), common=CommonTraining)
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        tyro.cli(kind, default=default, args=["--help"], config=(tyro.conf.AvoidSubcommands,))
    text = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    theirs = {name.replace("no-", "") for name in re.findall(r"(?:^\W*|, )(--[a-z][\w.-]*)", text, re.MULTILINE)}
    from vitrail.core.choices import choices

    by_name = {f"--{path}" for path in choices(default.config)}
    ours = {row.name for row in listed(kind, default)} - by_name
    assert ours == theirs - {"--help"} - by_name


if __name__ == "__main__":
    FILE.write_text(surface(), encoding="utf-8")
