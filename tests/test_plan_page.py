"""The tables of docs/plan.md are what the command prints. `python -m tests.test_plan_page` writes them anew."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from vitrail.cli import main

PAGE = Path(__file__).parent.parent / "docs/plan.md"
BLOCK = re.compile(r"```\n\$ vitrail (.*)\n(?:.*\n)*?```\n")


def printed(command: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main(command.split())
    return f"```\n$ vitrail {command}\n{out.getvalue()}```\n"


def written() -> str:
    return BLOCK.sub(lambda found: printed(found[1]), PAGE.read_text(encoding="utf-8"))


def test_the_page_is_what_the_command_prints() -> None:
    assert PAGE.read_text(encoding="utf-8") == written(), "run `python -m tests.test_plan_page`"


def test_the_page_has_three_models_at_four_sizes() -> None:
    commands = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    for model in ("b16", "l16", "h14"):
        assert any(model in command and "--gpus 1 8 64 1024" in command for command in commands)


def test_the_command_fails_where_nothing_fits(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["plan", "jft-h14", "--gpus", "1", "--memory", "8"])
    assert end.value.code == 1
    assert "does not fit" in capsys.readouterr().out


if __name__ == "__main__":
    PAGE.write_text(written(), encoding="utf-8")
