"""What a recipe says of itself: its docstring is a sentence, a source, what it is expected to reach, and its command.

What it is, in a sentence.

Source: the paper's table, or where else the settings come from.
Expected: the accuracy, of what, at which step or epoch.
Command: vitrail pretrain NAME --out runs/name
"""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class About:
    """The parts of a recipe's docstring, each without line breaks; empty where one is missing."""

    what: str
    source: str
    expected: str
    command: str

    def docstring(self) -> str:
        """For recipes that are made from a table instead of written one by one."""
        return f"{self.what}\n\nSource: {self.source}\nExpected: {self.expected}\nCommand: {self.command}"


def about(recipe: Callable[[], Any]) -> About:
    """Reads a recipe's docstring."""
    parts = re.split(r"^(Source|Expected|Command): ", inspect.cleandoc(recipe.__doc__ or ""), flags=re.MULTILINE)
    named = dict(zip(parts[1::2], parts[2::2], strict=True))
    said = {name: " ".join(text.split()) for name, text in named.items()}
    what = " ".join(parts[0].split())
    return About(what, said.get("Source", ""), said.get("Expected", ""), said.get("Command", ""))
