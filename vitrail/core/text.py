"""Plain text: tables and spaces for terminals, lists within a sentence."""

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]], align: str = "<") -> list[str]:
    """A line a row, in aligned columns two spaces apart.

    `align`: "<" (left) or ">" (right) of each column; the last letter is that of all further ones.
    """
    columns = max(map(len, rows), default=0)
    align = align.ljust(columns, align[-1])
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(columns)]
    lines = ("  ".join(f"{cell:{align[i]}{widths[i]}}" for i, cell in enumerate(row)) for row in rows)
    return [ordinary_spaces(line.rstrip()) for line in lines]


def listed(names: Sequence[str], last: str = " and ") -> str:
    """["a", "b", "c"] -> "a, b and c"."""
    return last.join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def ordinary_spaces(text: str) -> str:
    """The text without the unbreakable spaces that core.numbers puts before units, for pages."""
    return text.replace("\u00a0", " ")
