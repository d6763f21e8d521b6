"""`vitrail study --paper NAME`: the paper's tables as people and programs read them."""

from typing import Any

from vitrail.core.text import table as columns
from vitrail.recipes.paper import NAMES, Cell, PaperTable, paper


def paper_json(name: str) -> dict[str, Any]:
    """A table with its columns, rows and source; for "all" their names and titles."""
    if name == "all":
        return {"tables": [{"name": table.name, "title": table.title, "source": table.source} for table in _all()]}
    table = paper(name)
    return {
        "name": table.name,
        "title": table.title,
        "source": table.source,
        "columns": list(table.columns),
        "rows": [list(row) for row in table.rows],
        "notes": list(table.notes),
    }


def paper_text(name: str) -> str:
    """The same as aligned columns."""
    if name == "all":
        return "\n".join(columns([[table.name, table.title] for table in _all()]))
    table = paper(name)
    rows = [list(table.columns), *([_cell(cell) for cell in row] for row in table.rows)]
    return "\n".join(
        [f"{table.title} ({table.source})", "", *columns(rows, "<>"), *(["", *table.notes] if table.notes else [])]
    )


def _all() -> list[PaperTable]:
    return [paper(name) for name in NAMES]


def _cell(cell: Cell) -> str:
    return "–" if cell is None else str(cell)
