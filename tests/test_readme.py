"""README says what is there: commands, folders, files, and the options that its examples use."""

import ast
import re
from pathlib import Path

import pytest

from vitrail.cli import COMMANDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_command_is_in_the_table() -> None:
    named = set(re.findall(r"`vitrail (\w+)", README))
    assert named == set(COMMANDS)


def test_every_folder_is_in_the_tree() -> None:
    named = set(re.findall(r"^vitrail/(\w+) ", README, re.MULTILINE))
    assert named == {p.name for p in (ROOT / "vitrail").iterdir() if p.is_dir() and p.name != "__pycache__"}


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert link.startswith("https://") or (ROOT / link).exists(), link


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\S+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_no_number_is_left_to_be_filled_in() -> None:
    assert not re.findall(r"(?:DEMO|CIFAR)_[A-Z]+", README)


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.name)
def test_links_of_the_docs_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert link.startswith("https://") or (page.parent / link).exists(), link


def test_the_tour_is_as_short_as_it_says() -> None:
    """At most eight files, and 600 lines of the functions and classes that it names."""
    tour = (ROOT / "docs/tour.md").read_text(encoding="utf-8")
    stops = re.findall(r"\[[^\]]+\]\(\.\./([^)]+)\):\s+((?:`\w+`,?\s*)+)\.", tour)
    assert 5 < len(stops) <= 8
    lines = 0
    for file, names in stops:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        there = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        for name in re.findall(r"\w+", names):
            lines += (there[name].end_lineno or 0) - there[name].lineno + 1
    assert lines <= 600
