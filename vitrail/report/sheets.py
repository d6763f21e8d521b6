"""Sheets of small maps with their axes: similarity of positions, attention of single heads."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from vitrail.report import axes
from vitrail.report.axes import element, text
from vitrail.report.numbers import Number
from vitrail.report.pictures import GAP, data_uri


def sheet_chart(
    sheet: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    row_name: str,
    column_name: str,
    title: str,
    widest: Number = axes.WIDE,
    tile: Number = 60,
) -> Markup:
    """A sheet of tiles (`pictures.tiled`, RGBA), a label for each row and column of tiles, and the axes' names.

    Tiles are `tile` CSS pixels wide, less where the chart would be wider than `widest`.
    """
    height, width = sheet.shape[:2]
    left = 22 + max((axes.text_width(label, 12) for label in rows), default=0) + 6
    top, below = 2.0, 40.0 if column_name else 22.0
    scale = min(tile * len(columns), widest - left) / width
    across, down = (width + GAP) / len(columns) * scale, (height + GAP) / len(rows) * scale
    right, bottom = left + width * scale, top + height * scale
    parts = [
        element(
            "image",
            href=data_uri(sheet),
            x=float(left),
            y=top,
            width=float(width * scale),
            height=float(height * scale),
            preserveAspectRatio="none",
        )
    ]
    widths = [axes.text_width(label, 12) + 4 for label in columns]
    every = _every(across, max(widths, default=0))
    for i in range(0, len(columns), every):
        parts.append(text(left + (i + 0.5) * across - GAP / 2, bottom + 12, columns[i], "tick", anchor="middle"))
    every = _every(down, 14)
    for i in range(0, len(rows), every):
        parts.append(text(left - 6, top + (i + 0.5) * down - GAP / 2, rows[i], "tick", anchor="end"))
    if column_name:
        parts.append(text((left + right) / 2, bottom + 30, column_name, "name", anchor="middle"))
    aside = f"translate(8 {(top + bottom) / 2:.0f}) rotate(-90)"
    parts.append(element("text", row_name, class_="name", text_anchor="middle", transform=aside))
    return axes.svg(parts, width=right + 2, height=bottom + below, title=title)


def _every(room: Number, needed: Number) -> int:
    """Every how manieth label is written, so that they do not touch."""
    return next(step for step in (1, 2, 5, 10, 20, 50, 1000) if step * room >= needed or step == 1000)
