"""The paper's tables as data, and what its figures say where it gives no numbers. Accuracies are in per cent."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from vitrail.core.errors import unknown
from vitrail.core.files import read_json

Cell = str | int | float | None

NAMES = (
    *(f"table{n}" for n in range(1, 10)),
    *("figure4", "figure5", "figure8", "figure9", "figure12"),
)


@dataclass(frozen=True)
class PaperTable:
    """One of the paper's tables. A cell is None where the paper has none."""

    name: str
    title: str
    source: str  # where in the paper
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...]

    def column(self, name: str) -> tuple[Any, ...]:
        """The cells of a column, from top to bottom; raises BadInput for a name that the table lacks."""
        if name not in self.columns:
            raise unknown(f"column of {self.name}", name, self.columns)
        place = self.columns.index(name)
        return tuple(row[place] for row in self.rows)

    def records(self) -> list[dict[str, Any]]:
        """A dict a row."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


@lru_cache
def paper(name: str) -> PaperTable:
    """A table of NAMES; raises BadInput for another name."""
    if name not in NAMES:
        raise unknown("table", name, NAMES)
    found = read_json(Path(__file__).with_name(f"{name}.json"))
    rows = tuple(tuple(row) for row in found["rows"])
    return PaperTable(
        found["name"], found["title"], found["source"], tuple(found["columns"]), rows, tuple(found["notes"])
    )
