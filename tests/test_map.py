"""The map of the house in docs/architecture.md is printed from the first lines of its files.

`python -m tests.test_map` writes it anew.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/architecture.md"
BEGIN, END = "<!-- map -->\n```\n", "```\n<!-- end of map -->\n"


def first_line(file: Path) -> str:
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    line = " ".join(text.split("\n\n")[0].split())
    return line.removesuffix(".")


def rows(folder: Path, depth: int = 0) -> list[str]:
    """A line a file and a folder, files first."""
    pad = "  " * depth
    lines = [f"{pad}{folder.name + '/':<{26 - 2 * depth}} {first_line(folder / '__init__.py')}".rstrip()]
    for file in sorted(folder.glob("*.py")):
        if file.name != "__init__.py":
            lines.append(f"{pad}  {file.name:<{24 - 2 * depth}} {first_line(file)}".rstrip())
    for inner in sorted(p.parent for p in folder.glob("*/__init__.py")):
        lines += rows(inner, depth + 1)
    return lines


def printed() -> str:
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    return before + BEGIN + "\n".join(rows(ROOT / "vitrail")) + "\n" + END + rest.split(END)[1]


def test_the_map_is_that_of_the_house() -> None:
    assert PAGE.read_text(encoding="utf-8") == printed(), "run `python -m tests.test_map`"


def test_every_file_says_what_it_is_in_a_sentence() -> None:
    files = [f for f in (ROOT / "vitrail").rglob("*.py") if f.name != "__main__.py"]
    assert len(files) > 200
    assert not [file for file in files if not first_line(file)]


if __name__ == "__main__":
    PAGE.write_text(printed(), encoding="utf-8")
